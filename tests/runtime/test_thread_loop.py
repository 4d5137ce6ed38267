"""One System 2 for many: in turn, on what is newest, and each to its own."""

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, assert_closing_wakes, observation, wait_until

from video2act.interfaces import System2Error
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.failures import ATTEMPTS
from video2act.runtime.slow_loop import SlowLoop
from video2act.runtime.thread_loop import System2Worker, ThreadSlowLoop
from video2act.types import Tokens, Video


@pytest.fixture
def gated() -> GatedSystem:
    return GatedSystem()


@pytest.fixture
def shared(gated: GatedSystem) -> Iterator[System2Worker]:
    shared = System2Worker(gated)
    yield shared
    gated.let_pass(1000)
    shared.close()


def loop_of(shared: System2Worker, refresh_every: int = 1, **timeouts: Any) -> ThreadSlowLoop:
    spec = RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS)
    return ThreadSlowLoop(shared, spec, **{"first_condition_timeout_s": 5.0, **timeouts})


def started(shared: System2Worker, first: int, **timeouts: Any) -> ThreadSlowLoop:
    """A loop whose episode has begun with frame `first`."""
    loop = loop_of(shared, **timeouts)
    loop.reset(0)
    loop.observe(observation(first))
    return loop


def token(loop: ThreadSlowLoop) -> int:
    return round(loop.condition().tokens.data.item())


def test_it_is_a_slow_loop(shared: System2Worker):
    assert isinstance(loop_of(shared), SlowLoop)


def test_everyone_gets_conditions_of_their_own_frames():
    shared = System2Worker(FakeSystem())
    loops = [started(shared, 10 * number) for number in range(20)]
    assert [token(loop) for loop in loops] == [10 * number for number in range(20)]
    assert shared.num_refreshes == 20
    shared.close()


def test_they_are_served_in_turn_and_on_what_is_newest_then(shared: System2Worker, gated: GatedSystem):
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
    shared = System2Worker(system)
    loop = loop_of(shared, refresh_every=4)
    loop.reset(0)
    for step in range(9):
        loop.observe(observation(step))
        if step % 4 == 0:
            wait_until(lambda step=step: system.newest_frames[-1:] == [step])
    shared.close()
    assert system.newest_frames == [0, 4, 8]


def test_only_the_first_condition_is_waited_for(shared: System2Worker, gated: GatedSystem):
    loop = started(shared, 0)
    gated.let_pass()
    assert token(loop) == 0
    loop.observe(observation(1))
    began = time.perf_counter()
    assert token(loop) == 0
    assert time.perf_counter() - began < 1.0


def test_what_was_under_way_at_a_reset_is_dropped(shared: System2Worker, gated: GatedSystem):
    loop = started(shared, 7)
    gated.has_started.acquire()
    loop.reset(1)
    loop.observe(observation(50))
    gated.let_pass(2)
    condition = loop.condition()
    assert (condition.episode, condition.tokens.data.item()) == (1, 50.0)


def test_hundreds_of_resets_under_load_never_show_another_episode():
    shared = System2Worker(FakeSystem())
    loops = [loop_of(shared) for _ in range(4)]
    for episode in range(400):
        loop = loops[episode % 4]
        loop.reset(episode)
        for step in range(episode % 3 + 1):
            loop.observe(observation((episode + step) % 256))
        if episode % 5 == 0:
            condition = loop.condition()
            assert condition.episode == episode
            assert (round(condition.tokens.data.item()) - episode) % 256 < 3
    shared.close()


class Away(FakeSystem):
    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        raise ConnectionError("nobody listens")


@pytest.mark.parametrize("where", ["thread", "a shared thread", "ws://robot:8000"])
def test_closing_wakes_who_waits_for_the_first_condition(where: str):
    """It waited on, up to `first_condition_timeout_s`, and then heard that System 2 hangs or is away."""
    ends = threading.Event()
    system = System2Worker(Away()) if where == "a shared thread" else Away()
    spec = RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)
    loop = ThreadSlowLoop(system, spec, first_condition_timeout_s=30.0, where=where, end_system=ends.set)
    assert_closing_wakes(loop)
    assert ends.is_set()
    if isinstance(system, System2Worker):
        system.close()


