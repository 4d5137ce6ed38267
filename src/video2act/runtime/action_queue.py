"""The plans that are being executed: which action is due at a moment, and what happens where two plans overlap.

The actions of a chunk are due from the moment of its observation on, one per period. So a plan that arrives late begins
with the action that is due by now: the `ceil(latency * rate)` actions before it are dropped. Past the end of all chunks
there is no action: none is repeated or invented.
"""

import numpy as np
from jaxtyping import Float

from video2act.config import Overlap
from video2act.types import ActionChunk

EARLY = 1e-6
"""of a period: rounding of clocks that add up periods"""


class UnsoundPlanError(ValueError):
    """A plan that must not be executed; the message says why."""


class ActionQueue:
    """The newest plan, and the earlier ones that it overlaps with.

    Args:
        overlap: `temporal_ensemble` averages the plans; with all others, the new plan replaces the old one.
    """

    def __init__(self, overlap: Overlap = "replace", *, ensemble_decay: float = 0.01):
        self._overlap = overlap
        self._ensemble_decay = ensemble_decay
        self._running: list[ActionChunk] = []
        """oldest first"""

    def reset(self) -> None:
        """A new episode begins: nothing planned before may reach it."""
        self._running = []

    def accept(self, chunk: ActionChunk, now: float) -> None:
        """Let a new plan take over at the moment `now`.

        Raises:
            UnsoundPlanError: not all of its numbers are finite, or it ended before it came. The plans before it stay.
        """
        finite = np.isfinite(chunk.actions)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise UnsoundPlanError(
                f"the policy planned {chunk.actions[row, column]} for dimension {column} of action {row}; nothing of "
                "this plan was sent to the robot. Check the policy's weights and normalisation statistics, and what it "
                "observed"
            )
        if chunk.action(now) is None:
            late_s, length_s = now - chunk.observed_at, len(chunk.actions) * chunk.period
            raise UnsoundPlanError(
                f"a plan of {length_s:.3g} s arrived {late_s:.3g} s after its observation, when it was over. Plan a "
                "longer horizon, or make planning faster"
            )
        is_averaged = self._overlap == "temporal_ensemble"
        self._running = [*(old for old in self._running if is_averaged and old.action(now) is not None), chunk]

    def action(self, now: float) -> Float[np.ndarray, "a"] | None:
        """What is due at the moment `now`; None past the end of all plans."""
        due = [action for plan in self._running if (action := plan.action(now)) is not None]
        if not due:
            return None
        if self._overlap == "temporal_ensemble":
            return np.average(due, axis=0, weights=np.exp(-self._ensemble_decay * np.arange(len(due))))
        return due[-1]

    def rest(self, now: float) -> Float[np.ndarray, "n a"] | None:
        """What the newest plan still holds from the moment `now` on; None if it is spent."""
        rest = self._running[-1].rest(now) if self._running else None
        return rest if rest is not None and len(rest) else None
