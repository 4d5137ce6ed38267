"""Weights on disk: safetensors, never pickle; written whole or not at all, read strictly.

A weight that is missing, unexpected or of another shape is an error that names it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from video2act.files.atomic import replacing
from video2act.files.run_folder import check_weights_exist
from video2act.files.tensor_files import TensorFile, open_safetensors


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Replace a safetensors file in one step."""
    with replacing(path) as temporary:
        write_tensors(temporary, weights)


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file in place, of tensors on any device."""
    written, places = {}, set()
    for name, tensor in tensors.items():
        written[name] = tensor.detach().cpu().contiguous()
        storage = written[name].untyped_storage()
        # safetensors refuses tensors that share memory (tied embeddings) or lie in more than they fill
        if storage.data_ptr() in places or storage.nbytes() != written[name].nbytes:
            written[name] = written[name].clone()
        places.add(storage.data_ptr())
    save_file(written, path)


def read_tensors(path: Path, part: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; of those whose names begin with `part`, and without it. The others are not
    read. Raises FileNotFoundError: there is no such file; ValueError: the file is damaged."""
    file = _opened(path)
    return {name.removeprefix(part): file.read(name) for name in file.shapes if name.startswith(part)}


def read_shapes(path: Path, part: str = "") -> dict[str, tuple[int, ...]]:
    """As `read_tensors`, from the file's header: shapes only."""
    shapes = _opened(path).shapes
    return {name.removeprefix(part): shape for name, shape in shapes.items() if name.startswith(part)}


def _opened(path: Path) -> TensorFile:
    check_weights_exist(path)
    return open_safetensors(path, "readable", remedy="copy it again")


def check_file(make: Callable[[], nn.Module], path: Path, *, part: str = "") -> None:
    """Compare a module with the header of a file, before either takes memory.

    Args:
        make: makes the module; it is called where new tensors have no memory (`meta`). Weights whose names begin with
            the module's `elsewhere` are not compared.
        part: as for `load_weights`.
    Raises:
        FileNotFoundError, ValueError: as `load_weights`.
    """
    found = read_shapes(path, part)
    with torch.device("meta"):
        module = make()
    elsewhere = getattr(module, "elsewhere", ())
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(elsewhere)}
    check_fit(shapes_of(own), found, source=path)


def check_memory(make: Callable[[], nn.Module]) -> None:
    """Refuse a module that the machine has no memory for, before it takes any. Raises ValueError."""
    with torch.device("meta"):
        module = make()
    tensors = (*module.parameters(), *module.buffers())
    needed = sum(tensor.nbytes for tensor in tensors if tensor.is_meta)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        sizes = f"{needed / 2**30:,.0f} GiB of weights, the machine has {there / 2**30:,.0f} GiB"
        raise ValueError(f"this config asks for {sizes}; choose smaller widths or fewer layers")


def load_weights(module: nn.Module, path: Path, *, elsewhere: tuple[str, ...] = (), part: str = "") -> None:
    """Load a safetensors file into a module, strictly.

    Args:
        part: what the names begin with of the weights that are the module's, if the file holds others too.
        elsewhere: what the names begin with of weights that the module already has, and that the file must not hold.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a tensor is missing, unexpected or of another shape; all are named.
    """
    state = module.state_dict()
    own = {name: tensor for name, tensor in state.items() if not name.startswith(elsewhere)}
    check_fit(shapes_of(own), read_shapes(path, part), source=path)
    weights = read_tensors(path, part)
    _check_values(weights, own, source=path)
    module.load_state_dict({name: tensor for name, tensor in state.items() if name not in own} | weights)


def _check_values(found: Mapping[str, Tensor], own: Mapping[str, Tensor], *, source: Path) -> None:
    """Raise ValueError for numbers of another kind than the module's, which loading would round, and for ones that are
    none."""
    for name, tensor in found.items():
        if tensor.is_floating_point() != own[name].is_floating_point():
            kinds = f"{name} holds {tensor.dtype}, the module {own[name].dtype}"
            raise ValueError(f"{source} does not fit its config: {kinds}; copy the file again")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: {name} holds numbers that are not finite; copy the file again, or train again")


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes, as `check_fit` compares them."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_fit(own: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], *, source: Path | str) -> None:
    """Compare the shapes that a module has with those that a file holds. Raises ValueError: a tensor is missing,
    unexpected or of another shape; at most ten of each kind are named."""
    kinds = (
        [f"missing {name} {list(shape)}" for name, shape in own.items() if name not in found],
        [f"unexpected {name} {list(shape)}" for name, shape in found.items() if name not in own],
        [
            f"{name} is {list(found[name])}, the config asks for {list(shape)}"
            for name, shape in own.items()
            if found.get(name, shape) != shape
        ],
    )
    more = ([f"and {len(kind) - 10} more"] if len(kind) > 10 else [] for kind in kinds)
    if problems := [line for kind, rest in zip(kinds, more, strict=True) for line in (*kind[:10], *rest)]:
        listed, remedy = "\n  ".join(problems), "take weights and config from one place, copied whole"
        raise ValueError(f"{source} does not fit its config:\n  {listed}\n{remedy}")
