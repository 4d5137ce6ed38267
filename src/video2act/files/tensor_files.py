"""Weights that other code wrote: which files hold them, and how they are opened without trust.

Both systems read such files, hence their place beneath them. Safetensors, or PyTorch's own files with nothing in them
but tensors (`weights_only`). Every error names the file.
"""

import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from video2act.config import plain
from video2act.config.checks import shown

AGAIN = "download it again"
UNREADABLE = (
    *(EOFError, OSError, zipfile.BadZipFile, RuntimeError, ValueError),
    # from bytes that are no pickle, but are read as one
    *(LookupError, AttributeError, TypeError, AssertionError, struct.error),
)
"""exceptions that torch raises for damaged files"""

MAX_COUNT = 2**20
"""of anything that a text encoder's config counts"""
MAX_JSON_BYTES = 2**26
"""the index of the largest models has a few megabytes"""


def read_json(path: Path) -> dict[str, Any]:
    """Raises FileNotFoundError, or ValueError for what is not a json object."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {path.parent} is not a complete model; download it again")
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {size} bytes, at most {MAX_JSON_BYTES} are read; download it again")
    try:
        content = plain.read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not valid json ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a json object, got {type(content).__name__}; download it again")
    return content


def check_counts(config: dict[str, Any], num_tensors: int, *, source: Path, most: int = MAX_COUNT) -> None:
    """Refuse a network's config that would take memory or time before it meets the weights.

    Args:
        num_tensors: in the weights' files; a layer has one at least.
        most: of anything else that is counted: widths, words, positions.
    Raises:
        ValueError: a number is too large, or there are more layers than tensors.
    """
    for name, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            is_depth = name.endswith(("layers", "depth", "blocks")) or "layers_per" in name
            bound = num_tensors if is_depth else most
            is_count = isinstance(number, int | float) and "theta" not in name  # a base of frequencies counts nothing
            if is_count and not abs(number) <= max(bound, 1):
                why = f"the weights hold {num_tensors} tensors" if is_depth else f"no count may be beyond {most}"
                raise ValueError(f"{source}: {name} is too large: {why}; download it again")
        if isinstance(value, dict):
            check_counts(value, num_tensors, source=source, most=most)


def shards(folder: Path, *names: str) -> list[Path]:
    """The files that hold a network's weights: the single file, or those that its index lists.

    Args:
        names: of single files, the first that is there counts; `NAME.index.json` is the index of its shards.
    Raises:
        FileNotFoundError: there is none, or a shard of the index is missing, or the index of shards.
    """
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _listed(index)
        if (folder / name).is_file():
            return [folder / name]
    for name in names:
        stem, _, ending = name.rpartition(".")
        found = sorted(folder.glob(f"{stem}-*-of-*.{ending}"))
        if found:
            missing = f"{name}.index.json, which says what is in them, is missing"
            raise FileNotFoundError(
                f"{folder} holds {len(found)} shards ({found[0].name}, ...), but {missing}; download it, too"
            )
    wanted = " nor ".join(f"{name}.index.json nor {name}" for name in names)
    raise FileNotFoundError(f"{folder} has neither {wanted}; found {listing(folder)}")


def _listed(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"{index} has no weight_map from tensors to files; download it again")
    names = sorted(set(weight_map.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{index} names {shown(outside[0])}, which is no file beside it; download it again")
    files = [index.parent / name for name in names]
    if missing := ", ".join(file.name for file in files if not file.is_file()):
        listed = f"{len(files)} shards listed in {index.name}"
        raise FileNotFoundError(f"{index.parent} lacks {missing} of {listed}; {AGAIN}")
    return files


def listing(folder: Path) -> str:
    """What a folder holds, for errors."""
    if not folder.is_dir():
        return "no such folder"
    return ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file. They are read when they are asked for."""

    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], Tensor]


def open_safetensors(path: Path, word: str = "complete", *, remedy: str = AGAIN) -> TensorFile:
    """Raises ValueError for a file that is damaged or incomplete."""
    try:
        file = safe_open(path, framework="pt")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a {word} safetensors file ({error}); {remedy}") from error
    return TensorFile(shapes, file.get_tensor)


def read_torch(path: Path) -> Any:
    """The content of a file that PyTorch wrote: tensors in containers, never code. Raises ValueError: it is damaged,
    incomplete, or refers to anything else."""
    try:
        # only files in zip form can be mapped; older ones are read whole
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # torch's own message is long and explains how to run the code anyway
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        other = re.search(r"Unsupported (?!global)[^\n.]*", str(error))
        refused = f"it refers to {name[1]}" if name else other[0] if other else "unreadable pickle"
        problem = f"{path} is damaged or holds more than tensors, perhaps code, and is not opened ({refused})"
        raise ValueError(f"{problem}; download it again from a source that you trust") from error
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename:  # not the content: missing rights, for example
            raise
        # torch explains at length what a damaged zip file is
        reason = str(error).strip().partition("\n")[0].partition(" This is an internal")[0][:200] or "it is empty"
        problem = f"{path} is not a complete PyTorch file ({type(error).__name__}: {reason})"
        raise ValueError(f"{problem}; {AGAIN}") from error


def _open_pickle(path: Path) -> TensorFile:
    content = read_torch(path)
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}; {AGAIN}")
    return TensorFile({name: tuple(tensor.shape) for name, tensor in content.items()}, content.__getitem__)


def open_tensors(path: Path) -> TensorFile:
    """A file of tensors, which are read when they are asked for. Raises FileNotFoundError: there is no such file;
    ValueError: it is incomplete, damaged, of another kind, or holds anything but tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the download is not complete; download it again")
    if path.suffix == ".safetensors":
        return open_safetensors(path)
    if path.suffix in (".pth", ".pt", ".bin"):
        return _open_pickle(path)
    readers = ".safetensors, .pth, .pt or .bin files"
    raise ValueError(f"{path}: weights are read from {readers}, not from {path.suffix or 'others'}")
