"""Files that others' trainings leave behind -> tensors. Pickle is read as tensors and containers only; code in it is refused."""

import pickle
import re
import struct
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from video2act.files.weights import read_tensors

CANDIDATES = (
    "pytorch_model/mp_rank_00_model_states.pt",
    "mp_rank_00_model_states.pt",
    "pytorch_model.bin",
    "model.safetensors",
)
"""what a checkpoint folder may hold, in the order in which the released code looks"""
EMA = "ema/pytorch_model.bin"
UNREADABLE = (
    *(EOFError, OSError, BadZipFile, RuntimeError, ValueError),
    # of bytes that are no pickle, and are taken for one
    *(LookupError, AttributeError, TypeError, AssertionError, struct.error),
)
"""what torch raises over damaged files"""


def find_checkpoint(path: Path, ema: bool = False) -> Path:
    """The weights file that a path means: a file, or a checkpoint folder.

    Args:
        ema: the moving average that lies beside the weights. (The released code writes it and never reads it.)
    Raises:
        FileNotFoundError: nothing is there; what was looked for is listed.
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
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, perhaps code, and is not opened ({_refused(error)}); "
            "take it again from a source that you trust"
        ) from error
    except UNREADABLE as error:
        raise ValueError(
            f"{path} cannot be read ({_first(error)}); it may be half a download, copy it again"
        ) from error
    for key in ("module", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no tensors by name, but {type(content).__name__}")
    strangers = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ValueError(f"{path} holds {', '.join(strangers[:5])}, which are no tensors; this is not a state dict")
    return content


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _refused(error: pickle.UnpicklingError) -> str:
    """What it would have executed. Torch's own message is long, and explains how to run it anyway."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    other = re.search(r"Unsupported (?!global)[^\n.]*", str(error))
    return f"it refers to {name[1]}" if name else other[0] if other else "unreadable pickle"


def _first(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else 'no more is known'}"
