"""Latency without waiting: both systems are computed at once and delivered late, on the simulator's own clock.

A simulator stands still while a policy thinks, so in lockstep a slow policy looks as good as a fast one. Here System
2's condition and System 1's plan are withheld until as much simulated time has passed as they are said to take. Nothing
depends on how fast this machine is: the same seed gives the same result, bit by bit, on any number of workers.

What is simulated: System 2 starts on the newest frame whenever it is free (and `refresh_every` allows); System 1 plans
while its last plan is executed. What is not: at the start of an episode the robot stands still until the first
condition and the first plan are there, as it does on a real clock, and that wait takes no simulated time.
"""

import math

import numpy as np

from video2act.config import SimulatedLatency
from video2act.interfaces import Perceiver, Policy
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime.action_queue import EARLY
from video2act.runtime.planner import InlinePlanner, Plan
from video2act.runtime.slow_loop import InlineSlowLoop
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


class VirtualSlowLoop(InlineSlowLoop):
    """System 2, delivered late. `perceive_s` holds what a refresh took to compute, not what was simulated."""

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
        assert self._plan is not None
        self._ready_at = observation.time + latency_s - EARLY * self._plan.chunk.period

    def take(self, now: float) -> Plan | None:
        return super().take(now) if now >= self._ready_at else None

    def expected_s(self) -> float:
        return self._durations.longest("system1")


def steps_of(duration_s: float, rate_hz: float) -> int:
    """Control steps until something that takes so long is there."""
    return math.ceil(duration_s * rate_hz - EARLY)
