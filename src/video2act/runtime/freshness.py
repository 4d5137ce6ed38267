"""Whether what System 2 last understood is still fresh enough to plan on, and what is done if it is not.

Age is judged whenever a plan is begun: a chunk is made on exactly one condition, and keeps it to its end.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from video2act.clips import FrameHistory
from video2act.config import RuntimeConfig, StreamConfig
from video2act.interfaces import HoldError, Perceiver
from video2act.runtime.frame_ring import Frame
from video2act.runtime.refresh import perceive
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import Observation, VideoCondition

POLL_S = 0.001
ROUNDING_S = 1e-6


class StaleConditionError(RuntimeError):
    """`when_stale="error"`: the condition is older than allowed."""


class Freshness:
    """The rule of `max_staleness_s` and `when_stale`.

    Args:
        system: refreshes inline, if that is the answer.
    """

    def __init__(
        self, config: RuntimeConfig, system: Perceiver, *, streams: tuple[StreamConfig, ...], control_fps: float
    ):
        self._config = config
        self._system = system
        self._control_fps = control_fps
        is_inline = config.when_stale == "inline" and config.max_staleness_s is not None
        self._history = FrameHistory(streams) if is_inline else None
        self._num_refreshes = 0
        """of this episode"""
        self.perceive_s: list[float] = []
        """of the refreshes made inline"""

    def reset(self) -> None:
        self._num_refreshes = 0
        if self._history is not None:
            self._history.reset()

    def observe(self, observation: Observation) -> None:
        if self._history is not None:
            self._history.append(observation)

    def begin(self, slow_loop: SlowLoop, observation: Observation) -> Callable[[], VideoCondition]:
        """Choose the condition for a plan now; what may take time is left to the function that is returned.

        Raises:
            HoldError, StaleConditionError: it is too old, and that is the answer; the message tells age and limit.
        """
        condition = slow_loop.condition(observation)
        if self._is_fresh(condition, observation):
            return lambda: condition
        config = self._config
        told = (
            f"the video condition is {observation.time - condition.observed_at:.3f} s old, and max_staleness_s is "
            f"{config.max_staleness_s:g}" + (f"; {slow_loop.incidents[-1]}" if slow_loop.incidents else "")
        )
        if config.when_stale == "error":
            raise StaleConditionError(told)
        if config.when_stale == "hold":
            raise HoldError(told)
        if config.when_stale == "wait":
            return lambda: self._wait(slow_loop, observation, told=told)
        assert self._history is not None
        # the clip is taken now: when the function runs in another thread, the history has moved on
        clips = self._history.clips(self._control_fps)
        frame = Frame(observation, condition.episode, 0)

        def refresh() -> VideoCondition:
            refreshed = perceive(self._system, clips, newest=frame)
            self.perceive_s.append(refreshed.duration_s)
            self._num_refreshes += 1
            return replace(
                condition, tokens=refreshed.tokens, observed_at=refreshed.observed_at, version=-self._num_refreshes
            )

        return refresh

    def _is_fresh(self, condition: VideoCondition, observation: Observation) -> bool:
        limit = self._config.max_staleness_s
        return limit is None or observation.time - condition.observed_at <= limit + ROUNDING_S

    def _wait(self, slow_loop: SlowLoop, observation: Observation, *, told: str) -> VideoCondition:
        end = time.monotonic() + self._config.slack_s
        while time.monotonic() < end:
            condition = slow_loop.condition(observation)
            if self._is_fresh(condition, observation):
                # beside a running control loop, it may have seen more than the observation that is planned from
                return replace(condition, observed_at=min(condition.observed_at, observation.time))
            time.sleep(POLL_S)
        raise HoldError(f"{told}; nothing newer came within slack_s = {self._config.slack_s:g}")
