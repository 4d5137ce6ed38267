"""A checkpoint of another training code -> its tensors.

Pickles are read as tensors and containers only; code is refused.
"""

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
"""weights files of a checkpoint folder; the first that exists is read, as in the released code"""
EMA = "ema/pytorch_model.bin"
UNREADABLE = (
    *(EOFError, OSError, BadZipFile, RuntimeError, ValueError),
    # from bytes that are no pickle, but are read as one
    *(LookupError, AttributeError, TypeError, AssertionError, struct.error),
)
"""exceptions that torch raises for damaged files"""


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
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, perhaps code, and is not opened ({_refused(error)}); "
            "take it again from a source that you trust"
        ) from error
    except UNREADABLE as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {reason}); the download may be incomplete, copy it again"
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


def _refused(error: pickle.UnpicklingError) -> str:
    """The name that the file refers to. Torch's own message explains how to execute it anyway."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    other = re.search(r"Unsupported (?!global)[^\n.]*", str(error))
    return f"it refers to {name[1]}" if name else other[0] if other else "unreadable pickle"
