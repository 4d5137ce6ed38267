"""Statistics of state and action, which belong to a policy: `stats.json` in its run folder. Needs no torch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.config.checks import shown
from video2act.config.plain import parse_json

FAR = 1e30
"""in `min` and `max`: no range is known"""


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

    @classmethod
    def unknown(cls, size: int) -> "Statistics":
        """For a policy that was saved without statistics: the map is the identity, and no value is out of range."""
        zeros, ones, far = (0.0,) * size, (1.0,) * size, (FAR,) * size
        return cls(zeros, ones, tuple(-value for value in far), far, tuple(-value for value in ones), ones)

    @property
    def has_range(self) -> bool:
        """Whether `min` and `max` are those of data."""
        return all(abs(value) < FAR for value in (*self.min, *self.max))

    def of_dimensions(self, chosen: Sequence[int]) -> "Statistics":
        """The statistics of these dimensions only, in this order."""
        return Statistics(**{name: tuple(values[i] for i in chosen if values) for name, values in vars(self).items()})

    def name(self, dimension: int) -> str:
        """Of a dimension, for messages."""
        return self.names[dimension] if self.names else f"dimension {dimension}"

    def outside(self, raw: Float[np.ndarray, "d"], low: Float[np.ndarray, "d"], *, high: Float[np.ndarray, "d"]) -> str:
        """The values below `low` or above `high`, by name, with their training range; empty if there are none."""
        return ", ".join(
            f"{self.name(i)} = {raw[i]:.4g} (trained on {self.min[i]:.4g} to {self.max[i]:.4g})"
            for i in np.flatnonzero((raw < low) | (raw > high)).tolist()
        )


def statistics_to_json(statistics: dict[str, Statistics]) -> str:
    """The inverse of `parse_statistics`."""
    return json.dumps({name: asdict(entry) for name, entry in statistics.items()}, indent=2) + "\n"


def names_of(statistics: Mapping[str, Statistics]) -> dict[str, tuple[str, ...]]:
    """Feature -> the names of its dimensions; empty where none are recorded."""
    return {feature: entry.names for feature, entry in statistics.items()}


def load_statistics(path: Path) -> dict[str, Statistics]:
    """Raises FileNotFoundError or ValueError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a run folder holds config.json, model.safetensors and stats.json"
        )
    return parse_statistics(path.read_bytes(), str(path), remedy="copy the run folder again")


def parse_statistics(text: str | bytes, source: str, *, remedy: str = "copy it again") -> dict[str, Statistics]:
    """The inverse of `statistics_to_json`. Raises ValueError naming the source."""
    try:
        return {name: _statistics(entry, name) for name, entry in parse_json(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        problem = f"{source} does not hold statistics (mean, std, min, max per feature): {str(error)[:200]}"
        raise ValueError(f"{problem}; {remedy}") from error


def _statistics(entry: dict[str, Any], feature: str) -> Statistics:
    """From json, whose numbers may be any. Raises ValueError, TypeError."""
    found = Statistics(**{name: tuple(values) for name, values in entry.items()})
    for name, values in vars(found).items():
        least = 0.0 if name == "std" else -math.inf
        for value in values:
            if not (isinstance(value, str) if name == "names" else _is_sound(value, least)):
                raise ValueError(f"{name} of {feature} holds {shown(value)}")
    for low, high in zip(found.min, found.max, strict=True):
        if low > high:
            raise ValueError(f"min of {feature} is {low}, above max, {high}")
    return found


def _is_sound(value: Any, least: float) -> bool:
    """Whether it is a number that can be computed with."""
    return isinstance(value, int | float) and abs(value) < 2**1000 and math.isfinite(value) and value >= least
