"""System 2 in a process of its own: what crosses, and what happens when it raises, hangs or is killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_fakes import FPS, MOTION, assert_closing_wakes, observation, wait_until
from system2_in_a_process import cannot_be_built, counting, dies_at_once, ends_early, obedient, threads_and_niceness

from video2act.refresh_rule import RefreshSpec
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.process_worker import pack, unpack
from video2act.types import Observation, Tokens, VideoCondition

Start = Callable[..., ProcessSlowLoop]


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes process loops and ends their processes after the test."""
    loops: list[ProcessSlowLoop] = []

    def make(build, refresh_every: int = 1, **keywords) -> ProcessSlowLoop:
        loops.append(
            ProcessSlowLoop(
                build,
                RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS),
                instruction="push",
                **keywords,
            )
        )
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


def newest_number(condition: VideoCondition) -> int:
    number = round(condition.observed_at * FPS)
    assert int(condition.tokens.data[0, 0, 0]) == number % 256, "the frame is not of the moment in its stamp"
    return number


def feed_until(
    loop: ProcessSlowLoop, is_true: Callable[[VideoCondition], bool], first: int, timeout_s: float = 30.0
) -> int:
    """Observe at the control rate until the condition is as wanted; returns the next control step."""
    step, end = first, time.monotonic() + timeout_s
    while time.monotonic() < end:
        loop.observe(observation(step))
        if is_true(loop.condition()):
            return step + 1
        step += 1
        time.sleep(1 / FPS)
    raise AssertionError(f"what was waited for did not happen; incidents: {loop.incidents}")


def test_frames_go_out_and_stamped_tokens_come_back(start: Start):
    loop = start(counting)
    loop.reset(7)
    loop.observe(observation(0))
    first = loop.condition()
    assert (first.episode, first.observed_at, first.version, newest_number(first)) == (7, 0.0, 1, 0)
    feed_until(loop, lambda c: newest_number(c) >= 20, first=1)
    condition = loop.condition()
    assert condition.version > 1
    assert condition.observed_at == pytest.approx(newest_number(condition) / FPS)
    # the clip goes back 4 strides of 2 control steps, whether or not System 2 ever looked at those frames
    assert int(condition.tokens.data[0, 1, 0]) == (newest_number(condition) - 8) % 256
    # a reset: frames of the old episode are out of the clip
    loop.reset(8)
    loop.observe(observation(100))
    condition = loop.condition()
    assert condition.episode == 8
    assert condition.tokens.data.ravel().tolist() == [100, 100]
    # cameras of another size, as in the next of several environments
    loop.reset(9)
    large = observation(50)
    frame = np.kron(large.images["top"], np.ones((2, 2, 1), np.uint8))
    loop.observe(Observation({"top": frame}, large.state, large.instruction, large.time))
    assert newest_number(loop.condition()) == 50
    assert list(loop.incidents) == []
    assert loop.num_starts == 1


