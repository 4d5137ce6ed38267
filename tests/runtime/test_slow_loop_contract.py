"""The contract of all six slow loops: the same control steps are due, whatever fails, resets or falls behind.

Each loop is started once and used for an episode per test.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from runtime_fakes import CONFIG, FPS, MOTION, FakeSystem, observation, wait_until
from system2_in_a_process import Counting, obedient

from video2act.clips import FrameHistory
from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.places import System2Source
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop
from video2act.runtime.thread_loop import System2Worker, ThreadSlowLoop
from video2act.runtime.virtual_clock import Durations, VirtualSlowLoop
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import System2Session

SPEC = RefreshSpec((MOTION,), refresh_every=4, control_fps=FPS)
SETTLED_S = 0.05
"""long enough for a refresh that must not happen to show"""
Make = Callable[[Path, ExitStack], SlowLoop]


def inline(orders: Path, ending: ExitStack) -> SlowLoop:
    return InlineSlowLoop(Counting(orders), SPEC)


def virtual(orders: Path, ending: ExitStack) -> SlowLoop:
    return VirtualSlowLoop(Counting(orders), SPEC, durations=Durations(SimulatedLatency()))


def thread(orders: Path, ending: ExitStack) -> SlowLoop:
    return ThreadSlowLoop(Counting(orders), SPEC)


def process(orders: Path, ending: ExitStack) -> SlowLoop:
    return ProcessSlowLoop(partial(obedient, orders), SPEC, instruction="push")


def shared(orders: Path, ending: ExitStack) -> SlowLoop:
    worker = System2Worker(Counting(orders))
    ending.callback(worker.close)
    return ThreadSlowLoop(worker, SPEC)


def remote(orders: Path, ending: ExitStack) -> SlowLoop:
    contract, system = replace(Contract.of(CONFIG, "system2"), token_dim=0), Counting(orders)
    server = Server(lambda: System2Session(system.perceive, contract), contract.to_metadata(), port=0)
    address = ending.enter_context(server.running()).address
    return System2Source(SPEC, RuntimeConfig()).start(address, FakeSystem())


LOOPS: dict[str, Make] = {make.__name__: make for make in (inline, virtual, thread, process, shared, remote)}
BESIDE = ("thread", "process", "shared", "remote")


@dataclass
class Subject:
    """A loop that is driven one control step at a time."""

    name: str
    loop: SlowLoop
    orders: Path
    episodes: Iterator[int] = field(default_factory=count)

    def begin(self) -> None:
        self.orders.unlink(missing_ok=True)
        self.loop.reset(next(self.episodes))

    def observe(self, step: int, instruction: str = "push") -> None:
        with suppress(ZeroDivisionError):  # an error of System 2 in the control loop is the caller's
            self.loop.observe(observation(step, instruction))

    def refreshed(self) -> int:
        """The frame of the newest condition."""
        return round(self.loop.condition().observed_at * FPS)

    def refreshes_at(self, step: int, instruction: str = "push") -> bool:
        """Whether the next frame is refreshed on."""
        self.observe(step, instruction)
        if self.name in BESIDE:
            time.sleep(SETTLED_S)
        return self.refreshed() == step

    def wait_for(self, *steps: int) -> int:
        wait_until(lambda: self.refreshed() in steps, timeout_s=60.0)
        return self.refreshed()


@pytest.fixture(scope="module", params=LOOPS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    orders = tmp_path_factory.mktemp(request.param) / "orders"
    with ExitStack() as ending:
        loop = LOOPS[request.param](orders, ending)
        ending.callback(loop.close)
        yield Subject(request.param, loop, orders)


@pytest.fixture
def subject(started: Subject) -> Subject:
    started.begin()
    return started


def test_a_refresh_every_n_steps_and_at_no_other(subject: Subject):
    for step in range(10):
        if step % 4 == 0:
            subject.observe(step)
            subject.wait_for(step)
        else:
            assert not subject.refreshes_at(step)


def test_after_a_failure_the_refresh_stays_due(subject: Subject):
    """Some loops tried again at once; the shared one waited for n steps."""
    subject.observe(0)
    subject.wait_for(0)
    for step in (1, 2, 3):
        subject.observe(step)
    noted = subject.loop.incidents.total
    subject.orders.write_text("raise")
    subject.observe(4)
    if subject.name in BESIDE:
        wait_until(lambda: subject.loop.incidents.total > noted, timeout_s=60.0)
        assert subject.loop.incidents[-1].kind == "system2_failed"
    subject.orders.unlink()
    assert subject.refreshed() == 0, "what failed gives no condition"
    time.sleep(0.15)  # the first pause
    subject.observe(5)
    refreshed = subject.wait_for(4, 5)  # 4: the retry came before the next frame
    for step in range(6, refreshed + 4):
        assert not subject.refreshes_at(step)
    subject.observe(refreshed + 4)
    subject.wait_for(refreshed + 4)


def test_a_reset_makes_the_first_frame_due(subject: Subject):
    for step in (0, 1):
        subject.observe(step)
    subject.wait_for(0, 1)
    subject.begin()
    with pytest.raises(RuntimeError, match="no frame of this episode"):
        subject.loop.condition()
    subject.observe(50)
    assert subject.wait_for(50) == 50
    assert subject.loop.condition().version == 1
    assert not subject.refreshes_at(51)


def test_another_instruction_is_due_at_once(subject: Subject):
    subject.observe(0)
    subject.wait_for(0)
    assert not subject.refreshes_at(1)
    subject.observe(2, "pull")
    subject.wait_for(2)
    assert not subject.refreshes_at(3, "pull")


def test_one_that_has_fallen_behind_skips_and_does_not_catch_up(subject: Subject):
    if subject.name not in BESIDE:
        pytest.skip("the robot waits for it, so it cannot fall behind")
    subject.observe(0)
    subject.wait_for(0)
    before = len(subject.loop.perceive_s)
    subject.orders.write_text("sleep 0.4")
    for step in range(1, 5):
        subject.observe(step)
    time.sleep(0.2)  # the refresh of step 4 has begun
    for step in range(5, 24):
        subject.observe(step)
    subject.wait_for(23)
    subject.orders.unlink()
    assert len(subject.loop.perceive_s) == before + 2  # of steps 4 and 23: the four between are not made up for
    for step in range(24, 27):
        assert not subject.refreshes_at(step)
    subject.observe(27)
    subject.wait_for(27)


def test_simulated_latency_skips_too():
    """10 control steps of latency: begun at 4, there at 14, when two more would have been due."""
    loop = VirtualSlowLoop(Counting(), SPEC, durations=Durations(SimulatedLatency(system2=10 / FPS)))
    loop.reset(0)
    seen = []
    for step in range(30):
        loop.observe(observation(step))
        seen.append(round(loop.condition().observed_at * FPS))
    assert seen == [0] * 14 + [4] * 10 + [14] * 6


def test_the_clips_are_those_of_the_newest_frame(subject: Subject):
    """What `when_stale="inline"` refreshes on, without a second history of frames beside the loop's own."""
    history = FrameHistory((MOTION,))
    for step in range(13):
        subject.observe(step)
        history.append(observation(step))
    (mine, theirs) = (clips["motion"] for clips in (history.clips(FPS), subject.loop.clips()[0]))
    assert (mine.grid == theirs.grid).all()
    assert mine.fps == theirs.fps
