"""Statistics of state and action, and the map to normalised units and back.

The statistics are part of the policy: they live in its weights as buffers and beside them as `stats.json`. A dimension
that never varies (the unused gripper of a reach task) is shifted, not scaled: dividing by its spread would blow up
noise.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Mode = Literal["mean_std", "min_max", "identity"]


@dataclass(frozen=True)
class Statistics:
    """Of one feature, per dimension, in raw units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.std), len(self.min), len(self.max)}
        if len(sizes) != 1:
            raise ValueError(f"mean, std, min and max must have one size, got {sorted(sizes)}")

    def of_dimensions(self, chosen: Sequence[int]) -> "Statistics":
        """Of these dimensions only, in this order."""
        return Statistics(**{name: tuple(values[i] for i in chosen) for name, values in vars(self).items()})


def statistics_to_json(statistics: dict[str, Statistics]) -> str:
    """The inverse of `load_statistics`."""
    return json.dumps({name: asdict(entry) for name, entry in statistics.items()}, indent=2) + "\n"


def load_statistics(path: Path) -> dict[str, Statistics]:
    """Raises FileNotFoundError or ValueError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a run folder holds config.json, model.safetensors and stats.json"
        )
    try:
        entries = json.loads(path.read_text())
        return {
            name: Statistics(**{key: tuple(values) for key, values in entry.items()}) for name, entry in entries.items()
        }
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold statistics (mean, std, min, max per feature): {error}") from error


class Normalizer(nn.Module):
    """An affine map per dimension: `normalised = (raw - shift) / scale`."""

    shift: Tensor
    scale: Tensor

    def __init__(self, statistics: Statistics, mode: Mode):
        super().__init__()
        low, high = torch.tensor(statistics.min), torch.tensor(statistics.max)
        mean, std = torch.tensor(statistics.mean), torch.tensor(statistics.std)
        if mode == "mean_std":
            shift, scale = mean, std
        elif mode == "min_max":
            shift, scale = (low + high) / 2, (high - low) / 2
        else:
            shift, scale = torch.zeros_like(mean), torch.ones_like(mean)
        is_constant = scale < 1e-6
        self.register_buffer("shift", shift.float())
        self.register_buffer("scale", torch.where(is_constant, torch.ones_like(scale), scale).float())

    def normalize(self, raw: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (raw - self.shift) / self.scale

    def restore(self, normalised: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The inverse of `normalize`."""
        return normalised * self.scale + self.shift
