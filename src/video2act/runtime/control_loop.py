"""One episode of a policy in an environment: observe, decide, act. Watchers get every step, so the loop stays small.

Success is success at any control step, as in the benchmarks. There are no rewards.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from video2act.interfaces import Environment, RealTimeEnvironment, Watcher
from video2act.observations import own_copy
from video2act.runtime.runner import Runner
from video2act.types import Step


@dataclass(frozen=True)
class StepRecord:
    """When one control step was, and what was acted on. Durations are of the wall clock, seconds; moments of the
    robot's."""

    time: float
    period_s: float
    """from its beginning to that of the next one"""
    staleness_s: float | None
    """age of the video condition under the running plan; None for a policy that does not report it"""
    condition_version: int | None
    plan_age_s: float
    """age of the observation under the running plan"""
    is_new_plan: bool
    is_held: bool
    is_clamped: bool
    is_late: bool
    """it took longer than the period"""
    incidents: str = ""
    """kinds of those since the step before, separated by spaces"""


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went."""

    success: bool
    num_steps: int
    """control steps"""
    missed_deadlines: int
    """control steps that took longer than the period; 0 when no rate was asked for"""
    duration_s: float
    environment_step_s: list[float]
    """seconds the environment took, one entry per control step"""
    steps: list[StepRecord]


class Pace:
    """Keeps a rate on the monotonic clock, or none at all when `rate_hz` is None."""

    def __init__(self, rate_hz: float | None):
        if rate_hz is not None and rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}; use None to run as fast as possible")
        self.missed_deadlines = 0
        self._period_s = None if rate_hz is None else 1 / rate_hz
        self._due = time.monotonic()

    def wait(self) -> bool:
        """Sleep until the next control step is due. Whether this one was late: it is counted, and the schedule starts
        anew."""
        if self._period_s is None:
            return False
        self._due += self._period_s
        now = time.monotonic()
        if now > self._due:
            self.missed_deadlines += 1
            self._due = now  # never catch up: a burst of actions is worse on a robot than a late one
            return True
        time.sleep(self._due - now)
        return False


def pace_of(environment: Environment, rate_hz: float | None) -> Pace:
    """The pace of an episode. A robot keeps the rate of its spec where none is asked for: actions that were sent as
    fast as possible would add up to another motion."""
    if rate_hz is None and isinstance(environment, RealTimeEnvironment):
        rate_hz = environment.spec.fps
    return Pace(rate_hz)


class Acted(NamedTuple):
    """One action, and what followed."""

    step: Step
    """its observation is of the moment at which the next control step begins"""
    environment_s: float
    """seconds the environment took"""
    is_late: bool


def act(environment: Environment, action: Float[np.ndarray, "a"], *, pace: Pace) -> Acted:
    """Send one action and wait until the next control step is due. A robot is observed after the wait: what it showed
    before would be a control period old when it is planned from."""
    started = time.perf_counter()
    step = environment.step(action.copy())  # one that scales it in place changes nothing here
    environment_s = time.perf_counter() - started
    is_late = pace.wait()
    if isinstance(environment, RealTimeEnvironment) and not step.done:
        started = time.perf_counter()
        step = replace(step, observation=environment.observe())
        environment_s += time.perf_counter() - started
    return Acted(step, environment_s, is_late)


def run_episode(
    environment: Environment,
    runner: Runner,
    *,
    seed: int,
    watchers: Sequence[Watcher] = (),
    rate_hz: float | None = None,
) -> EpisodeResult:
    """Run one episode, `rate_hz` control steps per second. None: a robot's own rate, a simulator as fast as possible.

    Raises:
        ValueError, HoldError: as `Runner.step`.
    """
    observation = environment.reset(seed)
    runner.reset(environment.spec, seed=seed)
    for watcher in watchers:
        watcher.on_reset(own_copy(observation))
    success, is_done, environment_step_s, steps = False, False, [], []
    began = started = time.perf_counter()
    pace = pace_of(environment, rate_hz)
    while not is_done:
        decision = runner.decide(observation)
        condition = decision.plan.condition
        # watchers keep both: an environment may draw its next frame into the same memory, or scale the action in place
        seen = own_copy(observation) if watchers else observation
        for watcher in watchers:
            watcher.on_step(seen, decision)
        step, environment_s, is_late = act(environment, decision.action, pace=pace)
        environment_step_s.append(environment_s)
        now = time.perf_counter()
        steps.append(
            StepRecord(
                time=observation.time,
                period_s=now - started,
                staleness_s=runner.staleness_s,
                condition_version=None if condition is None else condition.version,
                plan_age_s=observation.time - decision.plan.chunk.observed_at,
                is_new_plan=decision.is_new_plan,
                is_held=decision.is_held,
                is_clamped=decision.is_clamped,
                is_late=is_late,
                incidents=" ".join(incident.kind for incident in decision.incidents),
            )
        )
        started = now
        observation, is_done, success = step.observation, step.done, success or step.success
    return EpisodeResult(
        success, len(steps), pace.missed_deadlines, time.perf_counter() - began, environment_step_s, steps
    )
