"""Which action is sent at a control step: begins plans when they are due, lets them take over, and checks actions.

A plan is begun every `execute_steps` control steps, or when the last one is there, if that is later. A plan with a
number that is not finite is refused, and the one before it goes on. Without a plan, without a fresh condition, or with
an action outside the limits, the robot holds its last target, whether a plan or a person sent it there. Each of these
is one incident while it lasts. Only the first action of an episode is waited for.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from video2act.config import RuntimeConfig
from video2act.incidents import Incidents
from video2act.interfaces import Decision, HoldError
from video2act.observations import check_time
from video2act.runtime.action_queue import ActionQueue, UnsoundPlanError
from video2act.runtime.guard import Guard
from video2act.runtime.planner import Planner
from video2act.runtime.virtual_clock import steps_of
from video2act.types import ActionChunk, Committed, Observation, Plan


def check_execute_steps(execute_steps: int, horizon: int | None = None) -> None:
    """Raises ValueError for a number below 1, or above the actions of a plan, where they are known."""
    if execute_steps < 1:
        raise ValueError(f"execute_steps counts control steps between two plans: at least 1, got {execute_steps}")
    if horizon is not None and execute_steps > horizon:
        problem = f"execute_steps={execute_steps}, but a plan of this policy has {horizon} actions (horizon)"
        raise ValueError(f"{problem}; the robot would hold after them. Choose at most {horizon}")


HALF_STEP = 0.5
"""of a control step: a loop on a real clock is early by a little as often as it is late"""


class Executor:
    """From observations to actions, one per control step.

    Args:
        execute_steps: control steps from the beginning of one plan to the beginning of the next.
        longest_delay: control steps that a plan which continues another may take; None: any.
    Raises:
        ValueError: `execute_steps` is below 1.
    """

    def __init__(
        self,
        planner: Planner,
        guard: Guard,
        *,
        execute_steps: int,
        config: RuntimeConfig,
        longest_delay: int | None = None,
    ):
        check_execute_steps(execute_steps)
        self.incidents = Incidents()
        self.guard = guard
        self._planner = planner
        self._execute_steps = execute_steps
        self._longest_delay = longest_delay
        self._continues = config.overlap in ("rtc", "rtc_trained")
        self._queue = ActionQueue(config.overlap, ensemble_decay=config.ensemble_decay)
        self.reset()

    def reset(self) -> None:
        """A new episode begins."""
        self._planner.reset()
        self._queue.reset()
        self._plan: Plan | None = None
        self._begun_at: float | None = None
        self._last_time: float | None = None
        self._last_action: Float[np.ndarray, "a"] | None = None
        """what was sent"""
        self._is_held = False
        """it was a hold, so the robot has left its plan"""
        self._hold: HoldError | None = None
        """why there is nothing to plan on"""
        self._noted: dict[str, str] = {}
        """subject -> kind of the incident that lasts"""

    def replan(self) -> None:
        """The next plan is due at once."""
        self._begun_at = None

    def decide(self, observation: Observation) -> Decision:
        """The action for the moment of this observation.

        Raises:
            ValueError: the clock did not advance; or the first plan is unsound.
            HoldError: there is nothing to plan on, and no action has been sent that could be held.
        """
        now, before = observation.time, self._last_time
        self.check_clock(now)
        self._last_time = now
        is_new_plan = self._accept(lambda: self._planner.take(now), now)
        if not self._planner.is_busy and self._is_due(now):
            is_new_plan = self._accept(lambda: self._begin(observation), now) or is_new_plan
        if self._last_action is None and self._planner.is_busy:  # there is nothing to hold: the robot stands still
            is_new_plan = self._accept(self._planner.wait, now)
        action, self._is_held, is_clamped = self._action(now)
        self._last_action = action.copy()  # whoever gets the decision may change it
        plan = self._plan
        if plan is None:  # someone else has acted before the first plan, and is held
            assert before is not None
            plan = Plan(ActionChunk(action[None].copy(), now, now - before), None)
        return Decision(action, plan, is_new_plan, self._is_held, is_clamped)

    def interrupt(self, observation: Observation, action: Float[np.ndarray, "a"]) -> None:
        """Someone else acts at this control step. What was planned before is dropped, without waiting for a plan that
        is being made. The next `decide` plans anew, and holds this action until that plan is there. Raises ValueError:
        the clock did not advance."""
        self.check_clock(observation.time)
        self._last_time = observation.time
        self._planner.abandon()
        self._queue.reset()
        self._begun_at = self._hold = None
        self._last_action, self._is_held = action.copy(), False

    @property
    def last_action(self) -> Float[np.ndarray, "a"] | None:
        """What was sent at the last control step; None at the beginning of an episode."""
        return self._last_action

    def close(self) -> None:
        self._planner.close()

    def _action(self, now: float) -> tuple[Float[np.ndarray, "a"], bool, bool]:
        """The action to send, whether it is a hold, and whether it was clamped."""
        planned = None if self._hold else self._queue.action(now)
        if planned is not None:
            checked = self.guard.check(planned)
            if checked.action is not None:
                self.note("action", checked.kind, text=checked.problem)
                return checked.action.copy(), False, bool(checked.kind)
            kind, problem = checked.kind, f"an action was {checked.problem}"
        elif self._hold:
            kind, problem = self._hold.kind, str(self._hold)
        else:
            kind, problem = "plans_spent", "all plans are spent or dropped and no new one has come; held"
        if self._last_action is None:
            error = HoldError if self._hold is None else type(self._hold)
            raise error(f"{problem}. There is no earlier target to hold", kind)
        self.note("action", kind, text=problem)
        return self.guard.hold(self._last_action), True, False

    # plans

    def _is_due(self, now: float) -> bool:
        if self._begun_at is None or self._plan is None:
            return True
        return (now - self._begun_at) / self._plan.chunk.period >= self._execute_steps - HALF_STEP

    def _begin(self, observation: Observation) -> Plan | None:
        """Begin a plan; returns it if it is there at once."""
        committed = None
        is_on_plan = not self._is_held and self._hold is None
        rest = self._queue.rest(observation.time) if self._continues and is_on_plan else None
        if rest is not None and self._plan is not None:
            num_frozen = min(len(rest), steps_of(self._planner.expected_s(), 1 / self._plan.chunk.period))
            committed = self._as_trained(Committed(self.guard.as_sent(rest), num_frozen))
        self._begun_at = observation.time
        self._planner.begin(observation, committed)
        return self._planner.take(observation.time)

    def _as_trained(self, committed: Committed) -> Committed | None:
        """None: planning takes longer than training has shown, as the first plan may; the next then begins anew."""
        found, longest = committed.num_frozen, self._longest_delay
        if longest is None or found <= longest:
            self.note("planning", "")
            return committed
        problem = f"planning takes {found} control steps, training has shown {longest} (max_delay_steps)"
        self.note("planning", "planning_slow", text=f"{problem}; plans begin anew")
        return None

    def _accept(self, find_plan: Callable[[], Plan | None], now: float) -> bool:
        """Let a plan take over, if one has been made; returns whether one has."""
        try:
            plan = find_plan()
        except HoldError as reason:
            self._hold, self._begun_at = reason, None  # try again at the next step
            return False
        except Exception:
            self._begun_at = None  # whoever goes on plans at the next step, not when that plan would have ended
            raise
        if plan is None:
            return False
        self._hold = None
        try:
            self._queue.accept(plan.chunk, now)
        except UnsoundPlanError as problem:
            if self._last_action is None:
                raise
            self.note("plan", "plan_refused", text=str(problem))
            self._begun_at = None  # try again at the next step; until then the plan before it goes on
            return False
        self.note("plan", "")
        self._plan = plan
        return True

    def check_clock(self, now: float) -> None:
        """Raises ValueError as `check_time`."""
        check_time(now, self._last_time)

    def note(self, subject: str, kind: str, *, text: str = "") -> None:
        """Note an incident when it begins or becomes one of another kind; an empty kind ends it.

        Args:
            subject: what it is about: at most one incident of each lasts.
        """
        if kind and kind != self._noted.get(subject):
            self.incidents.note(kind, text)
        self._noted[subject] = kind
