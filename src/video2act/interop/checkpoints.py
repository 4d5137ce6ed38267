"""A checkpoint of another training code -> its tensors.

Pickles are read as tensors and containers only; code is refused.
"""

from pathlib import Path

from torch import Tensor

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
        ValueError: it is damaged, holds code, or holds no tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return read_tensors(path)
    content = read_torch(path)
    for key in ("module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no tensors by name, but {type(content).__name__}")
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"{path} holds {', '.join(strangers[:5])}, which are no tensors; this is not a state dict")
    return content
