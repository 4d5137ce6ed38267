"""Where plans are made: how long they take is measured, and a plan comes once."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from runtime_fakes import FPS, observation, wait_until

from video2act.interfaces import Policy
from video2act.runtime import planner as module
from video2act.runtime.planner import DURATIONS_REMEMBERED, InlinePlanner, ThreadPlanner
from video2act.runtime.runner import Runner
from video2act.types import ActionChunk, Observation, Tokens, VideoCondition


class Finished(Policy):
    """A policy that reports its condition, as one on another machine does."""

    def __init__(self, plan: Callable[[], None] = lambda: None):
        self.condition: VideoCondition | None = None
        self._plan = plan

    def reset(self) -> None: ...
    def observe(self, observation: Observation) -> None: ...
    def infer(self, observation: Observation) -> ActionChunk:
        self._plan()
        self.condition = VideoCondition(Tokens.empty(1, 1, like=torch.zeros(1)), observation.time - 0.04, 0, 3)
        return ActionChunk(np.zeros((4, 2)), observation.time, 1 / FPS)


@pytest.mark.parametrize("make", [InlinePlanner, ThreadPlanner])
def test_a_plan_is_taken_once_and_dropped_by_a_reset(make: Callable[[Policy], InlinePlanner | ThreadPlanner]):
    planner = make(Finished())
    for is_dropped in (False, True):
        assert not planner.is_busy
        planner.begin(observation(3), None)
        assert planner.is_busy
        if is_dropped:
            planner.reset()
            assert planner.take(3 / FPS) is None
        else:
            plan = planner.wait()
            assert plan.chunk.observed_at == 3 / FPS
            assert plan.condition is not None
        assert not planner.is_busy
    planner.close()


def test_what_a_plan_was_made_on_and_how_old_it_is_shows_in_seconds():
    with Runner(Finished(), execute_steps=2) as runner:
        runner.reset()
        runner.step(observation(10))
        assert runner.condition is not None
        assert runner.condition.version == 3
        assert runner.staleness_s == pytest.approx(0.04)
        runner.step(observation(11))
        assert runner.staleness_s == pytest.approx(0.06)


def test_a_plan_is_expected_to_take_as_long_as_the_slowest_of_the_last_ten(monkeypatch: pytest.MonkeyPatch):
    """In seconds; an outlier is forgotten, and a plan that failed took its time, too."""
    now = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(module, "time", Clock)
    takes_s = [2.0, 0.03, 0.05, *[0.02] * 8, 0.0]

    def plan() -> None:
        now[0] += takes_s[number]
        if number == 1:
            raise ZeroDivisionError

    planner, expected = ThreadPlanner(Finished(plan)), []
    assert planner.expected_s() == 0.0
    for number in range(len(takes_s)):
        planner.begin(observation(number), None)
        while planner._future is not None and not planner._future.done():
            time.sleep(0.001)
        planner.reset()
        expected.append(planner.expected_s())
    planner.close()
    assert DURATIONS_REMEMBERED == 10
    assert expected == pytest.approx([2.0] * 10 + [0.05, 0.05])


def test_a_cold_start_that_the_loop_waits_for_is_expected_of_the_next_plan_only():
    """It counted among the last ten: after one cold first plan, nine plans were continued as if each took a second.
    `rtc` froze all they had, `rtc_trained` continued none."""
    gate = threading.Event()
    takes_s = iter([0.2, 0.0, 0.2, 0.0])

    def plan() -> None:
        assert_passes(gate)
        time.sleep(next(takes_s))

    planner = ThreadPlanner(Finished(plan))
    for is_first_episode in (True, False):
        gate.clear()
        planner.begin(observation(0), None)
        threading.Timer(0.05, gate.set).start()
        planner.wait()
        assert (planner.expected_s() >= 0.2) == is_first_episode, "nothing else is known then"
        planner.begin(observation(1), None)
        wait_until(lambda: planner.take(0.0) is not None)
        assert planner.expected_s() < 0.1
        planner.reset()
    planner.close()


def test_a_plan_that_is_not_there_yet_is_not_waited_for():
    gate = threading.Event()
    planner = ThreadPlanner(Finished(lambda: assert_passes(gate)))
    planner.begin(observation(0), None)
    assert planner.take(0.0) is None
    assert planner.is_busy
    gate.set()
    assert planner.wait().chunk.observed_at == 0.0
    planner.close()


def test_a_reset_waits_for_the_plan_in_the_making():
    """Or it would run beside the first plan of the next episode, in the same network."""
    gate, has_ended = threading.Event(), threading.Event()

    def plan() -> None:
        assert_passes(gate)
        has_ended.set()

    planner = ThreadPlanner(Finished(plan))
    planner.begin(observation(0), None)
    threading.Timer(0.05, gate.set).start()
    planner.reset()
    assert has_ended.is_set()
    planner.close()


def assert_passes(gate: threading.Event) -> None:
    assert gate.wait(5)
