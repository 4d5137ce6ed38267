"""A client's slow loop before one System 2 for many, turn by turn and without its thread."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from runtime_fakes import FPS, MOTION, FakeSystem, observation

from video2act.clips import FrameHistory
from video2act.interfaces import System2Error
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.system2_worker import System2Worker
from video2act.runtime.thread_loop import ThreadSlowLoop


class Line(System2Worker):
    """In place of the worker: counts who asks."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.hangs = ""

    def ask(self, loop: Any, *, not_before: float = 0.0) -> None:
        self.num_asked += 1

    def forget(self, loop: Any) -> None: ...

    def trouble(self) -> str:
        return self.hangs


@pytest.fixture
def line() -> Line:
    return Line()


def new_loop(line: Line, refresh_every: int = 4) -> ThreadSlowLoop:
    return ThreadSlowLoop(line, RefreshSpec((MOTION,), refresh_every, FPS), first_condition_timeout_s=0.05)


def test_it_asks_when_a_refresh_is_due_and_gets_one_if_it_still_is(line: Line):
    loop, system = new_loop(line), FakeSystem()
    loop.reset(0)
    refreshed = []
    for step in range(10):
        loop.observe(observation(step))
        refreshed.append(loop.refresh(system))
    assert refreshed == [step % 4 == 0 for step in range(10)]
    assert line.num_asked == 3
    assert system.newest_frames == [0, 4, 8]
    assert len(loop.perceive_s) == 3


def test_conditions_are_counted_from_1_in_every_episode(line: Line):
    loop, system, seen = new_loop(line, 1), FakeSystem(), []
    for episode in range(2):
        loop.reset(episode)
        for step in range(3):
            loop.observe(observation(step + 10 * episode))
            assert loop.refresh(system)
            condition = loop.condition()
            seen.append((condition.episode, condition.version, round(condition.tokens.data.item())))
    assert seen == [(0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 10), (1, 2, 11), (1, 3, 12)]


def test_a_new_episode_has_no_frame_no_condition_and_no_past(line: Line):
    loop, system = new_loop(line), FakeSystem()
    loop.reset(0)
    for step in range(9):
        loop.observe(observation(step))
        loop.refresh(system)
    loop.reset(1)
    assert not loop.refresh(system)
    with pytest.raises(RuntimeError, match="has seen no frame of this episode"):
        loop.condition()
    loop.observe(observation(200))
    with pytest.raises(TimeoutError, match="no condition for episode 1"):
        loop.condition()
    assert loop.refresh(system)
    assert ((system.clips[-1]["motion"].grid + 1) * 127.5).round().unique().tolist() == [200]


def test_failures_are_counted_in_a_row_and_in_their_own_episode(line: Line):
    loop, system, error = new_loop(line), FakeSystem(), ValueError("a broken lens")
    for episode in range(2):
        loop.reset(episode)
        loop.observe(observation(0))
        for pause_s in (0.1, 0.2):
            with pytest.raises(ZeroDivisionError):
                loop.refresh(Broken())
            assert loop.failed(error) == pause_s
    assert loop.refresh(system)
    assert loop.incidents.counts == {"system2_failed": 4}
    for step in range(1, 9):  # a success ended the row
        loop.observe(observation(step))
    for pause_s in (0.1, 0.2, 0.4, 0.8):
        with pytest.raises(ZeroDivisionError):
            loop.refresh(Broken())
        assert loop.failed(error) == pause_s
    assert loop.condition().version == 1, "the last condition stays"


def test_three_failures_before_the_first_condition_end_an_episode(line: Line):
    loop = new_loop(line)
    loop.reset(0)
    loop.observe(observation(0))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            loop.refresh(Broken())
        loop.failed(ValueError("a broken lens"))
    with pytest.raises(System2Error, match="failed 3 times in a row: ValueError: a broken lens"):
        loop.condition()


def test_a_failure_of_the_episode_before_is_noted_and_does_not_count(line: Line):
    loop, system = new_loop(line), FakeSystem()

    class ResetsMeanwhile(FakeSystem):
        def perceive(self, clips, instruction):
            loop.reset(1)
            loop.observe(observation(0))
            raise ZeroDivisionError

    loop.reset(0)
    loop.observe(observation(0))
    with pytest.raises(ZeroDivisionError):
        loop.refresh(ResetsMeanwhile())
    assert loop.failed(ZeroDivisionError()) == 0.0, "no pause"
    assert loop.refresh(system)
    assert loop.condition().episode == 1


def test_what_was_seen_of_the_episode_before_is_dropped(line: Line):
    loop = new_loop(line)

    class ResetsMeanwhile(FakeSystem):
        def perceive(self, clips, instruction):
            loop.reset(1)
            loop.observe(observation(50))
            return super().perceive(clips, instruction)

    loop.reset(0)
    loop.observe(observation(7))
    loop.refresh(ResetsMeanwhile())
    with pytest.raises(TimeoutError):
        loop.condition()
    assert loop.refresh(FakeSystem())
    assert loop.condition().tokens.data.item() == 50


def test_a_hang_is_one_incident_while_it_lasts(line: Line):
    loop = new_loop(line)
    loop.reset(0)
    for step, hangs in enumerate(("", "it hangs", "it hangs", "", "it hangs")):
        line.hangs = hangs
        loop.observe(observation(step))
    assert loop.incidents.counts == {"system2_hangs": 2}


class Broken(FakeSystem):
    def perceive(self, clips, instruction):
        raise ZeroDivisionError


def test_a_clip_begins_with_its_own_episode_however_late_it_is_read(line: Line):
    """MOTION has 5 frames, one in 2 control steps: 9 control steps."""
    loop, system = new_loop(line), FakeSystem()
    for episode, steps in enumerate((range(100, 110), range(10, 13))):
        loop.reset(episode)
        for step in steps:
            loop.observe(observation(step))
    assert loop.refresh(system)
    frames = ((system.clips[-1]["motion"].grid[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()
    assert frames == [10, 10, 10, 10, 12]


def test_no_more_frames_wait_than_a_clip_goes_back(line: Line):
    loop, history = new_loop(line), FrameHistory((MOTION,))
    loop.reset(0)
    for step in range(100):
        loop.observe(observation(step))
        history.append(observation(step))
    assert len(loop._waiting) == history.span
    assert torch.equal(loop.clips()[0]["motion"].grid, history.clips(FPS)["motion"].grid)


@pytest.mark.parametrize("every", [1, 2, 3, 4])
@pytest.mark.parametrize("pause", [1, 3, 7, 20])
def test_a_stream_that_looks_seldom_sees_the_same_in_a_loop_that_is_late(line: Line, every: int, pause: int):
    """Frames between two refreshes may be skipped, but none that a clip of `every` > 1 goes back to."""
    spec = RefreshSpec((replace(MOTION, every=every, stride=3),), 1, FPS)
    loop, history = ThreadSlowLoop(line, spec), FrameHistory(spec.streams)
    loop.reset(0)
    for step in range(60):
        loop.observe(observation(step))
        history.append(observation(step))
        if step % pause == 0:
            assert torch.equal(loop.clips()[0]["motion"].grid, history.clips(FPS)["motion"].grid)
