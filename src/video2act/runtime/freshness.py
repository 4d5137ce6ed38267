"""Whether the newest condition is fresh enough to plan on, and what is done if it is not.

The age is judged when a plan is begun. A chunk is made on exactly one condition, and keeps it to its end.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from video2act.config import RuntimeConfig
from video2act.interfaces import HoldError, Perceiver
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime.refresh import TIMES_KEPT, perceive
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import Observation, VideoCondition

POLL_S = 0.001
ROUNDING_S = 1e-6
FAILURES = ("system2_failed", "system2_hangs", "system2_busy", "connection")
"""the incidents that can explain an old condition"""


class StaleConditionError(RuntimeError):
    """`when_stale="error"`: the condition is older than allowed."""


def check_staleness_limit(config: RuntimeConfig, spec: RefreshSpec, *, is_served: bool = False) -> None:
    """Raise ValueError where there is no System 2 whose condition could be too old, or where a condition is older than
    allowed before the next refresh is even due, or when it is new.

    Args:
        is_served: by `video2act serve`, which has no `when_stale`.
    """
    limit, every = config.max_staleness_s, max((stream.every for stream in spec.streams), default=1)
    if limit is not None and not spec.streams:
        problem = f"max_staleness_s={limit:g} limits the age of what System 2 saw, and there is no System 2 here"
        elsewhere = "" if is_served else ". That of a served policy is set on its server"
        raise ValueError(f"{problem}; leave it out{elsewhere}")
    if limit is None:
        return
    often, longer = ("--refresh-every ", "--max-staleness-s") if is_served else ("refresh_every=", "max_staleness_s")
    lag_s = (every - 1) / spec.control_fps
    enough = f"raise {longer} to {max(lag_s, spec.oldest_s):g} s and the time of a refresh"
    if limit + ROUNDING_S < lag_s:
        raise ValueError(
            f"max_staleness_s={limit:g} is shorter than the {lag_s:g} s that System 2's newest frame may be old in a "
            f"refresh: a stream looks every {every} control steps at {spec.control_fps:g} Hz (`every`, given by "
            f"encoding='stream'); {enough}"
        )
    if config.when_stale == "inline" or limit + ROUNDING_S >= spec.oldest_s:
        return
    fewer = [n for n in range(1, spec.refresh_every) if replace(spec, refresh_every=n).oldest_s <= limit + ROUNDING_S]
    remedies = [f"refresh more often ({often}{fewer[-1]})"] if fewer else []
    remedies += ["set when_stale=inline"] * (not is_served)
    looks = f", and a stream looks every {every}" if every > 1 else ""
    raise ValueError(
        f"max_staleness_s={limit:g} is shorter than the {spec.oldest_s:g} s that frames grow old between two refreshes "
        f"of System 2 (every {spec.refresh_every} control steps at {spec.control_fps:g} Hz{looks}), so that no "
        f"condition would be fresh enough in between; {', or '.join([*remedies, enough])}"
    )


class Freshness:
    """The rule of `max_staleness_s` and `when_stale`.

    Args:
        system: refreshes in the control loop, for `when_stale="inline"`.
    """

    def __init__(self, config: RuntimeConfig, system: Perceiver):
        self._config = config
        self._system = system
        self.num_refreshes = 0
        """in this episode"""
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        """seconds of the refreshes made here"""

    def reset(self) -> None:
        self.num_refreshes = 0

    def choose(self, slow_loop: SlowLoop, observation: Observation) -> Callable[[], VideoCondition]:
        """A function that gives the condition for a plan. It does what takes time, and may raise HoldError.

        Raises:
            HoldError, StaleConditionError: the condition is too old; the message gives age and limit. With
                `when_stale="inline"` the function raises HoldError if System 2 fails.
        """
        condition = slow_loop.condition()
        if self._is_fresh(condition, observation):
            return lambda: condition
        config = self._config
        problem = (
            f"the video condition is {_age_s(condition, observation):.3f} s old, and max_staleness_s is "
            f"{config.max_staleness_s:g}{_last_failure(slow_loop)}"
        )
        if config.when_stale == "error":
            raise StaleConditionError(problem)
        if config.when_stale == "hold":
            raise HoldError(problem, "stale_condition")
        if config.when_stale == "wait":
            return lambda: self._wait(slow_loop, observation, problem=problem)
        # the clips are taken now: when the function runs in another thread, newer frames have arrived
        clips, lag_s = slow_loop.clips()
        frame = Frame(observation, condition.episode, 0)

        def refresh() -> VideoCondition:
            try:
                refreshed = perceive(self._system, clips, newest=frame, lag_s=lag_s)
            except HoldError:
                raise
            except Exception as error:
                failed = f"{problem}; System 2 failed in the control loop: {type(error).__name__}: {error}"
                raise HoldError(failed, "system2_failed") from error
            self.perceive_s.append(refreshed.duration_s)
            self.num_refreshes += 1
            return refreshed.condition(-self.num_refreshes)

        return refresh

    def _is_fresh(self, condition: VideoCondition, observation: Observation) -> bool:
        limit = self._config.max_staleness_s
        return limit is None or _age_s(condition, observation) <= limit + ROUNDING_S

    def _wait(self, slow_loop: SlowLoop, observation: Observation, *, problem: str) -> VideoCondition:
        end = time.monotonic() + self._config.slack_s
        while time.monotonic() < end:
            condition = slow_loop.condition()
            if self._is_fresh(condition, observation):
                # beside a running control loop, it may have seen more than the observation that is planned from
                return replace(condition, observed_at=min(condition.observed_at, observation.time))
            time.sleep(POLL_S)
        raise HoldError(f"{problem}; nothing newer came within slack_s = {self._config.slack_s:g}", "stale_condition")


def _age_s(condition: VideoCondition, observation: Observation) -> float:
    """How old the frames are that System 2 looked at. System 1 gets the age without the lag, as in training."""
    return observation.time - condition.observed_at + condition.lag_s


def _last_failure(slow_loop: SlowLoop) -> str:
    """What went wrong with System 2 last. Its loop also notes what is no failure of it, such as clipped states."""
    failed = [incident.text for incident in slow_loop.incidents if incident.kind in FAILURES]
    return f"; {failed[-1]}" if failed else ""
