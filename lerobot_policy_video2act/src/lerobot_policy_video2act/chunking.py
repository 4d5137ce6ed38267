"""Real-time chunking under LeRobot: its rollout asks for a chunk while the last one is executed, and hands over what is
left of that.

LeRobot asks only when its queue runs low, not at every control step, so the frames between are missing. The control
steps that passed are counted on the wall clock, and System 2's clips get the last frame repeated for them.
"""

import time
from collections.abc import Callable

import numpy as np
from torch import Tensor

from video2act.types import Committed


def committed_actions(
    left_over: Tensor | None, delay: int, *, execution_horizon: int | None, batch: int, action_dim: int
) -> list[Committed | None]:
    """What each environment will execute until the new chunk takes over; None: there is nothing to continue.

    Args:
        left_over: `[n a]` or `[b n a]`, raw units, from the moment of the observation on. LeRobot fills it up with rows
            of zeros; these are cut off.
        delay: control steps that pass until the new chunk is there.
        execution_horizon: rows that count; all, if None.
    Raises:
        ValueError: a negative delay, or actions of another shape.
    """
    if delay < 0:
        raise ValueError(f"inference_delay counts control steps, at least 0; got {delay}")
    if left_over is None or left_over.numel() == 0:
        return [None] * batch
    rows = left_over.detach().float().cpu().numpy()
    if rows.ndim == 2:
        rows = rows[None]
    if rows.ndim != 3 or (len(rows), rows.shape[2]) != (batch, action_dim):
        raise ValueError(
            f"prev_chunk_left_over must be [n {action_dim}] or [{batch} n {action_dim}], actions of the last chunk in "
            f"raw units; got {list(left_over.shape)}"
        )
    return [_committed(own[:execution_horizon], delay) for own in rows]


def _committed(rows: np.ndarray, delay: int) -> Committed | None:
    nonzero = rows.any(axis=1).nonzero()[0]
    count = int(nonzero[-1]) + 1 if len(nonzero) else 0
    return Committed(rows[:count], min(delay, count)) if count else None


class ElapsedSteps:
    """Control steps since the last call, at least 1, on the wall clock."""

    def __init__(self, fps: float, clock: Callable[[], float] = time.monotonic):
        self._fps = fps
        self._clock = clock
        self._last: float | None = None

    def count(self) -> int:
        now = self._clock()
        steps = 1 if self._last is None else max(1, round((now - self._last) * self._fps))
        # the rounding must not add up
        self._last = now if self._last is None else self._last + steps / self._fps
        return steps
