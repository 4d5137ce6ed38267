"""Where plans are made: in the control loop, which then waits for each, or beside it, while the last plan is executed.

A plan is begun on the observation of one control step. Whatever it needs from the robot is taken then, so that the rest can
run in another thread while frames go on coming in.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from video2act.interfaces import HoldError, Policy
from video2act.types import ActionChunk, Committed, Observation, VideoCondition


@dataclass(frozen=True)
class Plan:
    """A chunk, and what it was made on."""

    chunk: ActionChunk
    condition: VideoCondition | None
    """None for a policy that does not tell"""


@runtime_checkable
class BeginsPlans(Protocol):
    """A policy that can take what it needs now and plan later, in another thread; and that can continue a plan."""

    def begin(self, observation: Observation, committed: Committed | None) -> Callable[[], Plan]: ...


@runtime_checkable
class HasCondition(Protocol):
    """A policy that can show what its last plan was made on."""

    condition: VideoCondition | None


def begin_plan(policy: Policy, observation: Observation, *, committed: Committed | None) -> Callable[[], Plan]:
    """The work of making one plan.

    Raises:
        ValueError: the policy cannot continue a plan, but there is one to continue.
    """
    if isinstance(policy, BeginsPlans):
        return policy.begin(observation, committed)
    if committed is not None:
        raise ValueError(
            f"{type(policy).__name__} cannot continue a plan, which overlap rtc needs; choose replace, blend or temporal_ensemble"
        )

    def work() -> Plan:
        chunk = policy.infer(observation)
        return Plan(chunk, policy.condition if isinstance(policy, HasCondition) else None)

    return work


@dataclass(frozen=True)
class Outcome:
    """What came of a plan that was begun."""

    plan: Plan | None
    reason: str = ""
    """why there is none: the robot shall hold"""


@runtime_checkable
class Planner(Protocol):
    """Makes one plan at a time."""

    is_busy: bool
    """a plan has been begun and not been taken"""

    def reset(self) -> None:
        """A new episode begins: a plan in the making is dropped."""
        ...

    def begin(self, observation: Observation, committed: Committed | None) -> None: ...

    def take(self, now: float) -> Outcome | None:
        """What came of the plan, if it is there at the moment `now` of the robot's clock."""
        ...

    def wait(self) -> Outcome:
        """What came of the plan, however long it takes: the robot stands still. For the first plan of an episode."""
        ...

    def expected_s(self) -> float:
        """How long a plan takes at most, judged by the last ones."""
        ...

    def close(self) -> None: ...


class InlinePlanner:
    """Plans in the control loop: a plan is there when it has been begun."""

    def __init__(self, policy: Policy):
        self.is_busy = False
        self._policy = policy
        self._outcome: Outcome | None = None

    def reset(self) -> None:
        self.is_busy, self._outcome = False, None

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        self.is_busy = True
        self._outcome = _outcome_of(begin_or_hold(self._policy, observation, committed=committed))

    def take(self, now: float) -> Outcome | None:
        outcome, self._outcome, self.is_busy = self._outcome, None, False
        return outcome

    def wait(self) -> Outcome:
        outcome = InlinePlanner.take(self, 0.0)
        assert outcome is not None, "wait was called before begin"
        return outcome

    def expected_s(self) -> float:
        return 0.0

    def close(self) -> None:
        """Nothing to end."""


DURATIONS_REMEMBERED = 10
"""plans: long enough to know the slow ones, short enough to forget a cold start"""


class ThreadPlanner:
    """Plans in one thread beside the control loop."""

    def __init__(self, policy: Policy):
        self.is_busy = False
        self._policy = policy
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="system1")
        self._future: Future[Outcome] | None = None
        self._durations_s: deque[float] = deque(maxlen=DURATIONS_REMEMBERED)

    def reset(self) -> None:
        if self._future is not None:
            # what it makes would be of the last episode; its errors go with it
            self._future.exception()
        self.is_busy, self._future = False, None

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        self.is_busy = True
        work = begin_or_hold(self._policy, observation, committed=committed)
        self._future = self._worker.submit(self._timed, work)

    def take(self, now: float) -> Outcome | None:
        if self._future is None or not self._future.done():
            return None
        return self.wait()

    def wait(self) -> Outcome:
        assert self._future is not None, "wait was called before begin"
        future, self._future, self.is_busy = self._future, None, False
        return future.result()

    def expected_s(self) -> float:
        return max(self._durations_s, default=0.0)

    def close(self) -> None:
        """End the thread, after the plan it is making."""
        self._worker.shutdown()

    def _timed(self, work: Callable[[], Plan] | Outcome) -> Outcome:
        started = time.monotonic()
        outcome = _outcome_of(work)
        self._durations_s.append(time.monotonic() - started)
        return outcome


def begin_or_hold(
    policy: Policy, observation: Observation, *, committed: Committed | None
) -> Callable[[], Plan] | Outcome:
    """The work of making a plan, or why none is made."""
    try:
        return begin_plan(policy, observation, committed=committed)
    except HoldError as reason:
        return Outcome(None, str(reason))


def _outcome_of(work: Callable[[], Plan] | Outcome) -> Outcome:
    if isinstance(work, Outcome):
        return work
    try:
        return Outcome(work())
    except HoldError as reason:
        return Outcome(None, str(reason))
