"""Where bfloat16 is faster than float32: on GPUs and CPUs with instructions for it. Elsewhere it would be emulated,
and slow."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

Device = torch.device | str

_is_full: ContextVar[bool] = ContextVar("_is_full", default=False)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within it, `fast_precision` changes nothing: an exported graph is the same whatever machine writes it."""
    token = _is_full.set(True)
    try:
        yield
    finally:
        _is_full.reset(token)


def autocast_now() -> tuple[torch.dtype | None, ...]:
    """The precision of matrix products at this moment, on the CPU and on GPUs: what is kept belongs to it."""
    return tuple(
        torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None for kind in ("cpu", "cuda")
    )


def find_device(name: Device) -> torch.device:
    """Raises ValueError: there is no such device here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {str(name)!r}; choose cpu, or cuda for an NVIDIA GPU") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"PyTorch {torch.__version__} finds {torch.cuda.device_count()} CUDA devices here"
        raise ValueError(
            f"device={str(name)!r}, but {found}; choose cpu, or install the build of PyTorch for your GPU's driver"
        )
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def fast_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Mixed precision where it pays. Used both when features are cached and when they are computed live, so the two
    agree."""
    if has_fast_bf16(device) and not _is_full.get():
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
