"""Weights on disk: safetensors, never pickle; written whole or not at all, read strictly.

A weight that is missing, unexpected or of another shape is an error that names it.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from video2act.files.atomic import publish


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Replace a safetensors file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    # clones, because safetensors refuses tensors that share memory (tied embeddings)
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}, temporary)
    publish(temporary, path)


def read_tensors(path: Path, part: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file; of those whose names begin with `part`, and without it. The others are not
    read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: this folder has no weights; is training still running?")
    try:
        if not part:
            return load_file(path)
        with safe_open(path, "pt") as file:
            return {name.removeprefix(part): file.get_tensor(name) for name in file.keys() if name.startswith(part)}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}); copy it again") from error


def load_weights(module: nn.Module, path: Path, *, elsewhere: tuple[str, ...] = (), part: str = "") -> None:
    """Load a safetensors file into a module, strictly.

    Args:
        part: what the names begin with of the weights that are the module's, if the file holds others too.
        elsewhere: what the names begin with of weights that the module already has, and that the file must not hold.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a tensor is missing, unexpected or of another shape; all are named.
    """
    weights = read_tensors(path, part)
    state = module.state_dict()
    own = {name: tensor for name, tensor in state.items() if not name.startswith(elsewhere)}
    check_fit(shapes_of(own), shapes_of(weights), source=path)
    module.load_state_dict({name: tensor for name, tensor in state.items() if name not in own} | weights)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes, as `check_fit` compares them."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_fit(own: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], *, source: Path | str) -> None:
    """Compare the shapes that a module has with those that a file holds.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; at most ten of each kind are named.
    """
    kinds = (
        [f"missing {name} {list(shape)}" for name, shape in own.items() if name not in found],
        [f"unexpected {name} {list(shape)}" for name, shape in found.items() if name not in own],
        [
            f"{name} is {list(found[name])}, the config asks for {list(shape)}"
            for name, shape in own.items()
            if name in found and found[name] != shape
        ],
    )
    problems = [
        line for kind in kinds for line in (*kind[:10], *([f"and {len(kind) - 10} more"] if len(kind) > 10 else []))
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{source} does not fit its config:\n  {listed}\ntake weights and config from one place, copied whole"
        )
