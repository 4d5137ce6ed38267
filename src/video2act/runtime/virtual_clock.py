"""Latency without waiting: both systems are computed at once and delivered late, on the simulator's own clock.

A simulator stands still while a policy thinks, so in lockstep a slow policy looks as good as a fast one. Here
conditions and plans are withheld for the simulated latency. The speed of this machine does not matter: the same seed
gives the same result on any number of workers.

System 2 starts on the newest frame whenever it is free and `refresh_every` allows it. System 1 plans while its last
plan is executed. The wait for the first condition and the first plan of an episode takes no simulated time.
"""

import math

import numpy as np

from video2act.config import SimulatedLatency
from video2act.interfaces import Perceiver, Policy
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime.action_queue import EARLY
from video2act.runtime.planner import InlinePlanner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.types import Committed, Observation, Plan, VideoCondition


class Durations:
    """Draws how long each system takes, the same for the same seed."""

    def __init__(self, latency: SimulatedLatency):
        self.latency = latency
        self.seed(0)

    def seed(self, seed: int) -> None:
        """An episode begins. Each system has random numbers of its own, so how often one runs does not change the
        other."""
        self._draws = {
            name: np.random.default_rng([seed, number]) for number, name in enumerate(("system1", "system2"))
        }

    def draw(self, system: str) -> float:
        """Seconds."""
        mean = getattr(self.latency, system)
        jitter = self.latency.jitter
        return max(0.0, mean + self._draws[system].uniform(-jitter, jitter)) if jitter else mean

    def longest(self, system: str) -> float:
        """Seconds."""
        return getattr(self.latency, system) + self.latency.jitter


class VirtualSlowLoop(InlineSlowLoop):
    """System 2, delivered late. `perceive_s` holds computing times, not simulated ones."""

    def __init__(self, system: Perceiver, spec: RefreshSpec, *, durations: Durations):
        self._durations = durations
        super().__init__(system, spec)

    def _begin(self, episode: int) -> None:
        super()._begin(episode)
        self._pending: VideoCondition | None = None
        self._ready_step = 0

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        frame = Frame(observation, self._episode, self._control_step)
        self._control_step += 1
        self._deliver(frame.control_step)
        if self._pending is None and self._rule.is_due(frame):
            self._pending = self._refresh(frame)
            is_first = self._condition is None  # the robot waits for the first one
            latency_s = 0.0 if is_first else self._durations.draw("system2")
            self._ready_step = frame.control_step + steps_of(latency_s, self._spec.control_fps)
            self._deliver(frame.control_step)

    def _deliver(self, step: int) -> None:
        if self._pending is not None and step >= self._ready_step:
            self._condition, self._pending = self._pending, None


class VirtualPlanner(InlinePlanner):
    """System 1, delivered late."""

    def __init__(self, policy: Policy, durations: Durations):
        super().__init__(policy)
        self._durations = durations
        self._ready_at = 0.0

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        latency_s = self._durations.draw("system1")
        super().begin(observation, committed)
        self._ready_at = observation.time + latency_s

    def take(self, now: float) -> Plan | None:
        is_late = self._plan is not None and now < self._ready_at - EARLY * self._plan.chunk.period
        return None if is_late else super().take(now)

    def expected_s(self) -> float:
        return self._durations.longest("system1")


def steps_of(duration_s: float, rate_hz: float) -> int:
    """A duration in control steps, rounded up."""
    return math.ceil(duration_s * rate_hz - EARLY)
