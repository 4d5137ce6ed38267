"""Between which numbers an action must lie to be sent: given in a file, or taken from the demonstrations."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from video2act.config import data_margin
from video2act.config.nearby import nearby
from video2act.config.plain import read_json
from video2act.statistics import Statistics


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest number that each dimension of an action may have, in raw units."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high):
            raise ValueError(f"limits need as many low as high numbers, got {len(self.low)} and {len(self.high)}")
        for number, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low <= high:  # NaN, too, is refused
                raise ValueError(f"limits of dimension {number}: low must not be above high, got {low} and {high}")

    def check_size(self, size: int, owner: str) -> None:
        """Raises ValueError unless there is a limit for each number of the owner's actions."""
        if len(self.low) != size:
            raise ValueError(f"the limits are for {len(self.low)} numbers, but an action of {owner} has {size}")

    def widened(self, share: float) -> "Limits":
        """By that share of the range, on both sides."""
        margins = [share * (high - low) for low, high in zip(self.low, self.high, strict=True)]
        return Limits(
            tuple(low - margin for low, margin in zip(self.low, margins, strict=True)),
            tuple(high + margin for high, margin in zip(self.high, margins, strict=True)),
        )

    def outside(self, actions: Float[np.ndarray, "*t a"]) -> Bool[np.ndarray, "*t a"]:
        """Which numbers lie outside."""
        return (actions < np.array(self.low)) | (actions > np.array(self.high))

    def clamp(self, actions: Float[np.ndarray, "*t a"]) -> Float[np.ndarray, "*t a"]:
        """In their own precision: what lies inside passes bit by bit."""
        return np.clip(actions, np.array(self.low), np.array(self.high)).astype(actions.dtype)

    @classmethod
    def find(cls, asked: str, seen: Callable[[], Statistics]) -> "Limits | None":
        """The limits that a word names: `data`, `data+10%` or a json file; none, if it is empty.

        Args:
            seen: the actions of the demonstrations, if they are needed.
        Raises:
            FileNotFoundError, ValueError: there is no such file, it does not hold limits, or the policy knows no range.
        """
        if not asked:
            return None
        margin = data_margin(asked)
        if margin is None:
            return cls.load(Path(asked))
        if not seen().has_range:
            raise ValueError(
                f"limits={asked!r} needs the range of the demonstrations' actions, and this policy came without "
                "statistics; give a json file with low and high, or Limits"
            )
        return cls(seen().min, seen().max).widened(margin)

    @classmethod
    def load(cls, path: Path) -> "Limits":
        """Read a json file. Raises FileNotFoundError or ValueError that names it."""
        if not path.is_file():
            raise FileNotFoundError(
                f'{path} does not exist{nearby(path)}; limits are "data", "data+10%" or a json file with low and high'
            )
        try:
            found = read_json(path)
            return cls(tuple(map(float, found["low"])), tuple(map(float, found["high"])))
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise ValueError(f'{path} does not hold limits, {{"low": [...], "high": [...]}}: {error}') from error
