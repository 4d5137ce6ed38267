"""What is sent at each control step: plans made beside the loop, stale conditions, unsound actions, broken clocks."""

import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runtime_fakes import FPS, MOTION, FakeEnvironment, FakeSystem, GatedSystem, observation

from video2act.config import RuntimeConfig
from video2act.interfaces import HoldError
from video2act.limits import Limits
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import EpisodeResult, run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.executor import Executor
from video2act.runtime.freshness import StaleConditionError
from video2act.runtime.guard import Guard
from video2act.runtime.planner import InlinePlanner
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Committed, Observation, VideoCondition

SPEC = FakeEnvironment().spec


class StuckAfterFirst(InlineSlowLoop):
    """System 2 understands the first frame and then nothing more."""

    def observe(self, observation: Observation) -> None:
        if self._condition is None:
            super().observe(observation)
        else:
            self._history.append(observation)


def drive(
    runtime: RuntimeConfig,
    system: FakeSystem | None = None,
    loop: SlowLoop | None = None,
    steps: int = 10,
    execute_steps: int = 2,
) -> tuple[EpisodeResult, list[float], DualPolicy, Runner]:
    system, environment = system or FakeSystem(), FakeEnvironment(steps)
    policy = DualPolicy(
        system,
        loop or InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
        cameras=(),
        runtime=runtime,
    )
    runner = Runner(policy, execute_steps=execute_steps, **vars(runtime))
    result = run_episode(environment, runner, seed=0)
    runner.close()
    return result, [float(action[0]) for action in environment.actions], policy, runner


