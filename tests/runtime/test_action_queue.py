"""The plan in execution: order, due time, and what is refused."""

import numpy as np
import pytest

from video2act.runtime.action_queue import ActionQueue
from video2act.types import ActionChunk


def chunk(first: float, horizon: int = 4) -> ActionChunk:
    return ActionChunk(np.arange(first, first + horizon)[:, None], observed_at=0.0, period=0.1)


def test_actions_come_in_order_and_a_plan_is_due_after_execute_steps():
    queue = ActionQueue(execute_steps=2)
    assert queue.is_due
    queue.replace(chunk(10.0))
    taken = []
    while not queue.is_due:
        taken.append(float(queue.next()[0]))
    assert taken == [10, 11]
    queue.replace(chunk(20.0))
    assert float(queue.next()[0]) == 20


def test_a_late_plan_may_use_the_reserve_until_it_is_spent():
    queue = ActionQueue(execute_steps=2)
    queue.replace(chunk(0.0, horizon=3))
    assert [float(queue.next()[0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="all 3 planned actions are spent; a new plan was due after 2"):
        queue.next()


def test_no_plan_no_action():
    with pytest.raises(RuntimeError, match="no plan yet"):
        ActionQueue(1).next()


def test_a_plan_shorter_than_what_is_executed_is_refused():
    with pytest.raises(ValueError, match="5 actions are executed per plan, but the policy planned 4"):
        ActionQueue(5).replace(chunk(0.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_plan_that_is_not_finite_is_refused_and_the_old_one_stays(bad: float):
    queue = ActionQueue(2)
    queue.replace(chunk(0.0))
    broken = chunk(5.0)
    broken.actions[3, 0] = bad
    with pytest.raises(ValueError, match="for dimension 0 of action 3"):
        queue.replace(broken)
    assert float(queue.next()[0]) == 0


def test_execute_steps_must_be_positive():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        ActionQueue(0)
