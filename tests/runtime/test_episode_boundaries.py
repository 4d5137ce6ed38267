"""What of one episode must not reach the next, and what must: every part of the runtime, in a second episode."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime_fakes import FPS, MOTION, FakeEnvironment, FakeSystem, observation

from video2act.clips import FrameHistory
from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.interfaces import HoldError, System2Error
from video2act.limits import Limits
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime.control_loop import run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.refresh import perceive
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.system2_worker import Refreshing, System2Worker
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition

SPEC = RefreshSpec((MOTION,), 1, FPS)


class Nobody(System2Worker):
    """In place of the worker: refreshes are made by hand."""

    def __init__(self) -> None: ...

    def ask(self, loop: Refreshing, *, not_before: float = 0.0) -> None: ...

    def forget(self, loop: Refreshing) -> None: ...

    def trouble(self) -> str:
        return ""


class Hand(ThreadSlowLoop):
    """A slow loop beside the control loop whose refreshes are made by hand."""

    def __init__(self, spec: RefreshSpec = SPEC):
        super().__init__(Nobody(), spec, first_condition_timeout_s=0.05, hang_timeout_s=1.0, where="by hand")

    def fail(self, times: int) -> list[float]:
        pauses = []
        for _ in range(times):
            with pytest.raises(ValueError, match="a broken lens"):
                self.refresh(Broken())
            pauses.append(self.failed(ValueError("Traceback ...\nValueError: a broken lens")))
        return pauses


class Broken(FakeSystem):
    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        raise ValueError("a broken lens")


class TestBackground:
    def test_clips_of_a_second_episode_count_from_its_own_beginning(self):
        streams = (replace(MOTION, every=3),)
        loop = Hand(replace(SPEC, streams=streams))
        for episode, length in enumerate((5, 8)):
            loop.reset(episode)
            history = FrameHistory(streams)
            for step in range(length):
                seen = observation(40 * episode + step)
                loop.observe(seen)
                history.append(seen)
                assert torch.equal(loop.clips()[0]["motion"].grid, history.clips(FPS)["motion"].grid)

    def test_conditions_are_counted_from_1_in_every_episode(self):
        loop, versions = Hand(), []
        for episode in range(2):
            loop.reset(episode)
            for step in range(3):
                loop.observe(observation(step))
                assert loop.refresh(FakeSystem())
                versions.append(loop.condition().version)
        assert versions == [1, 2, 3, 1, 2, 3]
        assert len(loop.perceive_s) == 6

    def test_a_refresh_sees_the_clips_of_the_newest_frame_at_the_robots_rate(self):
        loop, system = Hand(), FakeSystem()
        loop.reset(0)
        for step in range(12):
            loop.observe(observation(step))
            if step in (4, 11):
                assert loop.refresh(system)
                assert not loop.refresh(system), "nothing new"
        assert system.newest_frames == [4, 11]
        for clips in (system.clips[-1], loop.clips()[0]):
            assert clips["motion"].fps == FPS / MOTION.stride
            frames = (clips["motion"].grid[0, 0, :, 0, 0] + 1) * 127.5
            assert frames.round().int().tolist() == [3, 5, 7, 9, 11]

    def test_a_condition_of_the_episode_before_does_not_count_and_is_not_given(self):
        class ResetsMeanwhile(FakeSystem):
            def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
                loop.reset(1)
                loop.observe(observation(0))
                return super().perceive(clips, instruction)

        loop = Hand()
        loop.reset(0)
        loop.observe(observation(0))
        loop.refresh(ResetsMeanwhile())
        with pytest.raises(TimeoutError, match="no condition for episode 1"):
            loop.condition()
        loop.fail(3)
        with pytest.raises(System2Error, match=r"3 times in a row:(?s:.*)a broken lens"):
            loop.condition()

    def test_an_episode_is_given_up_for_three_failures_of_its_own(self):
        loop = Hand()
        loop.reset(0)
        loop.observe(observation(0))
        assert loop.fail(2) == [0.1, 0.2]
        loop.reset(1)
        loop.observe(observation(0))
        assert loop.fail(2) == [0.1, 0.2]
        with pytest.raises(TimeoutError):
            loop.condition()
        assert loop.fail(1) == [0.4]
        with pytest.raises(System2Error):
            loop.condition()

    def test_a_success_ends_the_row_of_failures_and_a_failure_keeps_the_last_condition(self):
        loop = Hand()
        loop.reset(0)
        loop.observe(observation(0))
        loop.fail(2)
        assert loop.refresh(FakeSystem())
        loop.observe(observation(1))
        assert loop.fail(4) == [0.1, 0.2, 0.4, 0.8]
        assert loop.condition().version == 1
        assert loop.incidents.counts == {"system2_failed": 6}

    def test_a_system_2_that_is_of_no_more_use_ends_every_episode_at_once(self):
        loop, gone = Hand(), System2Error("its weights are not those of this policy")
        for episode in range(2):
            loop.reset(episode)
            loop.observe(observation(0))
            if episode == 0:
                loop.refresh(FakeSystem())
                loop.observe(observation(1))
                assert loop.failed(gone) == math.inf
                assert loop.condition().version == 1, "the last condition stays"
            else:
                with pytest.raises(System2Error, match=r"cannot be used any more: .*not those of this policy"):
                    loop.condition()

    def test_a_connection_that_is_away_is_tried_for_as_long_as_it_takes(self):
        loop = Hand()
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(ValueError, match="a broken lens"):
            loop.refresh(Broken())
        assert [loop.failed(ConnectionError("nobody listens")) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
        with pytest.raises(TimeoutError, match="no condition for episode 0"):
            loop.condition()
        assert loop.incidents.counts == {"connection": 4}
        assert loop.refresh(FakeSystem())
        assert loop.condition().version == 1
        loop.close()
        assert loop.failed(ConnectionError("nobody listens")) == math.inf
        assert loop.incidents.counts == {"connection": 4}

    def test_cameras_may_be_oblong_and_change_their_size(self):
        loop = Hand()
        loop.reset(0)
        for step, size in enumerate(((8, 12), (8, 12), (12, 8))):
            loop.observe(replace(observation(step), images={"top": np.full((*size, 3), step, np.uint8)}))
            assert loop.clips()[0]["motion"].grid.shape == (1, 3, 5, 8, 8)

    def test_a_closed_loop_takes_no_frame(self):
        loop = Hand()
        loop.reset(0)
        loop.close()
        with pytest.raises(RuntimeError, match="has been closed"):
            loop.observe(observation(0))


def runner_of(system: FakeSystem, refresh_every: int = 1, execute_steps: int = 2, **runtime) -> Runner:
    loop = InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every, FPS))
    policy = DualPolicy(system, loop, runtime=RuntimeConfig(**runtime))
    return Runner(policy, execute_steps=execute_steps, **runtime)


class TestExecutor:
    def test_a_first_plan_that_is_unsound_is_an_error_in_every_episode(self):
        class Unsound(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                chunk = super().act(observation, condition)
                return replace(chunk, actions=chunk.actions * np.nan) if condition.episode else chunk

        runner = runner_of(Unsound())
        runner.reset()
        runner.step(observation(0))
        runner.reset()
        with pytest.raises(ValueError, match="the policy planned nan"):
            runner.step(observation(0))

    def test_no_target_of_the_episode_before_is_held(self):
        system = FakeSystem()
        loop = InlineSlowLoop(system, SPEC)
        limits = Limits((0.0, -1.0), (5.0, 1.0))
        runner = Runner(DualPolicy(system, loop), execute_steps=2, limits=limits, outside_limits="hold")
        runner.reset()
        runner.step(observation(2))
        runner.reset()
        with pytest.raises(HoldError, match="There is no earlier target to hold"):
            runner.step(observation(7))

    def test_what_goes_wrong_again_in_another_episode_is_another_incident(self):
        system = FakeSystem()
        runner = Runner(
            DualPolicy(system, InlineSlowLoop(system, SPEC)), execute_steps=2, limits=Limits((0.0, -1.0), (5.0, 1.0))
        )
        for _ in range(2):
            runner.reset()
            assert [runner.step(observation(step))[0] for step in range(6, 9)] == [5, 5, 5]
        assert runner.incidents.counts == {"action_outside_limits": 2}

    def test_no_plan_of_the_episode_before_is_averaged_with_a_new_one(self):
        runner = runner_of(FakeSystem(), execute_steps=1, overlap="temporal_ensemble")
        for first in (0, 100):
            runner.reset()
            for step in range(3):
                seen = replace(observation(step), state=np.array([first + step, 0.0], np.float32))
                assert runner.step(seen)[0] == pytest.approx(first + step)

    def test_no_plan_that_was_under_way_at_a_reset_comes_in_the_next_episode(self):
        system = FakeSystem(horizon=8)
        runner = Runner(system, execute_steps=4, simulate_latency=SimulatedLatency(system1=0.05, system2=0.03))
        results = [run_episode(FakeEnvironment(6), runner, seed=0) for _ in range(2)]
        first, second = ([(s.plan_age_s, s.is_new_plan, s.condition_version) for s in r.steps] for r in results)
        assert first == second

    def test_a_plan_that_is_refused_is_not_the_one_in_execution(self):
        class Unsound(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                chunk = super().act(observation, condition)
                return replace(chunk, actions=chunk.actions * np.nan) if 2 <= observation.state[0] < 4 else chunk

        runner, decisions = runner_of(Unsound(horizon=8)), []
        runner.reset()
        for step in range(6):
            runner.step(observation(step))
            assert runner.decision is not None
            decisions.append((round(runner.decision.plan.chunk.observed_at * FPS), bool(runner.decision.is_new_plan)))
        assert decisions == [(0, True), (0, False), (0, False), (0, False), (4, True), (4, False)]
        assert runner.incidents.counts == {"plan_refused": 1}
        for number, step in enumerate((2, 4, 2)):  # refused, sound, refused again
            runner.step(replace(observation(10 + 2 * number), state=np.array([step, 0.0], np.float32)))
        assert runner.incidents.counts == {"plan_refused": 3}

    def test_no_plan_is_begun_while_one_is_being_made(self):
        """A plan takes 5 control steps, and one is due every 2: it would be begun anew for ever."""
        runner = Runner(FakeSystem(horizon=16), execute_steps=2, simulate_latency=SimulatedLatency(system1=0.1))
        result = run_episode(FakeEnvironment(14), runner, seed=0)
        ages = [round(step.plan_age_s * FPS) for step in result.steps]
        assert ages == [0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 5, 6]
        assert [number for number, step in enumerate(result.steps) if step.is_new_plan] == [0, 7, 12]

    def test_a_clamped_action_is_what_is_held(self):
        """Not the planned one: the robot was never sent there."""

        class OnePlan(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                if observation.time:
                    raise HoldError("nothing to plan on", "hold")
                return super().act(observation, condition)

        system = OnePlan(horizon=3)
        loop = InlineSlowLoop(system, SPEC)
        runner = Runner(DualPolicy(system, loop), execute_steps=3, limits=Limits((0.0, -1.0), (1.5, 1.0)))
        runner.reset()
        assert [runner.step(observation(step))[0] for step in range(5)] == [0, 1, 1.5, 1.5, 1.5]

    def test_an_ensembles_decay_is_that_of_the_configuration(self):
        class Steps(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                return ActionChunk(np.full((4, 2), observation.state[0]), observation.time, 1 / FPS)

        runner = runner_of(Steps(), execute_steps=1, overlap="temporal_ensemble", ensemble_decay=1.0)
        runner.reset()
        actions = [float(runner.step(observation(step))[0]) for step in range(2)]
        weight = np.exp(-1.0)
        assert actions == pytest.approx([0.0, weight / (1 + weight)])


def test_past_images_do_not_reach_back_into_the_episode_before():
    class Shown(FakeSystem):
        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            shown.append(int(observation.images["top@2"][0, 0, 0]))
            return super().act(observation, condition)

    shown: list[int] = []
    system = Shown()
    policy = DualPolicy(system, InlineSlowLoop(system, SPEC), cameras=("top@2",))
    for first in (0, 50):
        policy.reset()
        for step in range(first, first + 4):
            policy.observe(observation(step))
            policy.infer(observation(step))
    assert shown == [0, 0, 0, 1, 50, 50, 50, 51]


class TestFreshness:
    """System 2 understands the first frame of an episode; a limit of 0.1 s is 5 control steps."""

    class StuckAfterFirst(InlineSlowLoop):
        def observe(self, observation: Observation) -> None:
            if self._condition is None:
                super().observe(observation)
            else:
                self._history.append(observation)

    def policy(self, system: FakeSystem) -> DualPolicy:
        runtime = RuntimeConfig(max_staleness_s=0.1, when_stale="inline")
        return DualPolicy(system, self.StuckAfterFirst(FakeSystem(), SPEC), runtime=runtime)

    def test_refreshes_in_the_control_loop_are_of_their_own_episode(self):
        system = FakeSystem()
        policy, versions = self.policy(system), []
        runner = Runner(policy, execute_steps=2, max_staleness_s=0.1, when_stale="inline")
        for _ in range(2):
            result = run_episode(FakeEnvironment(10), runner, seed=0)
            versions.append([step.condition_version for step in result.steps])
            assert policy.num_refreshes() == 3
        assert versions == [[1] * 6 + [-1] * 2 + [-2] * 2] * 2
        assert [condition.episode for condition in system.conditions] == [0] * 5 + [1] * 5
        assert len(policy.take_times().perceive_s) == 6
        assert policy.take_times().perceive_s == []

    def test_a_refresh_in_another_thread_is_of_the_moment_of_its_plan(self):
        system = FakeSystem()
        policy = self.policy(system)
        policy.reset()
        for step in range(9):
            policy.observe(observation(step))
        work = policy.begin(observation(8), None)
        for step in range(9, 20):
            policy.observe(observation(step))
        plan = work()
        assert system.newest_frames == [8]
        assert plan.condition is not None
        assert plan.condition.observed_at == 8 / FPS

    def test_a_fresh_condition_is_chosen_when_the_plan_is_begun(self):
        system = FakeSystem()
        policy = DualPolicy(system, InlineSlowLoop(system, SPEC), runtime=RuntimeConfig(max_staleness_s=0.1))
        policy.reset()
        policy.observe(observation(0))
        work = policy.begin(observation(0), None)
        policy.observe(observation(1))
        condition = work().condition
        assert condition is not None
        assert condition.observed_at == 0.0


def test_a_runner_gives_system_2_the_robots_rate():
    system = FakeSystem()
    with Runner(system, refresh_every=3) as runner:
        runner.reset()
        runner.step(observation(0))
    assert system.clips[0]["motion"].fps == FPS / MOTION.stride


def test_a_refresh_is_stamped_with_its_frame_and_measured_in_seconds(monkeypatch: pytest.MonkeyPatch):
    ticks = iter([3.0, 3.25])
    monkeypatch.setattr("video2act.runtime.refresh.time.perf_counter", lambda: next(ticks))
    frame = Frame(observation(17), episode=5, control_step=9)
    refreshed = perceive(FakeSystem(), {}, newest=frame, lag_s=0.5)
    assert (refreshed.observed_at, refreshed.episode, refreshed.duration_s) == (17 / FPS, 5, 0.25)
    assert refreshed.condition(1).lag_s == 0.5


def test_no_gradient_is_recorded_by_a_refresh():
    class Learned(FakeSystem):
        def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
            return Tokens.all_visible(2 * torch.ones(1, 1, 1, requires_grad=True))

    refreshed = perceive(Learned(), {}, newest=Frame(observation(0), 0, 0), lag_s=0.0)
    assert not refreshed.tokens.data.requires_grad


def test_plans_are_measured_in_seconds(monkeypatch: pytest.MonkeyPatch):
    system = FakeSystem()
    policy = DualPolicy(system, InlineSlowLoop(system, SPEC))
    policy.reset()
    policy.observe(observation(0))
    ticks = iter([7.0, 7.125])
    work: Callable[[], object] = policy.begin(observation(0), None)
    monkeypatch.setattr("video2act.runtime.dual_policy.time.perf_counter", lambda: next(ticks))
    work()
    assert policy.times.act_s == [0.125]


def test_an_inline_refresh_that_failed_is_tried_again_at_the_next_step():
    class Fails(FakeSystem):
        is_broken = True

        def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
            if self.is_broken:
                raise ZeroDivisionError
            return super().perceive(clips, instruction)

    system = Fails()
    loop = InlineSlowLoop(system, RefreshSpec((MOTION,), 10, FPS))
    loop.reset(0)
    with pytest.raises(ZeroDivisionError):
        loop.observe(observation(0))
    system.is_broken = False
    loop.observe(observation(1))
    assert loop.condition().observed_at == 1 / FPS
