"""The last look at an action before it is sent: what is not finite or lies outside the limits never reaches the robot.

To hold is to keep the last target: the last action again, but zero where an action is a change or a speed.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from video2act.config import data_margin
from video2act.interfaces import EnvironmentSpec
from video2act.normalize import Statistics


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
    def find(cls, asked: str, seen: Statistics) -> "Limits | None":
        """The limits that a word names: `data`, `data+10%` or a json file; none, if it is empty.

        Args:
            seen: the actions of the demonstrations.
        Raises:
            FileNotFoundError, ValueError: there is no such file, or it does not hold limits.
        """
        if not asked:
            return None
        margin = data_margin(asked)
        return cls.load(Path(asked)) if margin is None else cls(seen.min, seen.max).widened(margin)

    @classmethod
    def load(cls, path: Path) -> "Limits":
        """Read a json file. Raises FileNotFoundError or ValueError that names it."""
        if not path.is_file():
            raise FileNotFoundError(f'{path} does not exist; limits are "data", "data+10%" or a json file with low and high')
        try:
            found = json.loads(path.read_text())
            return cls(tuple(map(float, found["low"])), tuple(map(float, found["high"])))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f'{path} does not hold limits, {{"low": [...], "high": [...]}}: {error}') from error


@dataclass(frozen=True)
class Checked:
    """What may be sent."""

    action: Float[np.ndarray, "a"] | None
    """None: nothing of it, hold instead"""
    problem: str = ""
    """what was wrong with the action; empty if nothing was"""


class Guard:
    """Checks actions of one robot.

    Raises:
        ValueError: the limits have another size than the robot's actions.
    """

    def __init__(self, spec: EnvironmentSpec, limits: Limits | None = None, outside: Literal["clamp", "hold"] = "clamp"):
        self._names = spec.action_names
        self._is_relative = np.array([name in spec.relative_actions for name in spec.action_names])
        unknown = set(spec.relative_actions) - set(spec.action_names)
        if unknown:
            raise ValueError(f"{spec.name}: relative_actions names {', '.join(sorted(unknown))}, which are no actions")
        if limits is not None and len(limits.low) != len(self._names):
            raise ValueError(
                f"the limits are for {len(limits.low)} numbers, but an action of {spec.name} has {len(self._names)}: "
                f"{', '.join(self._names)}"
            )
        self._limits = limits
        self._outside = outside

    def check(self, action: Float[np.ndarray, "_a"]) -> Checked:
        """The action as it may be sent."""
        if not np.isfinite(action).all():
            return Checked(None, f"not finite: {self._tell(action, ~np.isfinite(action))}; held instead")
        if self._limits is None:
            return Checked(action)
        is_outside = self._limits.outside(action)
        if not is_outside.any():
            return Checked(action)
        told = f"outside the limits: {self._tell(action, is_outside)}; "
        if self._outside == "hold":
            return Checked(None, told + "held instead")
        return Checked(self._limits.clamp(action), told + "clamped")

    def hold(self, last: Float[np.ndarray, "a"]) -> Float[np.ndarray, "a"]:
        """The action that keeps the robot where the last one sent it."""
        return np.where(self._is_relative, 0, last).astype(last.dtype)

    def _tell(self, action: np.ndarray, which: np.ndarray) -> str:
        return ", ".join(f"{name} = {value:.4g}" for name, value, bad in zip(self._names, action, which, strict=True) if bad)