def test_it_leaves_cores_to_the_control_loop(start: Start):
    loop = start(threads_and_niceness)
    loop.reset(0)
    loop.observe(observation(0))
    threads, niceness = loop.condition().tokens.data.ravel().tolist()
    assert threads == max(1, (os.cpu_count() or 2) // 2)
    assert niceness > os.nice(0)


def test_system_2_killed_is_noticed_at_once_and_started_again_with_the_same_past(start: Start):
    loop = start(counting)
    loop.reset(0)
    step = feed_until(loop, lambda c: newest_number(c) >= 10, first=0)
    before = loop.condition()
    assert loop.pid is not None
    killed_at = time.monotonic()
    os.kill(loop.pid, signal.SIGKILL)
    wait_until(lambda: len(loop.incidents) > 0)
    # milliseconds where a core is free; in any case long before a hang would be suspected
    assert time.monotonic() - killed_at < 5.0
    assert "killed by signal 9; next attempt in 0.1 s" in loop.incidents[0].text
    # meanwhile the last condition is offered, and nothing waits
    loop.observe(observation(step))
    assert loop.condition().version >= before.version
    feed_until(loop, lambda c: newest_number(c) > step + 5, first=step + 1)
    assert loop.num_starts == 2
    condition = loop.condition()
    assert condition.version > before.version
    assert int(condition.tokens.data[0, 1, 0]) == (newest_number(condition) - 8) % 256


def test_system_2_hanging_is_noticed_within_its_timeout_and_replaced(start: Start, tmp_path: Path):
    orders = tmp_path / "orders"
    loop = start(partial(obedient, orders), hang_timeout_s=0.5)
    loop.reset(0)
    step = feed_until(loop, lambda c: newest_number(c) >= 5, first=0)
    orders.write_text("hang")
    began = time.monotonic()
    while not loop.incidents and time.monotonic() - began < 5:
        step += 1
        called = time.monotonic()
        loop.observe(observation(step))
        loop.condition()
        assert time.monotonic() - called < 0.2, "the control loop waited for a System 2 that hangs"
        time.sleep(1 / FPS)
    assert "no progress for 0.5 s; the process was killed" in loop.incidents[0].text
    assert loop.incidents[0].kind == "system2_hangs"
    assert time.monotonic() - began < 2
    orders.unlink()
    feed_until(loop, lambda c: newest_number(c) > step, first=step + 1)
    assert loop.num_starts == 2


def test_system_2_raising_mid_episode_is_noted_with_its_words_and_replaced(start: Start, tmp_path: Path):
    orders = tmp_path / "orders"
    loop = start(partial(obedient, orders))
    loop.reset(0)
    step = feed_until(loop, lambda c: newest_number(c) >= 5, first=0)
    orders.write_text("raise")
    wait_for_incident = feed_until(loop, lambda _: bool(loop.incidents), first=step)
    assert "ZeroDivisionError: a broken lens" in loop.incidents[0].text
    orders.unlink()
    feed_until(loop, lambda c: newest_number(c) > wait_for_incident, first=wait_for_incident)


def test_a_slow_refresh_is_no_hang(start: Start, tmp_path: Path):
    orders = tmp_path / "orders"
    loop = start(partial(obedient, orders), hang_timeout_s=5.0)
    loop.reset(0)
    loop.observe(observation(0))
    loop.condition()
    orders.write_text("sleep 0.3")
    # many more frames than a clip goes back pass during one refresh
    step = 1
    for step in range(1, 200):
        loop.observe(observation(step))
    feed_until(loop, lambda c: newest_number(c) >= 200, first=200)
    condition = loop.condition()
    assert int(condition.tokens.data[0, 1, 0]) == (newest_number(condition) - 8) % 256
    assert list(loop.incidents) == []


def test_a_system_2_that_cannot_be_built_is_an_error_at_once_with_its_traceback(start: Start):
    with pytest.raises(
        RuntimeError, match=r"(?s)could not be started in a process.*cannot_be_built.*runs/nowhere does not exist"
    ):
        start(cannot_be_built)


def test_one_that_died_before_it_was_given_its_priority_still_says_why(start: Start, monkeypatch: pytest.MonkeyPatch):
    def is_too_late(which: int, pid: int, priority: int) -> None:
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr("video2act.runtime.process_loop.os.setpriority", is_too_late)
    with pytest.raises(RuntimeError, match=r"(?s)cannot_be_built.*runs/nowhere does not exist"):
        start(cannot_be_built)


def test_an_error_that_looks_like_the_end_of_the_pipe_is_told_too(start: Start):
    with pytest.raises(RuntimeError, match=r"(?s)could not be started in a process.*the weights end early"):
        start(ends_early)


def test_a_system_2_that_dies_while_it_starts_is_an_error_at_once(start: Start):
    with pytest.raises(RuntimeError, match="killed by signal 9"):
        start(dies_at_once)


def test_closing_ends_the_process_even_if_it_hangs(tmp_path: Path):
    orders = tmp_path / "orders"
    loop = ProcessSlowLoop(
        partial(obedient, orders), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), instruction="push"
    )
    loop.reset(0)
    loop.observe(observation(0))
    loop.condition()
    orders.write_text("hang")
    loop.observe(observation(1))
    time.sleep(0.05)
    process = loop._system2.process
    assert process is not None
    began = time.monotonic()
    loop.close()
    assert time.monotonic() - began < 5
    assert not process.is_alive()
    with pytest.raises(RuntimeError, match="has been closed"):
        loop.observe(observation(2))


def test_closing_wakes_who_waits_for_the_first_condition(tmp_path: Path, start: Start):
    """It waited on, up to `first_condition_timeout_s`, although the process had ended."""
    orders = tmp_path / "orders"
    loop = start(partial(obedient, orders), first_condition_timeout_s=60.0)
    orders.write_text("hang")
    assert_closing_wakes(loop)


def test_tokens_cross_unchanged_whatever_their_dtype():
    tokens = Tokens(torch.randn(1, 3, 4, dtype=torch.bfloat16), torch.tensor([[True, False, True]]))
    came = unpack(pack(tokens))
    assert came.data.dtype == torch.bfloat16
    assert torch.equal(came.data, tokens.data)
    assert torch.equal(came.mask, tokens.mask)
