"""One episode of a policy in an environment: observe, plan when a plan is due, act. Watchers look on; the loop never grows.

The loop knows nothing of two systems. Success is success at any control step, as in the benchmarks. Rewards are not summed: an
environment here answers whether the task is done, not how it feels about it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from video2act.interfaces import Environment, Policy, Watcher
from video2act.runtime.action_queue import ActionQueue
from video2act.types import VideoCondition


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


@runtime_checkable
class HasCondition(Protocol):
    """A policy that can show its watchers what its plan was made on."""

    condition: VideoCondition | None


class Pace:
    """Keeps a rate on the monotonic clock, or none at all when `rate_hz` is None."""

    def __init__(self, rate_hz: float | None):
        if rate_hz is not None and rate_hz <= 0:
            raise ValueError(f"rate_hz must be positive, got {rate_hz}; use None to run as fast as possible")
        self.missed_deadlines = 0
        self._period_s = None if rate_hz is None else 1 / rate_hz
        self._due = time.monotonic()

    def wait(self) -> None:
        """Sleep until the next control step is due. A late one is counted, and the schedule starts anew from it."""
        if self._period_s is None:
            return
        self._due += self._period_s
        now = time.monotonic()
        if now > self._due:
            self.missed_deadlines += 1
            self._due = now  # never catch up: a burst of actions is worse on a robot than a late one
        else:
            time.sleep(self._due - now)


def run_episode(
    environment: Environment, policy: Policy, execute_steps: int, watchers: Sequence[Watcher], seed: int, rate_hz: float | None
) -> EpisodeResult:
    """Run one episode, `rate_hz` control steps per second or as fast as possible (None).

    Raises:
        ValueError: the policy planned a number that is not finite; nothing of that plan reached the robot.
    """
    observation = environment.reset(seed)
    policy.reset()
    queue = ActionQueue(execute_steps)
    for watcher in watchers:
        watcher.on_reset(observation)
    success, is_done, environment_step_s = False, False, []
    started = time.perf_counter()
    pace = Pace(rate_hz)
    while not is_done:
        policy.observe(observation)
        is_new_plan = queue.is_due
        if is_new_plan:
            queue.replace(policy.infer(observation))
        action = queue.next()
        condition = policy.condition if isinstance(policy, HasCondition) else None
        for watcher in watchers:
            watcher.on_step(observation, action, condition, is_new_plan)
        step_started = time.perf_counter()
        step = environment.step(action)
        environment_step_s.append(time.perf_counter() - step_started)
        observation, is_done, success = step.observation, step.done, success or step.success
        pace.wait()
    return EpisodeResult(
        success, len(environment_step_s), pace.missed_deadlines, time.perf_counter() - started, environment_step_s
    )
