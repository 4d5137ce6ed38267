"""The plans in execution: which action is due when, what overlap does, and what is refused."""

import numpy as np
import pytest

from video2act.runtime.action_queue import ActionQueue, UnsoundPlanError
from video2act.types import ActionChunk

PERIOD = 0.1


def chunk(first: float, observed_at: float = 0.0, horizon: int = 4) -> ActionChunk:
    return ActionChunk(np.arange(first, first + horizon, dtype=float)[:, None], observed_at, PERIOD)


def taken(queue: ActionQueue, steps: range) -> list[float | None]:
    actions = [queue.action(step * PERIOD) for step in steps]
    return [None if action is None else round(float(action[0]), 6) for action in actions]


def test_each_action_is_due_at_its_own_moment_and_past_the_end_there_is_none():
    queue = ActionQueue()
    assert taken(queue, range(2)) == [None, None]
    queue.accept(chunk(10), 0.0)
    assert taken(queue, range(6)) == [10, 11, 12, 13, None, None]
    assert taken(queue, range(1, 3)) == [11, 12], "asking again changes nothing"


@pytest.mark.parametrize(("latency_steps", "first"), [(0, 20), (1, 21), (3, 23)])
def test_actions_whose_moment_passed_while_a_plan_was_made_are_dropped(latency_steps: int, first: float):
    queue = ActionQueue()
    queue.accept(chunk(0, horizon=20), 0.0)
    queue.accept(chunk(20, observed_at=5 * PERIOD), (5 + latency_steps) * PERIOD)
    assert taken(queue, range(5 + latency_steps, 6 + latency_steps)) == [first]


def test_a_step_that_came_late_skips_its_actions_without_a_burst():
    queue = ActionQueue()
    queue.accept(chunk(0), 0.0)
    # the clock of a robot whose second control step took two periods longer
    assert [float(queue.action(now)[0]) for now in (0.0, 0.1, 0.31)] == [0, 1, 3]  # type: ignore[index]


def test_periods_that_are_added_up_do_not_fall_between_two_actions():
    queue, now = ActionQueue(), 0.0
    queue.accept(ActionChunk(np.arange(1000.0)[:, None], 0.0, 1 / 30), 0.0)
    for step in range(1000):
        action = queue.action(now)
        assert action is not None
        assert action[0] == step
        now += 1 / 30


def test_replace_takes_over_at_once():
    queue = ActionQueue("replace")
    queue.accept(chunk(0), 0.0)
    queue.accept(chunk(100, 2 * PERIOD), 2 * PERIOD)
    assert taken(queue, range(2, 5)) == [100, 101, 102]


def test_temporal_ensemble_weighs_as_act_does():
    # ACT (arXiv 2304.13705): w_i = exp(-m i), i = 0 for the oldest prediction of this moment
    queue, decay = ActionQueue("temporal_ensemble", ensemble_decay=0.5), 0.5
    for step in range(3):
        queue.accept(ActionChunk(np.full((4, 1), float(step)), step * PERIOD, PERIOD), step * PERIOD)
    weights = np.exp(-decay * np.arange(3))
    assert taken(queue, range(2, 3)) == [round(float(weights @ np.arange(3) / weights.sum()), 6)]
    # at step 5 only the newest plan reaches
    assert taken(queue, range(5, 7)) == [2, None]


def test_temporal_ensemble_keeps_no_plan_that_has_ended():
    queue = ActionQueue("temporal_ensemble")
    for step in range(100):
        queue.accept(chunk(0, step * PERIOD), step * PERIOD)
    assert len(queue._running) == 4


def test_the_rest_of_a_plan_begins_now():
    queue = ActionQueue("rtc")
    assert queue.rest(0.0) is None
    queue.accept(chunk(0), 0.0)
    rest = queue.rest(3 * PERIOD)
    assert rest is not None
    assert rest.ravel().tolist() == [3]
    assert queue.rest(4 * PERIOD) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_plan_that_is_not_finite_is_refused_and_the_old_one_stays(bad: float):
    queue = ActionQueue()
    queue.accept(chunk(0.0), 0.0)
    broken = chunk(5.0)
    broken.actions[3, 0] = bad
    with pytest.raises(UnsoundPlanError, match="for dimension 0 of action 3"):
        queue.accept(broken, PERIOD)
    assert taken(queue, range(1, 2)) == [1]


def test_a_plan_that_is_over_when_it_arrives_is_refused_with_both_durations():
    queue = ActionQueue()
    queue.accept(chunk(0), 0.0)
    with pytest.raises(UnsoundPlanError, match=r"a plan of 0\.4 s arrived 0\.5 s after its observation"):
        queue.accept(chunk(9), 0.5)
    assert taken(queue, range(1)) == [0]


def test_a_reset_forgets_every_plan():
    queue = ActionQueue("temporal_ensemble")
    queue.accept(chunk(0), 0.0)
    queue.reset()
    assert queue.action(0.0) is None


def test_a_plan_for_later_is_refused_and_the_old_one_stays():
    """Its last actions would be taken for those of before its first."""
    queue = ActionQueue()
    queue.accept(chunk(0), 0.0)
    with pytest.raises(UnsoundPlanError, match=r"arrived -0\.2 s after"):
        queue.accept(chunk(50, observed_at=0.4), 0.2)
    assert taken(queue, range(4)) == [0, 1, 2, 3]