class TestStaleness:
    """The condition is of step 0; at 50 Hz, 0.1 s are 5 control steps."""

    def stuck(self, system: FakeSystem | None = None) -> SlowLoop:
        return StuckAfterFirst(system or FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))

    def test_without_a_limit_any_age_will_do(self):
        result, actions, _, _ = drive(RuntimeConfig(), loop=self.stuck())
        assert actions == list(range(10))
        assert result.steps[-1].staleness_s == pytest.approx(9 / FPS)

    def test_hold_keeps_the_last_target_says_so_once_and_counts(self):
        result, actions, policy, runner = drive(RuntimeConfig(max_staleness_s=0.1), loop=self.stuck())
        assert actions == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5]
        assert [step.is_held for step in result.steps] == [False] * 6 + [True] * 4
        assert len(runner.incidents) == 1
        assert "0.120 s old, and max_staleness_s is 0.1" in runner.incidents[0].text
        assert max(policy.times.staleness_s) <= 0.1

    def test_error_ends_the_episode_with_age_and_limit(self):
        with pytest.raises(StaleConditionError, match=r"0\.120 s old, and max_staleness_s is 0\.1"):
            drive(RuntimeConfig(max_staleness_s=0.1, when_stale="error"), loop=self.stuck())

    def test_inline_refreshes_in_the_control_loop_and_is_marked(self):
        system = FakeSystem()
        result, actions, policy, _ = drive(
            RuntimeConfig(max_staleness_s=0.1, when_stale="inline"), system, loop=self.stuck(FakeSystem())
        )
        assert actions == list(range(10))
        assert system.newest_frames == [6, 8]
        assert [step.condition_version for step in result.steps] == [1] * 6 + [-1] * 2 + [-2] * 2
        assert [c.tokens.data.item() for c in system.conditions] == [0, 0, 0, 6, 8]
        assert len(policy.times.perceive_s) == 3

    def test_wait_gives_a_late_condition_its_chance_and_then_holds(self):
        loop = self.stuck()
        runtime = RuntimeConfig(max_staleness_s=0.1, when_stale="wait", slack_s=0.05)
        started = time.monotonic()
        result, _, _, runner = drive(runtime, loop=loop, steps=8)
        assert time.monotonic() - started >= 0.1  # two control steps waited
        assert [step.is_held for step in result.steps] == [False] * 6 + [True] * 2
        assert "nothing newer came within slack_s = 0.05" in runner.incidents[0].text

    def test_wait_takes_what_comes_in_time(self):
        class ComesLate(StuckAfterFirst):
            num_asked, newest = 0, 0.0

            def observe(self, observation: Observation) -> None:
                self.newest = observation.time
                super().observe(observation)

            def condition(self) -> VideoCondition:
                self.num_asked += 1
                condition = super().condition()
                return replace(condition, observed_at=self.newest, version=2) if self.num_asked > 6 else condition

        runtime = RuntimeConfig(max_staleness_s=0.1, when_stale="wait", slack_s=5.0)
        result, actions, _, _ = drive(
            runtime, loop=ComesLate(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
        )
        assert actions == list(range(10))
        assert {step.condition_version for step in result.steps} == {1, 2}


class TestPlansBesideTheLoop:
    def test_the_loop_never_waits_for_a_plan_but_the_first(self):
        class Slow(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                time.sleep(0.1)
                return super().act(observation, condition)

        system, environment = Slow(horizon=40), FakeEnvironment(60)
        runtime = RuntimeConfig(system1="thread")
        policy = DualPolicy(
            system,
            InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
            cameras=(),
            runtime=runtime,
        )
        runner = Runner(policy, execute_steps=4, **vars(runtime))
        result = run_episode(environment, runner, seed=0, rate_hz=FPS)
        runner.close()
        assert [float(a[0]) for a in environment.actions] == list(range(60)), (
            "each action at its own moment, none invented"
        )
        periods = sorted(step.period_s for step in result.steps[1:])
        # a loop that waited would take 0.1 s and more at every fourth step
        assert periods[len(periods) * 8 // 10] < 0.1
        assert 5 <= sum(step.is_new_plan for step in result.steps) <= 13

    def test_a_plan_in_the_making_at_a_reset_reaches_no_other_episode(self):
        gate, release = threading.Event(), threading.Event()

        class Held(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                if condition.episode == 0 and observation.state[0] > 0:
                    gate.set()
                    release.wait(5)
                return super().act(observation, condition)

        system = Held(horizon=50)
        runtime = RuntimeConfig(system1="thread")
        policy = DualPolicy(
            system,
            InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
            cameras=(),
            runtime=runtime,
        )
        runner = Runner(policy, execute_steps=1, **vars(runtime))
        runner.reset()
        for step in range(3):
            runner.step(observation(step))
            time.sleep(0.05)
        assert gate.wait(5)
        threading.Timer(0.1, release.set).start()
        runner.reset()
        runner.step(observation(0))
        decision = runner.decision
        assert decision is not None
        assert decision.plan.condition is not None
        assert decision.plan.condition.episode == 1
        assert decision.plan.chunk.observed_at == 0.0
        runner.close()

    def test_an_error_in_the_planner_reaches_the_control_loop(self):
        class Broken(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                raise ZeroDivisionError("no brain")

        with pytest.raises(ZeroDivisionError, match="no brain"):
            drive(RuntimeConfig(system1="thread"), Broken())


class Continuing(FakeSystem):
    """Remembers what it was to continue."""

    def __init__(self, horizon: int = 8):
        super().__init__(horizon)
        self.asked: list[tuple[list[float], int, float | None]] = []

    def continue_plan(
        self, observation: Observation, condition: VideoCondition, committed: Committed, guidance: float | None
    ) -> ActionChunk:
        self.asked.append((committed.actions[:, 0].tolist(), committed.num_frozen, guidance))
        return self.act(observation, condition)


class TestRealTimeChunking:
    @pytest.mark.parametrize(("overlap", "guidance"), [("rtc", 5.0), ("rtc_trained", None)])
    def test_a_plan_is_told_the_rest_of_the_one_before_it(self, overlap, guidance):
        system = Continuing()
        system.config = system.config.replace({"system1.max_delay_steps": 3})
        _, actions, _, _ = drive(RuntimeConfig(overlap=overlap), system, steps=6)
        assert actions == list(range(6))
        # made inline, a plan takes no time: nothing is frozen
        assert system.asked == [([2.0, 3, 4, 5, 6, 7], 0, guidance), ([4.0, 5, 6, 7, 8, 9], 0, guidance)]

    def test_planning_that_is_slower_than_in_training_begins_the_plan_anew(self):
        """The first plan is slow: the second one ended the robot's program."""

        class Slow(Continuing):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                time.sleep(0.2 if not self.conditions else 0.0)
                return super().act(observation, condition)

        system = Slow(horizon=60)
        system.config = system.config.replace({"horizon": 60, "system1.max_delay_steps": 4})
        with Runner(system, system1="thread", overlap="rtc_trained", execute_steps=2) as runner:
            runner.reset()
            for step in range(40):
                assert runner.step(observation(step))[0] == step
                time.sleep(0.005)
            assert runner.incidents.counts["planning_slow"] >= 1
            said = re.match(r"planning takes (\d+) control steps, training has shown 4", runner.incidents[0].text)
            assert said is not None
            assert int(said[1]) >= 11, "0.2 s, or more where the machine is busy"
            assert system.asked, "once the slow plan is forgotten, plans continue one another"
            assert all(num_frozen <= 4 for _, num_frozen, _ in system.asked)

    def test_a_policy_that_was_not_trained_to_continue_a_plan_is_refused_before_anything_moves(self):
        with pytest.raises(ValueError, match=r"was not trained to continue a plan.*choose overlap rtc"):
            drive(RuntimeConfig(overlap="rtc_trained"), Continuing())

    def test_a_system_that_cannot_continue_a_plan_is_refused_before_anything_moves(self):
        with pytest.raises(ValueError, match=r"'rtc' needs a system that can continue a plan, which FakeSystem cannot"):
            drive(RuntimeConfig(overlap="rtc"))

    def test_a_policy_that_cannot_begin_plans_is_refused(self):
        class Remote:
            def reset(self) -> None: ...
            def observe(self, observation: Observation) -> None: ...
            def infer(self, observation: Observation) -> ActionChunk:
                return ActionChunk(np.zeros((8, 2)), observation.time, 1 / FPS)

        policy, environment = Remote(), FakeEnvironment(6)
        with pytest.raises(ValueError, match="Remote cannot continue a plan"):
            Runner(policy, execute_steps=2, overlap="rtc")
        # and drives well without
        assert run_episode(environment, Runner(policy, execute_steps=2), seed=0).num_steps == 6


class TestGuard:
    LIMITS = Limits((0.0, -1.0), (6.0, 1.0))

    def run(self, outside, relative: tuple[str, ...] = ()) -> tuple[list[float], EpisodeResult, Runner]:
        environment, system = FakeEnvironment(10), FakeSystem()
        environment.spec = replace(environment.spec, relative_actions=relative)
        policy = DualPolicy(system, InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)))
        runner = Runner(policy, execute_steps=2, outside_limits=outside, limits=self.LIMITS)
        result = run_episode(environment, runner, seed=0)
        return [float(action[0]) for action in environment.actions], result, runner

    def test_an_action_outside_the_limits_is_clamped_said_and_counted(self):
        actions, result, runner = self.run("clamp")
        assert actions == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
        assert [step.is_clamped for step in result.steps] == [False] * 7 + [True] * 3
        assert [said.text for said in runner.incidents] == ["outside the limits: x = 7; clamped"]

    def test_or_it_is_not_sent_and_the_last_target_held(self):
        actions, result, _ = self.run("hold")
        assert actions == [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]
        assert [step.is_held for step in result.steps] == [False] * 7 + [True] * 3

    def test_to_hold_is_zero_where_an_action_is_a_change(self):
        actions, _, _ = self.run("hold", relative=("x",))
        assert actions == [0, 1, 2, 3, 4, 5, 6, 0, 0, 0]

    def test_what_lies_inside_passes_bit_by_bit(self):
        action = np.array([0.1, 0.2], np.float32)
        assert Guard(SPEC.action_names, limits=self.LIMITS).check(action).action is action
        clamped = Guard(SPEC.action_names, limits=self.LIMITS).check(np.array([0.1, 2.0], np.float32)).action
        assert clamped is not None
        assert clamped.dtype == np.float32
        assert clamped.tolist() == [action[0].item(), 1.0]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_number_that_is_not_finite_is_never_clamped_into_one_that_is(self, bad: float):
        checked = Guard(SPEC.action_names, limits=self.LIMITS).check(np.array([bad, 0.0]))
        assert checked.action is None
        assert "x = " in checked.problem

    def test_nothing_to_hold_at_the_first_step_is_an_error(self):
        policy = DualPolicy(
            FakeSystem(), InlineSlowLoop(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
        )
        runner = Runner(policy, execute_steps=2, outside_limits="hold", limits=Limits((5.0, 0.0), (6.0, 0.0)))
        with pytest.raises(HoldError, match=r"x = 0; held instead\. There is no earlier target"):
            run_episode(FakeEnvironment(), runner, seed=0)

    def test_limits_of_another_robot_are_refused(self):
        with pytest.raises(ValueError, match="limits are for 3 numbers, but an action of fake:count \\(x, y\\) has 2"):
            Guard(SPEC.action_names, limits=Limits((0.0,) * 3, (1.0,) * 3), robot=SPEC.name)
        with pytest.raises(ValueError, match=r"dimension 0: low must not be above high, got 1\.0 and 0\.0"):
            Limits((1.0,), (0.0,))

    @pytest.mark.parametrize("size", [1, 3])
    def test_limits_of_another_size_are_refused_for_actions_without_names_too(self, size: int):
        """Those of one number would hold for all."""
        guard = Guard(limits=Limits((0.0,) * size, (1.0,) * size))
        with pytest.raises(ValueError, match=f"limits are for {size} numbers, but an action of the policy has 2"):
            guard.check(np.zeros(2))

    def test_limits_from_a_file(self, tmp_path: Path):
        path = tmp_path / "limits.json"
        path.write_text(json.dumps({"low": [0, -1], "high": [6, 1]}))
        assert Limits.load(path) == self.LIMITS
        path.write_text(json.dumps({"low": [0, -1]}))
        with pytest.raises(ValueError, match=r"limits\.json does not hold limits"):
            Limits.load(path)
        with pytest.raises(FileNotFoundError, match="limits are"):
            Limits.load(tmp_path / "none.json")
        assert Limits((0.0,), (10.0,)).widened(0.1) == Limits((-1.0,), (11.0,))


class TestClock:
    @pytest.mark.parametrize("now", [0.5, 1.0])
    def test_a_clock_that_runs_backwards_or_stands_still_is_an_error_with_both_times(self, now: float):
        policy = DualPolicy(
            FakeSystem(), InlineSlowLoop(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
        )
        runner = Executor(InlinePlanner(policy), Guard(), execute_steps=2, config=RuntimeConfig())
        policy.reset()
        for moment, fails in ((1.0, False), (now, True)):
            seen = replace(observation(0), time=moment)
            policy.observe(seen)
            if fails:
                with pytest.raises(ValueError, match=rf"clock went from 1\.000000 s to {now:.6f} s"):
                    runner.decide(seen)
            else:
                runner.decide(seen)

    def test_a_new_episode_may_begin_at_zero_again(self):
        policy = DualPolicy(
            FakeSystem(), InlineSlowLoop(FakeSystem(), RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
        )
        runner = Runner(policy, execute_steps=2)
        for _ in range(2):
            assert run_episode(FakeEnvironment(), runner, seed=0).num_steps == 10


@pytest.mark.parametrize("overlap", ["replace", "temporal_ensemble", "rtc"])
@pytest.mark.parametrize("where", ["inline", "thread"])
def test_every_overlap_works_with_every_place_of_both_systems(overlap, where):
    system, environment = Continuing(), FakeEnvironment(20)
    runtime = RuntimeConfig(system1=where, overlap=overlap)
    policy = DualPolicy(
        system,
        ThreadSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
        cameras=(),
        runtime=runtime,
    )
    runner = Runner(policy, execute_steps=2, **vars(runtime))
    result = run_episode(environment, runner, seed=0, rate_hz=FPS)
    runner.close()
    policy.close()
    assert [float(action[0]) for action in environment.actions] == pytest.approx(list(range(20)))
    assert not any(step.is_held for step in result.steps)
    # a condition is swapped at the beginning of a plan and nowhere else
    versions = [step.condition_version for step in result.steps]
    assert len(set(versions)) > 1
    swaps = [step for step in range(1, 20) if versions[step] != versions[step - 1]]
    assert all(result.steps[step].is_new_plan for step in swaps)


@pytest.mark.parametrize("resets", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_resets_under_load_and_no_condition_of_another_episode_reaches_a_plan(resets: int):
    """System 2 is always busy when the reset comes: its result is of an episode that is over."""

    class Marked(FakeSystem):
        """Episode e shows frames of brightness e: the tokens tell which episode they were made of."""

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            assert condition.tokens.data.item() == float(observation.state[1])
            return super().act(observation, condition)

        def perceive(self, clips, instruction):
            frames = clips["motion"].grid[0, 0, :, 0, 0]
            assert (frames == frames[-1]).all(), "a clip holds frames of two episodes"
            time.sleep(0.0005)
            return super().perceive(clips, instruction)

    system = Marked()
    policy = DualPolicy(
        system,
        ThreadSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
        cameras=(),
        runtime=RuntimeConfig(system1="thread"),
    )
    runner = Runner(policy, execute_steps=1, system1="thread")
    random = np.random.default_rng(0)
    for episode in range(resets):
        runner.reset()
        for step in range(int(random.integers(1, 5))):
            number = episode % 250
            frame = np.full((8, 8, 3), number, np.uint8)
            seen = Observation({"top": frame}, np.array([step, number], np.float32), "push", step / FPS)
            runner.step(seen)
            assert runner.condition is not None
            assert runner.condition.episode == episode
    runner.close()
    policy.close()
    assert list(policy.incidents) == []
    assert {condition.episode for condition in system.conditions} == set(range(resets))


class TestAHungThread:
    def test_it_is_said_once_with_the_remedy_and_the_robot_goes_on(self):
        system = GatedSystem()
        loop = ThreadSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS), hang_timeout_s=0.1)
        policy = DualPolicy(system, loop)
        system.let_pass()
        result = run_episode(FakeEnvironment(20), Runner(policy, execute_steps=2), seed=0, rate_hz=FPS)
        assert result.num_steps == 20
        (incident,) = policy.incidents
        assert "more than 0.1 s; a thread cannot be killed" in incident.text
        system.let_pass(3)
        policy.close()
