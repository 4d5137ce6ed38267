"""Where bfloat16 is faster than float32: on GPUs and CPUs with instructions for it. Elsewhere it would be emulated,
and slow."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

_is_full: ContextVar[bool] = ContextVar("_is_full", default=False)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within it, `fast_precision` changes nothing: an exported graph is the same whatever machine writes it."""
    token = _is_full.set(True)
    try:
        yield
    finally:
        _is_full.reset(token)


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
