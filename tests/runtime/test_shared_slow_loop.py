"""One System 2 for many: in turn, on what is newest, and each to its own."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, observation, wait_until

from video2act.refresh_rule import ATTEMPTS, RefreshSpec
from video2act.runtime.shared_slow_loop import SharedSlowLoop, SharedSystem2
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import Tokens, Video


@pytest.fixture
def gated() -> GatedSystem:
    return GatedSystem()


@pytest.fixture
def shared(gated: GatedSystem) -> Iterator[SharedSystem2]:
    shared = SharedSystem2(
        gated, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), first_condition_timeout_s=5.0
    )
    yield shared
    gated.let_pass(1000)
    shared.close()


def started(shared: SharedSystem2, first: int) -> SharedSlowLoop:
    """A loop whose episode has begun with frame `first`."""
    loop = shared.new_loop()
    loop.reset(0)
    loop.observe(observation(first))
    return loop


def token(loop: SharedSlowLoop) -> int:
    return round(loop.condition(observation(0)).tokens.data.item())


def test_it_is_a_slow_loop(shared: SharedSystem2):
    assert isinstance(shared.new_loop(), SlowLoop)


def test_everyone_gets_conditions_of_their_own_frames():
    shared = SharedSystem2(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    loops = [started(shared, 10 * number) for number in range(20)]
    assert [token(loop) for loop in loops] == [10 * number for number in range(20)]
    assert shared.num_refreshes == 20
    shared.close()


def test_they_are_served_in_turn_and_on_what_is_newest_then(shared: SharedSystem2, gated: GatedSystem):
    first = started(shared, 0)
    gated.has_started.acquire()
    second = started(shared, 100)
    for step in range(1, 5):  # asks again and again, but stands in line once
        first.observe(observation(step))
    for step in range(101, 103):
        second.observe(observation(step))
    gated.let_pass(3)
    wait_until(lambda: gated.newest_frames == [0, 102, 4])


def test_it_refreshes_at_most_every_n_steps():
    system = FakeSystem()
    shared = SharedSystem2(system, RefreshSpec((MOTION,), refresh_every=4, control_fps=FPS))
    loop = shared.new_loop()
    loop.reset(0)
    for step in range(9):
        loop.observe(observation(step))
        if step % 4 == 0:
            wait_until(lambda step=step: system.newest_frames[-1:] == [step])
    shared.close()
    assert system.newest_frames == [0, 4, 8]


def test_only_the_first_condition_is_waited_for(shared: SharedSystem2, gated: GatedSystem):
    loop = started(shared, 0)
    gated.let_pass()
    assert token(loop) == 0
    loop.observe(observation(1))
    began = time.perf_counter()
    assert token(loop) == 0
    assert time.perf_counter() - began < 1.0


def test_what_was_under_way_at_a_reset_is_dropped(shared: SharedSystem2, gated: GatedSystem):
    loop = started(shared, 7)
    gated.has_started.acquire()
    loop.reset(1)
    loop.observe(observation(50))
    gated.let_pass(2)
    condition = loop.condition(observation(50))
    assert (condition.episode, condition.tokens.data.item()) == (1, 50.0)


def test_a_thousand_resets_under_load_never_show_another_episode():
    shared = SharedSystem2(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    loops = [shared.new_loop() for _ in range(4)]
    for episode in range(1000):
        loop = loops[episode % 4]
        loop.reset(episode)
        for step in range(episode % 3 + 1):
            loop.observe(observation((episode + step) % 256))
        if episode % 5 == 0:
            condition = loop.condition(observation(episode))
            assert condition.episode == episode
            assert (round(condition.tokens.data.item()) - episode) % 256 < 3
    shared.close()


class FailingSystem(FakeSystem):
    def __init__(self, failures: int):
        super().__init__()
        self.failures = failures

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        self.failures -= 1
        if self.failures >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().perceive(clips, instruction)


def test_a_failure_is_tried_again_and_noted():
    shared = SharedSystem2(FailingSystem(ATTEMPTS - 1), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    loop = started(shared, 5)
    assert token(loop) == 5
    texts = [incident.text for incident in loop.incidents]
    assert texts == ["System 2 failed: OutOfMemoryError: CUDA out of memory"] * (ATTEMPTS - 1)
    assert shared.num_failures == ATTEMPTS - 1
    shared.close()


def test_a_first_condition_that_fails_again_and_again_is_an_error_of_that_client_only():
    shared = SharedSystem2(FailingSystem(ATTEMPTS), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    with pytest.raises(RuntimeError, match="System 2 failed 3 times in a row: CUDA out of memory"):
        token(started(shared, 5))
    assert token(started(shared, 6)) == 6
    shared.close()


def test_a_first_condition_that_does_not_come_is_an_error_within_bounds(gated: GatedSystem):
    shared = SharedSystem2(
        gated, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), first_condition_timeout_s=0.2
    )
    loop = started(shared, 0)
    with pytest.raises(
        TimeoutError, match=r"no condition for episode 0 within 0.2 s; it hangs, serves too many clients"
    ):
        loop.condition(observation(0))
    gated.let_pass()
    shared.close()


def test_a_closed_client_is_not_worked_for(shared: SharedSystem2, gated: GatedSystem):
    first, second = started(shared, 0), started(shared, 100)
    gated.has_started.acquire()
    second.close()
    gated.let_pass(5)
    assert token(started(shared, 50)) == 50  # stood in line behind the closed one
    assert gated.newest_frames == [0, 50]
    assert shared.num_refreshes == 2
    assert token(first) == 0


def test_the_worker_ends(gated: GatedSystem):
    shared = SharedSystem2(
        gated, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), first_condition_timeout_s=5.0
    )
    shared.close()
    assert not any(thread.name == "system2" and thread is shared._worker for thread in threading.enumerate())


def test_observe_comes_before_condition(shared: SharedSystem2):
    loop = shared.new_loop()
    loop.reset(0)
    with pytest.raises(RuntimeError, match="call observe before condition"):
        loop.condition(observation(0))


def test_a_refresh_that_hangs_is_noticed_told_and_left_behind(gated: GatedSystem):
    """Nobody noticed, and a server closed only after a minute, by an error."""
    shared = SharedSystem2(gated, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), hang_timeout_s=0.05)
    loop = started(shared, 0)
    gated.has_started.acquire()
    assert shared.trouble() == ""
    wait_until(lambda: "one refresh of System 2 has taken" in shared.trouble())
    loop.observe(observation(1))
    loop.observe(observation(2))
    assert [incident.text.partition(" has")[0] for incident in loop.incidents] == ["one refresh of System 2"]
    shared.close()
    gated.let_pass(2)
    wait_until(lambda: shared.trouble() == "")


def test_a_refresh_that_hangs_does_not_keep_a_server_from_stopping(gated: GatedSystem):
    """It was waited for as long as a refresh may take before it counts as hanging."""
    shared = SharedSystem2(gated, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), hang_timeout_s=60.0)
    started(shared, 0)
    gated.has_started.acquire()
    began = time.monotonic()
    shared.close()
    assert time.monotonic() - began < 2.0
    gated.let_pass(2)
