"""Latency without waiting: both systems are computed at once and delivered late, on the simulator's own clock.

A simulator stands still while a policy thinks, so in lockstep a slow policy looks as good as a fast one. Here System 2's
condition and System 1's plan are withheld until as much simulated time has passed as they are said to take. Nothing depends on
how fast this machine is: the same seed gives the same result, bit by bit, on any number of workers.

What is simulated: System 2 starts on the newest frame whenever it is free (and `refresh_every` allows); System 1 plans while
its last plan is executed. What is not: at the start of an episode the robot stands still until the first condition and the
first plan are there, as it does on a real clock, and that wait takes no simulated time.
"""

import math

import numpy as np

from video2act.clips import FrameHistory
from video2act.config import SimulatedLatency, StreamConfig
from video2act.interfaces import Perceiver, Policy
from video2act.runtime.action_queue import EARLY
from video2act.runtime.frame_ring import Frame
from video2act.runtime.planner import InlinePlanner, Outcome
from video2act.runtime.refresh import check_refresh_every, perceive
from video2act.types import Committed, Observation, VideoCondition


class Durations:
    """Draws how long each system takes, the same for the same seed."""

    def __init__(self, latency: SimulatedLatency):
        self.latency = latency
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Of an episode. Each system draws from its own stream: how often one runs does not change the other."""
        self._draws = {
            name: np.random.default_rng([seed, number]) for number, name in enumerate(("system1", "system2"))
        }

    def draw(self, system: str) -> float:
        """Seconds."""
        mean = getattr(self.latency, system)
        jitter = self.latency.jitter
        # no draw without jitter: the stream of a latency that is certain stays out of it
        return max(0.0, mean + self._draws[system].uniform(-jitter, jitter)) if jitter else mean

    def longest(self, system: str) -> float:
        """Seconds."""
        return getattr(self.latency, system) + self.latency.jitter


class VirtualSlowLoop:
    """System 2, delivered late."""

    def __init__(
        self,
        system: Perceiver,
        streams: tuple[StreamConfig, ...],
        *,
        refresh_every: int,
        control_fps: float,
        durations: Durations,
    ):
        check_refresh_every(refresh_every)
        self.perceive_s: list[float] = []
        """of this machine's wall clock: what it took to compute, not what was simulated"""
        self.incidents: list[str] = []
        self._system = system
        self._history = FrameHistory(streams)
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._durations = durations
        self._episode = -1
        self._begin()

    def reset(self, episode: int) -> None:
        self._history.reset()
        self._episode = episode
        self._begin()

    def _begin(self) -> None:
        self._control_step = 0
        self._next_refresh = 0
        self._num_conditions = 0
        self._condition: VideoCondition | None = None
        self._pending: VideoCondition | None = None
        self._ready_step = 0

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        step = self._control_step
        self._control_step += 1
        self._deliver(step)
        if self._pending is None and step >= self._next_refresh:
            refreshed = perceive(
                self._system, self._history.clips(self._control_fps), newest=Frame(observation, self._episode, step)
            )
            self.perceive_s.append(refreshed.duration_s)
            self._num_conditions += 1
            self._pending = refreshed.condition(self._num_conditions)
            is_first = self._condition is None
            # the robot waits for the first one
            self._ready_step = step if is_first else step + steps_of(self._durations.draw("system2"), self._control_fps)
            self._next_refresh = step + self._refresh_every
            self._deliver(step)

    def condition(self, observation: Observation) -> VideoCondition:
        if self._condition is None:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        return self._condition

    def close(self) -> None:
        """Nothing to end."""

    def _deliver(self, step: int) -> None:
        if self._pending is not None and step >= self._ready_step:
            self._condition, self._pending = self._pending, None


class VirtualPlanner(InlinePlanner):
    """System 1, delivered late."""

    def __init__(self, policy: Policy, durations: Durations):
        super().__init__(policy)
        self._durations = durations
        self._ready_at = 0.0
        self._period_s = 0.0

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        super().begin(observation, committed)
        self._ready_at = observation.time + self._durations.draw("system1")
        assert self._outcome is not None
        if self._outcome.plan is None:  # nothing was planned, so nothing takes time
            self._ready_at = observation.time
        else:
            self._period_s = self._outcome.plan.chunk.period

    def take(self, now: float) -> Outcome | None:
        if self._outcome is not None and now < self._ready_at - EARLY * self._period_s:
            return None
        return super().take(now)

    def expected_s(self) -> float:
        return self._durations.longest("system1")


def steps_of(duration_s: float, rate_hz: float) -> int:
    """Control steps until something that takes so long is there."""
    return math.ceil(duration_s * rate_hz - EARLY)
