"""The rule itself: pure, so that every case is one line."""

from dataclasses import replace

import pytest
from runtime_fakes import FPS, MOTION, observation

from video2act.refresh_rule import LONGEST_PAUSE_S, Frame, RefreshRule, RefreshSpec, pause_s


def frame(control_step: int, episode: int = 0, instruction: str = "push") -> Frame:
    return Frame(observation(control_step, instruction), episode, control_step)


def test_the_first_frame_is_due_and_then_every_n_steps():
    rule, due = RefreshRule(3), []
    for step in range(10):
        if rule.is_due(frame(step)):
            due.append(step)
            rule = rule.after(frame(step))
    assert due == [0, 3, 6, 9]


def test_a_failed_refresh_stays_due():
    rule = RefreshRule(4).after(frame(0))
    assert [step for step in range(1, 8) if rule.is_due(frame(step))] == [4, 5, 6, 7]


def test_a_loop_that_has_fallen_behind_skips_what_it_missed():
    rule = RefreshRule(4).after(frame(0))
    assert rule.is_due(frame(17))
    rule = rule.after(frame(17))
    assert [step for step in range(18, 26) if rule.is_due(frame(step))] == [21, 22, 23, 24, 25]


def test_another_episode_and_another_instruction_are_due_at_once():
    rule = RefreshRule(100).after(frame(5))
    assert not rule.is_due(frame(6))
    assert rule.is_due(frame(0, episode=1))
    assert rule.is_due(frame(6, instruction="pull"))


def test_pauses_double_with_every_failure_in_a_row_and_end_somewhere():
    assert [pause_s(failures) for failures in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert pause_s(10**6) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("wrong", "message"), [({"refresh_every": 0}, "at least 1, got 0"), ({"control_fps": 0.0}, "fps")]
)
def test_a_rate_that_is_none_is_refused(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        replace(RefreshSpec((MOTION,), 1, FPS), **wrong)
