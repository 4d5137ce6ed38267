"""The last check of an action before it is sent: only finite numbers within the limits reach the robot.

To hold is to keep the last target: the last action again, but zero where an action is a change or a speed. This zero
is inside all limits: a robot that stands still is not made to move.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from video2act.config.checks import check_relative_actions, located
from video2act.limits import Limits


@dataclass(frozen=True)
class Checked:
    """What may be sent."""

    action: Float[np.ndarray, "a"] | None
    """None: hold instead"""
    kind: str = ""
    """of the incident; empty if there is none"""
    problem: str = ""
    """what was wrong with the action"""


class Guard:
    """Checks actions of one robot.

    Args:
        action_names: for messages; empty: the numbers of the dimensions.
        relative_actions: those of `action_names` that are changes or speeds.
        robot: for messages.
    Raises:
        ValueError: the limits have another size than the robot's actions, or `relative_actions` is not among the names.
    """

    def __init__(
        self,
        action_names: tuple[str, ...] = (),
        relative_actions: tuple[str, ...] = (),
        *,
        limits: Limits | None = None,
        outside: Literal["clamp", "hold"] = "clamp",
        robot: str = "the robot",
    ):
        with located(robot):
            check_relative_actions(relative_actions, action_names)
        if limits is not None and action_names:
            limits.check_size(len(action_names), f"{robot} ({', '.join(action_names)})")
        self._names = action_names
        self.is_relative: Bool[np.ndarray, "_a"] = np.array([name in relative_actions for name in action_names], bool)
        """which actions are changes or speeds; empty where the actions have no names"""
        self._limits = limits
        self._outside = outside
        self._robot = robot

    def check_size(self, size: int, owner: str) -> None:
        """Raises ValueError unless there is a name and a limit for each number of the owner's actions, or none."""
        if self._names and len(self._names) != size:
            raise ValueError(
                f"{self._robot} names {len(self._names)} actions ({', '.join(self._names)}), but an action of {owner} "
                f"has {size} numbers; name each of them, in their order (action_names)"
            )
        if self._limits is not None:
            self._limits.check_size(size, owner)

    def check(self, action: Float[np.ndarray, "_a"]) -> Checked:
        """The action as it may be sent. Raises ValueError as `check_size`."""
        self.check_size(len(action), "the policy")
        if not np.isfinite(action).all():
            values = self._values(action, ~np.isfinite(action))
            return Checked(None, "action_not_finite", f"not finite: {values}; held instead")
        if self._limits is None:
            return Checked(action)
        is_outside = self._limits.outside(action)
        if self.is_relative.any():
            is_outside &= ~(self.is_relative & (action == 0))
        if not is_outside.any():
            return Checked(action)
        problem = f"outside the limits: {self._values(action, is_outside)}; "
        if self._outside == "hold":
            return Checked(None, "action_outside_limits", problem + "held instead")
        return Checked(
            np.where(is_outside, self._limits.clamp(action), action), "action_outside_limits", problem + "clamped"
        )

    def as_sent(self, planned: Float[np.ndarray, "n a"]) -> Float[np.ndarray, "n a"]:
        """Actions as they will be sent, for a plan that continues them. One that may not be sent stays as planned."""
        checked = [self.check(action).action for action in planned]
        return np.stack([action if sent is None else sent for action, sent in zip(planned, checked, strict=True)])

    def hold(self, last: Float[np.ndarray, "a"]) -> Float[np.ndarray, "a"]:
        """The action that keeps the robot where the last one sent it."""
        return np.where(self.is_relative, 0, last).astype(last.dtype) if self.is_relative.any() else last.copy()

    def _values(self, action: np.ndarray, which: np.ndarray) -> str:
        names = self._names or tuple(f"dimension {number}" for number in range(len(action)))
        return ", ".join(f"{name} = {value:.4g}" for name, value, bad in zip(names, action, which, strict=True) if bad)
