"""A checkpoint of another training code -> its tensors.

Pickles are read as tensors and containers only; code is refused.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from video2act.config.checks import shown
from video2act.config.nearby import nearby
from video2act.files.tensor_files import read_torch
from video2act.files.weights import read_tensors

CANDIDATES = (
    "pytorch_model/mp_rank_00_model_states.pt",
    "mp_rank_00_model_states.pt",
    "pytorch_model.bin",
    "model.safetensors",
)
"""weights files of a checkpoint folder; the first that exists is read, as in the released code"""
EMA = "ema/pytorch_model.bin"


def find_checkpoint(path: Path, ema: bool = False) -> Path:
    """The weights file of `path`, which is that file or a checkpoint folder.

    Args:
        ema: the moving average beside the weights. (The released code writes it and never reads it.)
    Raises:
        FileNotFoundError: there is none; the message lists the expected names.
    """
    names = (EMA,) if ema else CANDIDATES
    if path.is_file() and not ema:
        return path
    folder = path.parent if path.is_file() else path
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{path} is no checkpoint: expected a file, or a folder with {' or '.join(names)}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a file: safetensors, a plain state dict, or one under `module` (DeepSpeed) or `state_dict`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds code, holds no tensors by name, or tensors that are not whole in the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist{nearby(path)}; name a checkpoint's file")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    content = read_torch(path)
    for key in ("module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no tensors by name, but {type(content).__name__}")
    strangers = [shown(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"{path} holds {', '.join(strangers[:5])}, which are no tensors; this is not a state dict")
    if numbers := [shown(name) for name in content if not isinstance(name, str)]:
        raise ValueError(f"{path} holds tensors without names ({', '.join(numbers[:5])}); this is not a state dict")
    for name, tensor in content.items():
        if problem := _form_problem(tensor):
            raise ValueError(f"{path}: {shown(name)} {problem}; save it as a plain tensor of all its numbers")
    return content


def _form_problem(tensor: Tensor) -> str:
    """Why a tensor is not simply the numbers in its file, or nothing."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"is sparse or quantized ({tensor.layout}, {tensor.dtype})"
    if tensor.is_meta:
        return "has no numbers in the file (meta)"
    # a file of a kilobyte may say that one number is repeated a billion times
    is_whole = tensor.untyped_storage().nbytes() >= tensor.nbytes
    return "" if is_whole else f"of {list(tensor.shape)} has fewer numbers in the file, repeated"


def check_numbers(state: Mapping[str, Tensor], *, source: Path) -> None:
    """Raise ValueError for tensors that are not of finite real numbers, such as NaN of a training that diverged."""
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{source}: {name} holds {tensor.dtype}, and weights are floating-point numbers")
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(
                f"{source}: {name} holds numbers that are not finite; copy the checkpoint again, or take an earlier one"
            )