def test_a_closed_loop_gives_no_condition():
    """The last one was given on, while `observe` refused."""
    loop = ThreadSlowLoop(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    loop.reset(0)
    loop.observe(observation(0))
    assert token(loop) == 0
    loop.close()
    with pytest.raises(RuntimeError, match="has been closed"):
        loop.condition()


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
    shared = System2Worker(FailingSystem(ATTEMPTS - 1))
    loop = started(shared, 5)
    assert token(loop) == 5
    texts = [incident.text for incident in loop.incidents]
    assert texts == [
        f"System 2 (thread): OutOfMemoryError: CUDA out of memory; next attempt in {pause} s" for pause in (0.1, 0.2)
    ]
    assert shared.num_failures == ATTEMPTS - 1
    shared.close()


class SlowlyFailingSystem(FakeSystem):
    """Each refresh fails, after several control steps."""

    def __init__(self, error: type[Exception]):
        super().__init__()
        self.error = error
        self.attempts: list[float] = []

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        self.attempts.append(time.monotonic())
        time.sleep(0.02)
        raise self.error("no")


def observe_for(loop: ThreadSlowLoop, seconds: float) -> None:
    for step in range(1, int(200 * seconds)):
        loop.observe(observation(step))
        time.sleep(0.005)


def test_the_pause_after_a_failure_holds_though_frames_come_while_the_refresh_fails():
    """The loop asked again during the refresh, and so was tried again at once, for ever."""
    system = SlowlyFailingSystem(RuntimeError)
    shared = System2Worker(system)
    observe_for(started(shared, 0), 0.6)
    pauses = [later - earlier - 0.02 for earlier, later in pairwise(system.attempts)]
    assert len(pauses) >= 1
    assert all(pause >= expected for pause, expected in zip(pauses, (0.1, 0.2, 0.4), strict=False)), pauses
    shared.close()


def test_a_failure_that_is_final_is_not_tried_again_though_frames_come_meanwhile():
    system = SlowlyFailingSystem(System2Error)
    shared = System2Worker(system)
    observe_for(started(shared, 0), 0.3)
    assert len(system.attempts) == 1
    shared.close()


def test_a_first_condition_that_fails_again_and_again_is_an_error_of_that_client_only():
    shared = System2Worker(FailingSystem(ATTEMPTS))
    with pytest.raises(RuntimeError, match="failed 3 times in a row: OutOfMemoryError: CUDA out of memory"):
        token(started(shared, 5))
    assert token(started(shared, 6)) == 6
    shared.close()


def test_a_first_condition_that_does_not_come_is_an_error_within_bounds(gated: GatedSystem):
    shared = System2Worker(gated)
    loop = started(shared, 0, first_condition_timeout_s=0.2)
    with pytest.raises(
        TimeoutError, match=r"no condition for episode 0 within 0.2 s; it hangs, is away, serves too many clients"
    ):
        loop.condition()
    gated.let_pass()
    shared.close()


def test_a_closed_client_is_not_worked_for(shared: System2Worker, gated: GatedSystem):
    first, second = started(shared, 0), started(shared, 100)
    gated.has_started.acquire()
    second.close()
    gated.let_pass(5)
    assert token(started(shared, 50)) == 50  # stood in line behind the closed one
    assert gated.newest_frames == [0, 50]
    assert shared.num_refreshes == 2
    assert token(first) == 0


def test_the_worker_ends(gated: GatedSystem):
    shared = System2Worker(gated)
    shared.close()
    assert not any(thread.name == "system2" and thread is shared._thread for thread in threading.enumerate())


def test_observe_comes_before_condition(shared: System2Worker):
    loop = loop_of(shared)
    loop.reset(0)
    with pytest.raises(RuntimeError, match="call observe before condition"):
        loop.condition()


def test_a_refresh_that_hangs_is_noticed_told_and_left_behind(gated: GatedSystem):
    """Nobody noticed, and a server closed only after a minute, by an error."""
    shared = System2Worker(gated, hang_timeout_s=0.05)
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
    shared = System2Worker(gated, hang_timeout_s=60.0)
    started(shared, 0)
    gated.has_started.acquire()
    began = time.monotonic()
    shared.close()
    assert time.monotonic() - began < 2.0
    gated.let_pass(2)
