"""The last look at an action before it is sent: what is not finite or lies outside the limits never reaches the robot.

To hold is to keep the last target: the last action again, but zero where an action is a change or a speed.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from video2act.interfaces import EnvironmentSpec
from video2act.limits import Limits


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

    def __init__(
        self, spec: EnvironmentSpec, limits: Limits | None = None, *, outside: Literal["clamp", "hold"] = "clamp"
    ):
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
        return ", ".join(
            f"{name} = {value:.4g}" for name, value, bad in zip(self._names, action, which, strict=True) if bad
        )
