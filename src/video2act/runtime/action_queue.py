"""The plan that is being executed: hands out the actions of one chunk in order and says when the next plan is due.

A chunk is immutable and replaced whole. It may be longer than what is executed of it; the rest is a reserve for a plan that comes
late, and running out of that too is an error, never a repeated or an invented action.
"""

import numpy as np
from jaxtyping import Float

from video2act.types import ActionChunk


class ActionQueue:
    """The current chunk and how many of its actions are spent."""

    def __init__(self, execute_steps: int):
        if execute_steps < 1:
            raise ValueError(f"execute_steps counts actions executed before the next plan: at least 1, got {execute_steps}")
        self._execute_steps = execute_steps
        self._chunk: ActionChunk | None = None
        self._num_taken = 0

    @property
    def is_due(self) -> bool:
        """Whether a new plan should be made before the next action."""
        return self._chunk is None or self._num_taken >= self._execute_steps

    def replace(self, chunk: ActionChunk) -> None:
        """Start on a new plan.

        Raises:
            ValueError: the plan is shorter than `execute_steps`, or not all of its numbers are finite.
        """
        horizon = len(chunk.actions)
        if horizon < self._execute_steps:
            raise ValueError(f"{self._execute_steps} actions are executed per plan, but the policy planned {horizon}")
        finite = np.isfinite(chunk.actions)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"the policy planned {chunk.actions[row, column]} for dimension {column} of action {row}; nothing of this "
                "plan was sent to the robot. Check the policy's weights and normalisation statistics, and what it observed"
            )
        self._chunk, self._num_taken = chunk, 0

    def next(self) -> Float[np.ndarray, "a"]:
        """The next action of the plan.

        Raises:
            RuntimeError: there is no plan, or all of it is spent.
        """
        if self._chunk is None:
            raise RuntimeError("there is no plan yet; call replace with a chunk first")
        if self._num_taken >= len(self._chunk.actions):
            raise RuntimeError(f"all {self._num_taken} planned actions are spent; a new plan was due after {self._execute_steps}")
        action = self._chunk.actions[self._num_taken]
        self._num_taken += 1
        return action
