"""Which action is sent at a control step: begins plans when they are due, lets them take over when they are there, guards.

A plan is begun every `execute_steps` control steps, or as soon as the last one is there, if that is later. What cannot be
executed is not: a plan with a number that is not finite is refused and the one before it goes on; without a plan, without a
fresh condition or with an action outside the limits the robot holds its last target. Each of these is said once and counted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from video2act.config import RuntimeConfig
from video2act.interfaces import HoldError, Policy
from video2act.runtime.action_queue import EARLY, ActionQueue, UnsoundPlanError
from video2act.runtime.background import INCIDENTS_KEPT
from video2act.runtime.guard import Guard
from video2act.runtime.planner import Planner
from video2act.runtime.virtual_clock import steps_of
from video2act.types import Committed, Observation, VideoCondition

KIND = 20
"""letters of a problem that tell its kind"""


@dataclass(frozen=True)
class Decision:
    """What is sent to the robot at one control step, and why."""

    action: Float[np.ndarray, "a"]
    condition: VideoCondition | None
    """what the newest plan was made on"""
    planned_at: float
    """moment of the observation that it was made from"""
    is_new_plan: bool
    is_held: bool
    is_clamped: bool


class Executor:
    """From observations to actions, one per control step.

    Args:
        execute_steps: control steps from the beginning of one plan to the beginning of the next.
    Raises:
        ValueError: plans would still be blended into each other when the next one comes.
    """

    def __init__(self, policy: Policy, planner: Planner, *, guard: Guard, execute_steps: int, config: RuntimeConfig):
        if execute_steps < 1:
            raise ValueError(f"execute_steps counts control steps between two plans: at least 1, got {execute_steps}")
        if config.overlap == "blend" and config.blend_steps > execute_steps:
            raise ValueError(
                f"blend_steps ({config.blend_steps}) must not exceed execute_steps ({execute_steps}): a plan would be replaced "
                "before it has taken over"
            )
        self.incidents: list[str] = []
        """what was wrong, over all episodes; a hold that lasts is one"""
        self._policy = policy
        self._planner = planner
        self._guard = guard
        self._execute_steps = execute_steps
        self._continues = config.overlap in ("rtc", "rtc_trained")
        self._queue = ActionQueue(config.overlap, config.blend_steps, ensemble_decay=config.ensemble_decay)
        self.reset()

    def reset(self) -> None:
        """A new episode begins."""
        self._planner.reset()
        self._queue.reset()
        self._begun_at: float | None = None
        self._last_time: float | None = None
        self._last_action: Float[np.ndarray, "a"] | None = None
        self._condition: VideoCondition | None = None
        self._hold_reason = ""
        self._saying: dict[str, str] = {}

    def decide(self, observation: Observation) -> Decision:
        """The action for the moment of this observation.

        Raises:
            ValueError: the clock did not advance; or the first plan is unsound.
            HoldError: there is nothing to plan on at the first step, and so no target to hold.
        """
        now = observation.time
        self._check_clock(now)
        is_new_plan = self._take(now)
        if not self._planner.is_busy and self._is_due(now):
            self._begin(observation)
            is_new_plan = self._take(now) or is_new_plan
        if self._queue.newest is None:
            is_new_plan = self._take_first(now)
        action, problem, is_clamped = self._action(now)
        self._say("action", problem)
        self._last_action = action
        newest = self._queue.newest
        assert newest is not None
        return Decision(
            action, self._condition, newest.observed_at, is_new_plan, bool(problem) and not is_clamped, is_clamped
        )

    def close(self) -> None:
        self._planner.close()

    def _action(self, now: float) -> tuple[Float[np.ndarray, "a"], str, bool]:
        """The action to send, what is wrong, and whether it was clamped."""
        planned = None if self._hold_reason else self._queue.action(now)
        if planned is None:
            problem = self._hold_reason or "all plans are spent and no new one has come; held"
        else:
            checked = self._guard.check(planned)
            if checked.action is not None:
                return checked.action, checked.problem, bool(checked.problem)
            problem = f"an action was {checked.problem}"
        if self._last_action is None:
            raise HoldError(f"{problem}. There is no earlier target to hold")
        return self._guard.hold(self._last_action), problem, False

    # plans

    def _is_due(self, now: float) -> bool:
        newest = self._queue.newest
        if self._begun_at is None or newest is None:
            return True
        return (now - self._begun_at) / newest.period >= self._execute_steps - EARLY

    def _begin(self, observation: Observation) -> None:
        committed, newest = None, self._queue.newest
        rest = self._queue.rest(observation.time) if self._continues else None
        if rest is not None and newest is not None:
            num_frozen = min(len(rest), steps_of(self._planner.expected_s(), 1 / newest.period))
            committed = Committed(rest, num_frozen)
        self._begun_at = observation.time
        self._planner.begin(observation, committed)

    def _take(self, now: float) -> bool:
        """Let a plan take over, if one has been made; whether one has."""
        outcome = self._planner.take(now)
        if outcome is None:
            return False
        if outcome.plan is None:
            self._hold_reason, self._begun_at = outcome.reason, None
            return False
        self._hold_reason = ""
        try:
            self._queue.accept(outcome.plan.chunk, now)
        except UnsoundPlanError as problem:
            if self._queue.newest is None:
                raise
            self._say("plan", str(problem))
            self._begun_at = None  # try again at the next step; until then the plan before it goes on
            return False
        self._say("plan", "")
        self._condition = outcome.plan.condition
        return True

    def _take_first(self, now: float) -> bool:
        """Wait for the first plan of an episode: the robot stands still anyway."""
        if self._hold_reason:
            raise HoldError(f"{self._hold_reason}. There is no earlier target to hold")
        outcome = self._planner.wait()
        if outcome.plan is None:
            raise HoldError(f"{outcome.reason}. There is no earlier target to hold")
        self._queue.accept(outcome.plan.chunk, now)
        self._condition = outcome.plan.condition
        return True

    # what is said

    def _check_clock(self, now: float) -> None:
        if self._last_time is not None and now <= self._last_time:
            raise ValueError(
                f"the robot's clock went from {self._last_time:.6f} s to {now:.6f} s within an episode; Observation.time must "
                "rise with every control step. Use a monotonic clock, or reset the policy when an episode begins"
            )
        self._last_time = now

    def _say(self, about: str, problem: str) -> None:
        """Note a problem when it begins or becomes another one; an empty one ends it."""
        # two that begin alike differ in their numbers only
        if problem and problem[:KIND] != self._saying.get(about, "")[:KIND] and len(self.incidents) < INCIDENTS_KEPT:
            self.incidents.append(problem)
        self._saying[about] = problem
