"""Published weights, read one tensor at a time: no file is held whole, and only the needed tensors are read.

Names and shapes come from the files' headers, so the whole checkpoint is compared with its config before the first
tensor is read. Files are safetensors, or PyTorch's own with nothing but tensors (`weights_only`).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from video2act.files.fingerprint import fingerprint
from video2act.files.tensor_files import open_tensors
from video2act.files.weights import check_fit, shapes_of

REOPEN_BYTES = 32 * 2**20
"""a mapped file stays in memory as far as it was read; it is reopened after this much"""


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
            reader = open_tensors(file)
            for original in reader.shapes:
                name = rename(original)
                if name in self._places:
                    twin = "{1} in {0}".format(*self._places[name])
                    raise ValueError(f"{original} in {file} and {twin} are both {name}; remove one file")
                self._places[name] = (file, original)
                self.shapes[name] = reader.shapes[original]

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
            reader, touched = open_tensors(file), 0
            for name, original in pairs:
                tensor = reader.read(original)
                touched += tensor.nbytes
                yield name, tensor
                del tensor
                if touched > REOPEN_BYTES:
                    del reader
                    reader, touched = open_tensors(file), 0

    def fingerprint(self) -> str:
        """A short name for the contents: of all names and shapes, and of pieces of each file."""
        return fingerprint(self.files, sorted(self.shapes.items()))


def check_checkpoint(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Raises ValueError, with the names and shapes, unless the checkpoint holds exactly the module's tensors."""
    check_fit(shapes_of(module.state_dict()), checkpoint.shapes, source=checkpoint.where)


def fill(
    module: nn.Module, checkpoint: Checkpoint, *, dtype: torch.dtype, in_float32: frozenset[str] = frozenset()
) -> None:
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
