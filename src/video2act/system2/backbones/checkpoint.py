"""Published weights, read one tensor at a time: what is not needed is never read, and the file is never held whole.

Names and shapes come from the files' headers, so a checkpoint is compared with its config, all of it, before the first tensor is
read. Safetensors, or PyTorch's own files with nothing in them but tensors (`weights_only`).
"""

import hashlib
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from video2act.weights import check_fit, shapes_of

REOPEN_BYTES = 32 * 2**20
"""a mapped file stays in memory as far as it was touched; closing it after this much keeps the peak near the tensors kept"""


class Checkpoint:
    """Tensors by name across several files.

    Args:
        files: the shards, each `.safetensors`, `.pth` or `.pt`.
        rename: from the files' names of tensors to the module's.
    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is incomplete, damaged, holds anything but tensors, or two tensors have one name.
    """

    def __init__(self, files: Iterable[Path], rename: Callable[[str], str] = str):
        self.files = tuple(files)
        self._places: dict[str, tuple[Path, str]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in self.files:
            reader = _open(file)
            for original in reader.names():
                name = rename(original)
                if name in self._places:
                    other, twin = self._places[name]
                    raise ValueError(f"{file} holds {original} and {other} holds {twin}: both are {name}; remove one file")
                self._places[name] = (file, original)
                self.shapes[name] = reader.shape(original)

    @property
    def where(self) -> Path:
        """What to name in errors: the file, or the folder of several."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """The named tensors, file by file. Each may lie in the mapped file: copy it, and let it go before the next."""
        wanted: dict[Path, list[tuple[str, str]]] = {}
        for name in names:
            file, original = self._places[name]
            wanted.setdefault(file, []).append((name, original))
        for file, pairs in wanted.items():
            reader, touched = _open(file), 0
            for name, original in pairs:
                tensor = reader.read(original)
                touched += tensor.nbytes
                yield name, tensor
                del tensor
                if touched > REOPEN_BYTES:
                    del reader
                    reader, touched = _open(file), 0

    def fingerprint(self) -> str:
        """A short name for the contents: of all names and shapes, and of both ends of each file."""
        hasher = hashlib.sha256(repr(sorted(self.shapes.items())).encode())
        for file in self.files:
            with file.open("rb") as opened:
                hasher.update(opened.read(2**16))
                opened.seek(max(0, file.stat().st_size - 2**16))
                hasher.update(opened.read())
        return hasher.hexdigest()[:16]


def check_checkpoint(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Raises ValueError unless the checkpoint holds exactly the module's tensors; names those that differ, with both shapes."""
    check_fit(shapes_of(module.state_dict()), checkpoint.shapes, checkpoint.where)


def fill(module: nn.Module, checkpoint: Checkpoint, dtype: torch.dtype, in_float32: frozenset[str] = frozenset()) -> None:
    """Give a module without memory (`meta`) its weights; frozen, each in memory of its own.

    Args:
        in_float32: modules whose tensors stay in float32 whatever `dtype` is.
    """
    for name, tensor in checkpoint.read(module.state_dict()):
        owner, leaf = module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        target = torch.float32 if not in_float32.isdisjoint(name.split(".")) else dtype
        own = tensor.to(target if tensor.is_floating_point() else tensor.dtype, copy=True)
        if leaf in owner._parameters:
            owner.register_parameter(leaf, nn.Parameter(own, requires_grad=False))
        else:
            owner.register_buffer(leaf, own)


class _Safetensors:
    def __init__(self, path: Path):
        try:
            self._file = safe_open(path, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{path} is not a complete safetensors file ({error}); download it again") from error

    def names(self) -> list[str]:
        return list(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> Tensor:
        return self._file.get_tensor(name)


class _Pickle:
    def __init__(self, path: Path):
        try:
            # only files in zip form can be mapped; older ones are read whole
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            # torch's own message is long and explains how to run the code anyway
            refused = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), "")
            raise ValueError(
                f"{path} is damaged or holds more than tensors, perhaps code, and is not opened "
                f"({refused or 'unreadable pickle'}); download it again from a source that you trust"
            ) from error
        except (RuntimeError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else "it is empty"
            raise ValueError(f"{path} is not a complete PyTorch file ({reason}); download it again") from error
        if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
            raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}; download it again")
        self._tensors: dict[str, Tensor] = content

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


def _open(path: Path) -> _Safetensors | _Pickle:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the download is not complete; download it again")
    if path.suffix == ".safetensors":
        return _Safetensors(path)
    if path.suffix in (".pth", ".pt"):
        return _Pickle(path)
    raise ValueError(f"{path}: weights are read from .safetensors, .pth or .pt files, not from {path.suffix or 'others'}")
