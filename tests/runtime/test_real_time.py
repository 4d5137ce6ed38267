"""A robot goes on in its own time: what is planned from is read when a control step begins, by both loops."""

from collections.abc import Callable

import numpy as np
import pytest
from runtime_fakes import FPS, FakeEnvironment, FakeSystem

from video2act.interfaces import Decision, Environment, RealTimeEnvironment
from video2act.runtime import control_loop
from video2act.runtime.control_loop import run_episode
from video2act.runtime.keys import QueuedKeys
from video2act.runtime.live import Live
from video2act.runtime.runner import Runner
from video2act.types import ActionChunk, Observation, Step, VideoCondition

NUM_STEPS = 12
Pairs = list[tuple[Observation, np.ndarray]]


class Clock:
    """Goes on when someone sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(control_loop, "time", clock)
    return clock


class Robot(FakeEnvironment):
    """Its state is its clock, in control steps; `step` returns at once."""

    def __init__(self, clock: Clock):
        super().__init__(NUM_STEPS)
        self.clock = clock
        self.sent: list[tuple[float, float]] = []
        """when, in control steps, and the action's first number"""
        self.num_observed = 0

    def look(self) -> Observation:
        image = np.zeros((8, 8, 3), np.uint8)
        state = np.array([self.ticks, 0], np.float32)
        return Observation({"top": image}, state, "push", self.clock.now)

    @property
    def ticks(self) -> float:
        return (self.clock.now - 100.0) * FPS

    def reset(self, seed: int) -> Observation:
        return self.look()

    def step(self, action: np.ndarray) -> Step:
        self.sent.append((self.ticks, float(action[0])))
        is_done = len(self.sent) == NUM_STEPS
        return Step(self.look(), is_done, is_done)

    def observe(self) -> Observation:
        self.num_observed += 1
        return self.look()


class Timed(FakeSystem):
    """Its action is the state that it was planned from."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock, self.ages_s = clock, list[float]()

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        self.ages_s.append(self.clock.now - observation.time)
        return super().act(observation, condition)


class Pairing:
    """A watcher that records."""

    def __init__(self) -> None:
        self.pairs: Pairs = []

    def on_reset(self, observation: Observation) -> None: ...

    def on_step(self, observation: Observation, decision: Decision) -> None:
        self.pairs.append((observation, decision.action))


def by_run_episode(robot: Environment, runner: Runner, rate_hz: float | None) -> tuple[Pairs, int]:
    watcher = Pairing()
    result = run_episode(robot, runner, seed=0, watchers=[watcher], rate_hz=rate_hz)
    return watcher.pairs, result.missed_deadlines


def by_live(robot: Environment, runner: Runner, rate_hz: float | None) -> tuple[Pairs, int]:
    live = Live(robot, runner, keys=QueuedKeys(), show=lambda status: None, jog=np.ones(2), rate_hz=rate_hz)
    episode = live.episode(0)
    return list(zip(episode.observations, episode.actions, strict=True)), episode.late_steps


@pytest.mark.parametrize("drive", [by_run_episode, by_live])
@pytest.mark.parametrize("rate_hz", [FPS, None])
def test_a_robot_is_observed_after_the_wait(
    clock: Clock, drive: Callable[..., tuple[Pairs, int]], rate_hz: float | None
):
    """Each plan was made from what `step` had returned before the wait, a control period old; a `step` that slept
    instead made every step late; and recorded pairs were shifted by one. Without a rate, all actions went at once."""
    robot, system = Robot(clock), Timed(clock)
    with Runner(system, execute_steps=1) as runner:
        pairs, late = drive(robot, runner, rate_hz)
    assert system.ages_s == [0.0] * NUM_STEPS
    assert late == 0
    assert np.array(robot.sent) == pytest.approx(np.repeat(np.arange(NUM_STEPS)[:, None], 2, axis=1), abs=1e-3)
    for (seen, action), (when, sent) in zip(pairs, robot.sent, strict=True):
        assert seen.state[0] == pytest.approx(when, abs=1e-3)
        assert action[0] == sent == seen.state[0]
    assert robot.num_observed == NUM_STEPS - 1, "not after the end"


def test_a_simulator_is_not_asked_again(clock: Clock):
    environment = FakeEnvironment(4)
    assert not isinstance(environment, RealTimeEnvironment)
    result = run_episode(environment, Runner(FakeSystem()), seed=0)
    assert (result.num_steps, clock.now) == (4, 100.0), "as fast as possible"


def test_what_a_robot_took_to_be_read_counts(clock: Clock):
    """An observation that takes longer than the period makes the step late."""

    class Slow(Robot):
        def observe(self) -> Observation:
            self.clock.now += 1.5 / FPS
            return super().observe()

    result = run_episode(Slow(clock), Runner(Timed(clock), execute_steps=1), seed=0)
    assert result.environment_step_s == pytest.approx([1.5 / FPS] * (NUM_STEPS - 1) + [0.0])
    assert result.missed_deadlines == NUM_STEPS - 1
