"""Statistics of state and action, and the map to normalised units and back.

The statistics are part of the policy: the map lives in its weights as buffers, the statistics beside them as
`stats.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

Mode = Literal["mean_std", "min_max", "quantile", "identity"]

MAGNITUDE_FLOOR = 0.001
"""smallest scale of a dimension, as a share of its largest number: 0.3 rad, give or take 1e-5, is a parked joint"""


@dataclass(frozen=True)
class Statistics:
    """Statistics of one feature, per dimension, in raw units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    min: tuple[float, ...]
    max: tuple[float, ...]
    q01: tuple[float, ...] = ()
    """1 % of all values lie below; empty if they were not computed, and so with `q99` and `names`"""
    q99: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    """of the dimensions, for messages"""

    def __post_init__(self) -> None:
        sizes = {len(self.mean), len(self.std), len(self.min), len(self.max)}
        sizes |= {len(values) for values in (self.q01, self.q99, self.names) if values}
        if len(sizes) != 1 or bool(self.q01) != bool(self.q99):
            raise ValueError(f"mean, std, min and max must have one size, got {sorted(sizes)}")

    def of_dimensions(self, chosen: Sequence[int]) -> "Statistics":
        """Of these dimensions only, in this order."""
        return Statistics(**{name: tuple(values[i] for i in chosen if values) for name, values in vars(self).items()})


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
    """An affine map per dimension: `normalised = (raw - shift) / scale`.

    A dimension that hardly moves (a parked joint, whose encoder trembles) is not scaled up to the size of the others:
    its scale is at least `floor` times that of a typical dimension of the vector, and `MAGNITUDE_FLOOR` times its own
    largest number. One that never moves is shifted, not scaled.

    Args:
        floor: smallest scale, as a share of the upper median over the dimensions that move.
    Raises:
        ValueError: `quantile`, but the statistics hold no quantiles.
    """

    shift: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, statistics: Statistics, mode: Mode, *, floor: float = 0.01):
        super().__init__()
        with torch.device("cpu"):  # values decide: on the meta device there are none
            low, high = torch.tensor(statistics.min), torch.tensor(statistics.max)
            shift, spread = torch.zeros_like(low), torch.ones_like(low)
            if mode == "mean_std":
                shift, spread = torch.tensor(statistics.mean), torch.tensor(statistics.std)
            elif mode != "identity":
                shift, spread = (low + high) / 2, (high - low) / 2
            if mode == "quantile":
                if not statistics.q01:
                    raise ValueError(
                        "quantile needs statistics with q01 and q99, which these lack; choose mean_std or min_max"
                    )
                first, last = torch.tensor(statistics.q01), torch.tensor(statistics.q99)
                # a gripper that is closed in 99 % of all frames keeps its whole range
                is_rare = last - first <= 1e-4 * (high - low)
                shift = torch.where(is_rare, shift, (first + last) / 2)
                spread = torch.where(is_rare, spread, (last - first) / 2)
            magnitude = torch.maximum(low.abs(), high.abs())
            is_constant = spread < torch.maximum(torch.tensor(1e-6), 1e-6 * magnitude)
            moving = spread[~is_constant].sort().values
            typical = moving[len(moving) // 2] if len(moving) else torch.tensor(0.0)
            lowest = torch.maximum(floor * typical, MAGNITUDE_FLOOR * magnitude * (floor > 0))
            scale = torch.where(is_constant, torch.ones_like(spread), torch.maximum(spread, lowest))
            margin = torch.maximum((high - low) / 2, scale)
            if mode == "identity":
                scale, margin = torch.ones_like(scale), torch.full_like(scale, torch.inf)
            self.statistics, self._spread = statistics, spread
            self.register_buffer("shift", shift.float())
            self.register_buffer("scale", scale.float())
            self.register_buffer("low", (low - margin).float(), persistent=False)
            self.register_buffer("high", (high + margin).float(), persistent=False)

    def normalize(self, raw: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (raw - self.shift) / self.scale

    def restore(self, normalised: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The inverse of `normalize`."""
        return normalised * self.scale + self.shift

    def clip(self, raw: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Values far outside the training range are brought back: half the range is allowed on either side, and a
        whole scale for a dimension that hardly moved. `identity` passes everything."""
        return torch.maximum(torch.minimum(raw, self.high), self.low)

    def outside(self, raw: Float[np.ndarray, "d"]) -> str:
        """The values that `clip` changes, by name, with their training range; empty if there are none."""
        is_outside = (raw < self.low.cpu().numpy()) | (raw > self.high.cpu().numpy())
        return ", ".join(
            f"{self._name(i)} = {raw[i]:.4g} (trained on {self.statistics.min[i]:.4g} to {self.statistics.max[i]:.4g})"
            for i in np.flatnonzero(is_outside).tolist()
        )

    def parked(self) -> list[str]:
        """One line for each dimension that hardly moves, with its spread and the scale it gets instead."""
        raised = np.flatnonzero((self.scale.cpu() > 1.001 * self._spread).numpy()).tolist()
        return [
            f"{self._name(i)} hardly moves: it varies by {self._spread[i]:.2g} around {self.shift[i]:.4g}, and is "
            f"scaled by {self.scale[i]:.2g} instead"
            for i in raised
        ]

    def of_dimensions(self, chosen: Sequence[int]) -> "Normalizer":
        """The same map of these dimensions only, in this order."""
        part = Normalizer(self.statistics.of_dimensions(chosen), "identity")
        for name in ("shift", "scale", "low", "high"):
            setattr(part, name, getattr(self, name)[list(chosen)])
        part._spread = self._spread[list(chosen)]
        return part

    def _name(self, i: int) -> str:
        return self.statistics.names[i] if self.statistics.names else f"dimension {i}"
