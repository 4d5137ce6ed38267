"""One episode from reset to the end: what is called when, at what rate, and what never reaches the robot."""

from dataclasses import replace

import numpy as np
import pytest
from runtime_fakes import FPS, MOTION, FakeEnvironment, FakeSystem, GatedSystem

from video2act.interfaces import Decision
from video2act.refresh_rule import RefreshSpec
from video2act.runtime import control_loop
from video2act.runtime.control_loop import Pace, run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Observation, Step, VideoCondition
from video2act.viz.recorder import Recorder


class Notebook:
    """A watcher that writes everything down."""

    def __init__(self) -> None:
        self.resets = 0
        self.steps: list[tuple[float, np.ndarray, float, bool]] = []

    def on_reset(self, observation: Observation) -> None:
        self.resets += 1

    def on_step(self, observation: Observation, decision: Decision) -> None:
        condition = decision.plan.condition
        assert condition is not None
        self.steps.append((observation.time, decision.action, condition.observed_at, decision.is_new_plan))


def make_policy(system: FakeSystem, refresh_every: int = 4) -> DualPolicy:
    return DualPolicy(
        system, InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS))
    )


def test_every_step_is_observed_and_a_plan_is_made_when_due():
    environment, notebook = FakeEnvironment(num_steps=10), Notebook()
    result = run_episode(environment, Runner(make_policy(FakeSystem()), execute_steps=3), seed=0, watchers=[notebook])
    assert (result.success, result.num_steps, result.missed_deadlines) == (True, 10, 0)
    assert len(result.environment_step_s) == 10
    assert [round(step.plan_age_s * FPS) for step in result.steps] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert [step.condition_version for step in result.steps] == [1, 1, 1, 1, 1, 1, 2, 2, 2, 3]
    assert not any(step.is_held or step.is_clamped or step.is_late for step in result.steps)
    assert [bool(new) for *_, new in notebook.steps] == [i % 3 == 0 for i in range(10)]
    # each action was meant for the very step it was executed at
    assert [action[0] for action in environment.actions] == list(range(10))
    # System 2 refreshed at steps 0, 4, 8; a plan keeps the condition it was made on
    assert [round(seen * FPS) for _, _, seen, _ in notebook.steps] == [0, 0, 0, 0, 0, 0, 4, 4, 4, 8]
    assert notebook.resets == 1


def test_a_success_is_not_forgotten_when_the_episode_goes_on():
    class SucceedsEarly(FakeEnvironment):
        def step(self, action):
            step = super().step(action)
            return type(step)(step.observation, step.done, success=len(self.actions) == 3)

    assert run_episode(SucceedsEarly(), Runner(make_policy(FakeSystem()), execute_steps=2), seed=0).success


def test_what_watchers_keep_does_not_change_with_the_environment():
    """An environment that draws each frame into the same memory made films and traces of its last frame alone."""

    class SameMemory(FakeEnvironment):
        def __init__(self, num_steps: int):
            super().__init__(num_steps)
            self.image, self.state = np.zeros((8, 8, 3), np.uint8), np.zeros(2, np.float32)

        def seen(self, found: Observation) -> Observation:
            self.image[:], self.state[:] = found.images["top"], found.state
            return replace(found, images={"top": self.image}, state=self.state)

        def reset(self, seed: int) -> Observation:
            return self.seen(super().reset(seed))

        def step(self, action: np.ndarray) -> Step:
            step = super().step(action)
            return replace(step, observation=self.seen(step.observation))

    class First:
        def on_reset(self, observation: Observation) -> None:
            self.observation = observation

        def on_step(self, observation: Observation, decision: Decision) -> None: ...

    recorder, first = Recorder((), FPS, explain=lambda clips, instruction: {}), First()
    run_episode(SameMemory(6), Runner(FakeSystem()), seed=0, watchers=[recorder, first])
    assert recorder.recording().frames["top"][:, 0, 0, 0].tolist() == list(range(6))
    assert recorder.trace().states[:, 0].tolist() == list(range(6))
    assert first.observation.images["top"].max() == first.observation.state.max() == 0


class Diverging(FakeSystem):
    """Plans a number that is not finite, from one control step on."""

    def __init__(self, first_bad_step: int):
        super().__init__()
        self.first_bad_step = first_bad_step

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        chunk = super().act(observation, condition)
        if observation.state[0] >= self.first_bad_step:
            chunk.actions[1, 1] = np.nan
        return chunk


def test_a_first_plan_that_is_not_finite_is_an_error_and_nothing_reaches_the_robot():
    environment = FakeEnvironment()
    with pytest.raises(ValueError, match="dimension 1 of action 1; nothing of this plan was sent"):
        run_episode(environment, Runner(make_policy(Diverging(0)), execute_steps=2), seed=0)
    assert environment.actions == []


def test_a_later_plan_that_is_not_finite_never_reaches_the_robot():
    environment, policy = FakeEnvironment(), make_policy(Diverging(4))
    runner = Runner(policy, execute_steps=2)
    result = run_episode(environment, runner, seed=0)
    # the plan of step 2 goes on to its end, then its last target is held
    assert [action[0] for action in environment.actions] == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]
    assert [step.is_held for step in result.steps] == [False] * 6 + [True] * 4
    assert "the policy planned nan for dimension 1" in runner.incidents[0].text
    assert any("spent" in said.text for said in runner.incidents)


class FakeClock:
    """A clock that moves when someone sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_late_step_is_counted_and_never_caught_up_with_a_burst(monkeypatch: pytest.MonkeyPatch):
    clock = FakeClock()
    monkeypatch.setattr(control_loop, "time", clock)
    pace, starts = Pace(rate_hz=10.0), []
    for work_s in (0.02, 0.35, 0.02, 0.02, 0.02):
        starts.append(clock.now)
        clock.now += work_s
        pace.wait()
    assert pace.missed_deadlines == 1
    assert np.diff(starts) == pytest.approx([0.1, 0.35, 0.1, 0.1])


def test_the_rate_is_kept_on_the_real_clock():
    result = run_episode(
        FakeEnvironment(num_steps=10), Runner(make_policy(FakeSystem()), execute_steps=2), seed=0, rate_hz=100.0
    )
    assert result.duration_s >= 0.099


def test_a_step_lasts_from_its_beginning_to_that_of_the_next_and_may_be_late():
    environment = FakeEnvironment(num_steps=5, step_s=0.03)
    slow, free = (
        run_episode(environment, Runner(make_policy(FakeSystem()), execute_steps=2), seed=0, rate_hz=rate_hz)
        for rate_hz in (FPS, None)
    )
    for result, is_late in ((slow, True), (free, False)):
        assert [step.is_late for step in result.steps] == [is_late] * 5
        assert result.missed_deadlines == 5 * is_late
        assert min(step.period_s for step in result.steps) >= 0.03
        assert sum(step.period_s for step in result.steps) <= result.duration_s


def test_a_rate_must_be_positive():
    with pytest.raises(ValueError, match=r"got 0\.0; use None"):
        Pace(0.0)


def test_a_stuck_system_2_does_not_stop_the_robot():
    system = GatedSystem()
    policy = DualPolicy(
        system,
        ThreadSlowLoop(
            system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), first_condition_timeout_s=10.0
        ),
    )
    system.let_pass()  # the first condition only
    result = run_episode(FakeEnvironment(num_steps=40), Runner(policy, execute_steps=4), seed=0)
    assert result.num_steps == 40
    assert policy.times.staleness_s == pytest.approx([i * 4 / FPS for i in range(10)])
    system.let_pass(2)
    policy.close()
