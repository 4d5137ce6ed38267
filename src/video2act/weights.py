"""Weights on disk: safetensors, never pickle; written whole or not at all, read strictly.

A weight that is missing, unexpected or of another shape is an error that names it.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from video2act.atomic import publish


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Replace a safetensors file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    # clones, because safetensors refuses tensors that share memory (tied embeddings)
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}, temporary)
    publish(temporary, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: this folder has no weights; is training still running?")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}); copy it again") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or a tensor is missing, unexpected or of another shape; all are named.
    """
    weights = read_tensors(path)
    check_fit(module.state_dict(), weights, str(path))
    module.load_state_dict(weights)


def check_fit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError, naming them, for tensors that are missing from `weights`, unexpected there or of another shape."""
    kinds = (
        [f"missing {name} {list(own[name].shape)}" for name in own if name not in weights],
        [f"unexpected {name} {list(weights[name].shape)}" for name in weights if name not in own],
        [
            f"{name} is {list(weights[name].shape)}, the config asks for {list(own[name].shape)}"
            for name in own
            if name in weights and weights[name].shape != own[name].shape
        ],
    )
    problems = [line for kind in kinds for line in (*kind[:10], *([f"and {len(kind) - 10} more"] if len(kind) > 10 else []))]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{source} does not fit its config:\n  {listed}")
