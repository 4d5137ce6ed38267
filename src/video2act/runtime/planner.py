"""Where plans are made: in the control loop, which waits for each, or beside it, while the last plan is executed.

`begin` takes what a plan needs from the robot. The rest may run in another thread while new frames arrive.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from video2act.interfaces import Policy
from video2act.types import Committed, Observation, Plan, VideoCondition

DURATIONS_REMEMBERED = 10
"""plans: enough to meet the slow ones, few enough to forget an outlier"""
NO_PLAN = "no plan has been begun; call begin before wait"


@runtime_checkable
class BeginsPlans(Protocol):
    """A policy that takes what it needs now, plans later, perhaps in another thread, and can continue a plan."""

    def begin(self, observation: Observation, committed: Committed | None) -> Callable[[], Plan]: ...


@runtime_checkable
class HasCondition(Protocol):
    """A policy that reports what its last plan was made on."""

    condition: VideoCondition | None


def check_continues(policy: Policy) -> None:
    """Raise ValueError for a policy that cannot continue a plan."""
    if not isinstance(policy, BeginsPlans):
        raise ValueError(
            f"{type(policy).__name__} cannot continue a plan, which overlap rtc needs; choose replace or "
            "temporal_ensemble"
        )


def begin_plan(policy: Policy, observation: Observation, *, committed: Committed | None) -> Callable[[], Plan]:
    """The work of making one plan.

    Raises:
        ValueError: there is a plan to continue, and the policy cannot do that.
    """
    if isinstance(policy, BeginsPlans):
        return policy.begin(observation, committed)
    if committed is not None:
        check_continues(policy)

    def work() -> Plan:
        chunk = policy.infer(observation)
        return Plan(chunk, policy.condition if isinstance(policy, HasCondition) else None)

    return work


class InlinePlanner:
    """Makes one plan at a time, in the control loop: `begin` returns when the plan is there."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._plan: Plan | None = None

    @property
    def is_busy(self) -> bool:
        """A plan has been begun and not been taken."""
        return self._plan is not None

    def reset(self) -> None:
        """A new episode begins: a plan in the making is dropped."""
        self._plan = None

    def abandon(self) -> None:
        """Drop the plan in the making, if there is one, without waiting."""
        self._plan = None

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        """Raises HoldError."""
        self._plan = begin_plan(self._policy, observation, committed=committed)()

    def take(self, now: float) -> Plan | None:
        """The plan, if it is there at the moment `now` of the robot's clock. Raises what planning raised."""
        plan, self._plan = self._plan, None
        return plan

    def wait(self) -> Plan:
        """The plan, however long it takes: for the first one of an episode. Raises as `take`."""
        if (plan := self.take(math.inf)) is None:
            raise RuntimeError(NO_PLAN)
        return plan

    def expected_s(self) -> float:
        """How long a plan takes at most, judged by the last ones."""
        return 0.0

    def close(self) -> None:
        """Nothing to end."""


class ThreadPlanner:
    """Plans in one thread beside the control loop."""

    def __init__(self, policy: Policy):
        self._policy = policy
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="system1")
        self._future: Future[Plan] | None = None
        self._is_abandoned = False
        self._durations_s: deque[float] = deque(maxlen=DURATIONS_REMEMBERED)
        """of plans that were made beside the control loop"""
        self._waited_s = 0.0
        """of the last plan that the loop waited for: often a cold start"""
        self._is_waited_for = False

    @property
    def is_busy(self) -> bool:
        return self._future is not None

    def reset(self) -> None:
        if self._future is not None:
            self._future.exception()  # waits; the plan is of the last episode, and so is its error
        self._future, self._is_abandoned = None, False

    def abandon(self) -> None:
        self._is_abandoned = self._future is not None  # busy until `take` finds it done

    def begin(self, observation: Observation, committed: Committed | None) -> None:
        work = begin_plan(self._policy, observation, committed=committed)
        self._is_waited_for = False
        self._future = self._worker.submit(self._timed, work)

    def take(self, now: float) -> Plan | None:
        if self._future is None or not self._future.done():
            return None
        if self._is_abandoned:
            self._future, self._is_abandoned = None, False
            return None
        return self._result()

    def wait(self) -> Plan:
        self._is_waited_for = True
        return self._result()

    def expected_s(self) -> float:
        """As `InlinePlanner`. A plan that the loop waited for counts only until there is another one."""
        return max(self._durations_s, default=self._waited_s)

    def close(self) -> None:
        """End the thread, after the plan it is making."""
        self._worker.shutdown()

    def _result(self) -> Plan:
        future, self._future = self._future, None
        if future is None:
            raise RuntimeError(NO_PLAN)
        return future.result()

    def _timed(self, work: Callable[[], Plan]) -> Plan:
        started = time.monotonic()
        try:
            return work()
        finally:
            duration_s = time.monotonic() - started
            if self._is_waited_for:
                self._waited_s = duration_s
            else:
                self._durations_s.append(duration_s)


Planner = InlinePlanner | ThreadPlanner
