"""Rules of time that only a number shows: a limit is met exactly, a late condition keeps its age, nothing is tried
twice at once and nothing is made up for."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from runtime_fakes import CONFIG, FPS, MOTION, FakeEnvironment, FakeSystem, GatedSystem, observation

from video2act.config import BackboneConfig, PolicyConfig, RuntimeConfig, System2Config
from video2act.interfaces import HoldError
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import Pace, run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.freshness import Freshness
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Observation, Tokens, VideoCondition


def seen_at(step: float, episode: int = 0) -> VideoCondition:
    return VideoCondition(Tokens.empty(1, 1, like=torch.zeros(1)), step / FPS, episode, 1)


class Conditions(InlineSlowLoop):
    """Answers with one condition after another, then with the last."""

    def __init__(self, *conditions: VideoCondition):
        super().__init__(FakeSystem(), RefreshSpec((MOTION,), 1, FPS))
        self._coming = list(conditions)

    def observe(self, observation: Observation) -> None:
        pass

    def condition(self) -> VideoCondition:
        return self._coming.pop(0) if len(self._coming) > 1 else self._coming[0]


class TestAge:
    """A limit of 0.1 s is 5 control steps at 50 Hz."""

    RUNTIME = RuntimeConfig(max_staleness_s=0.1, when_stale="hold")

    @pytest.mark.parametrize(("age_steps", "is_fresh"), [(0, True), (4.9, True), (5, True), (5.01, False), (6, False)])
    def test_a_condition_of_exactly_the_limit_is_fresh(self, age_steps: float, is_fresh: bool):
        freshness = Freshness(self.RUNTIME, FakeSystem())
        loop, now = Conditions(seen_at(100)), observation(0)
        now = replace(now, time=(100 + age_steps) / FPS)
        if is_fresh:
            assert freshness.choose(loop, now)().observed_at == 100 / FPS
        else:
            with pytest.raises(HoldError, match=r"s old, and max_staleness_s is 0\.1"):
                freshness.choose(loop, now)

    def test_one_that_is_newer_than_the_planned_observation_counts_as_of_its_moment(self):
        """With System 1 in a thread, a waiting plan may be handed what the loop saw later; `act` refuses a condition
        from the future, and that ended the episode."""
        freshness = Freshness(replace(self.RUNTIME, when_stale="wait", slack_s=5.0), FakeSystem())
        condition = freshness.choose(Conditions(seen_at(0), seen_at(0), seen_at(12)), observation(10))()
        assert condition.observed_at == observation(10).time

    def test_one_that_was_waited_for_keeps_its_age(self):
        freshness = Freshness(replace(self.RUNTIME, when_stale="wait", slack_s=5.0), FakeSystem())
        condition = freshness.choose(Conditions(seen_at(0), seen_at(4), seen_at(7)), observation(10))()
        assert condition.observed_at == observation(7).time

    @pytest.mark.parametrize("system2", ["inline", "thread"])
    def test_the_limit_is_kept_by_frames_that_streams_looked_at(self, system2: str):
        """With `every` 12 at 10 Hz and a limit of 0.1 s, a plan was made on frames that were 1.5 s old: the age was
        counted from the newest frame there was."""
        seldom = replace(MOTION, every=4)
        seen: list[tuple[int, float]] = []

        class Looks(FakeSystem):
            config = replace(CONFIG, system2=System2Config(BackboneConfig(), (replace(MOTION, name="other"), seldom)))

            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                now, looked = round(observation.time * FPS), int(condition.tokens.data.item())
                assert round((condition.observed_at - condition.lag_s) * FPS) == looked, "the condition says so itself"
                seen.append((now - looked, round((now / FPS - condition.observed_at) * FPS)))
                return super().act(observation, condition)

        given = {"system2": system2, "refresh_every": 100, "execute_steps": 1}
        with Runner(Looks(), **given, max_staleness_s=3 / FPS, when_stale="inline") as runner:
            runner.reset()
            for step in range(40):
                runner.step(observation(step))
        assert max(age for age, _ in seen) == 3
        assert (3, 0) in seen, "System 1 gets the staleness of its training, which has no lag"

    @pytest.mark.parametrize(("limit_steps", "is_held"), [(5, True), (6, False)])
    def test_a_condition_of_older_frames_is_too_old_though_it_is_new(self, limit_steps: int, is_held: bool):
        freshness = Freshness(replace(self.RUNTIME, max_staleness_s=limit_steps / FPS), FakeSystem())
        loop, now = Conditions(replace(seen_at(98), lag_s=4 / FPS)), observation(100)
        if is_held:
            with pytest.raises(HoldError, match=r"the video condition is 0\.120 s old, and max_staleness_s is 0\.1"):
                freshness.choose(loop, now)
        else:
            assert freshness.choose(loop, now)().lag_s == 4 / FPS

    def test_such_an_episode_goes_on(self):
        class Strict(FakeSystem):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                assert condition.observed_at <= observation.time, "a condition from the future"
                return super().act(observation, condition)

        class ComesLate(Conditions):
            """Some 40 ms of waiting after the first plan, then of the newest frame, as a thread's is."""

            num_asked, newest = 0, 0.0

            def observe(self, observation: Observation) -> None:
                self.newest = observation.time

            def condition(self) -> VideoCondition:
                self.num_asked += 1
                return seen_at(0) if self.num_asked < 40 else seen_at(self.newest * FPS)

        system = Strict(horizon=20)
        runtime = RuntimeConfig(max_staleness_s=0.1, when_stale="wait", slack_s=2.0, system1="thread")
        runner = Runner(DualPolicy(system, ComesLate(seen_at(0)), runtime=runtime), execute_steps=6, **vars(runtime))
        result = run_episode(FakeEnvironment(20), runner, seed=0, rate_hz=FPS)
        runner.close()
        assert len(result.steps) == 20
        assert len(system.conditions) >= 2

    def test_a_late_condition_is_as_old_as_its_frame(self):
        """Not as old as its arrival."""
        system = GatedSystem()
        loop = ThreadSlowLoop(system, RefreshSpec((MOTION,), 1, FPS))
        loop.reset(0)
        loop.observe(observation(0))
        assert system.has_started.acquire(timeout=5)
        for step in range(1, 8):
            loop.observe(observation(step))
        system.let_pass()
        assert loop.condition().observed_at == 0.0
        assert system.has_started.acquire(timeout=5)
        for step in range(8, 11):
            loop.observe(observation(step))
        system.let_pass()  # one: a second refresh, of a newer frame, must not overtake the look at this one
        end = time.monotonic() + 5
        while (newest := loop.condition()).version < 2 and time.monotonic() < end:
            time.sleep(0.001)
        system.let_pass(100)
        loop.close()
        assert newest.observed_at == 7 / FPS

    def test_system_1_is_told_seconds(
        self, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], monkeypatch
    ):
        policy, told = make_policy(small_config), []
        project = policy.system1.project
        monkeypatch.setattr(
            policy.system1,
            "project",
            lambda *a, **words: (told.append(words["staleness"].item()), project(*a, **words))[1],
        )
        tokens = Tokens.empty(1, small_config.system1.hidden, like=torch.zeros(1))
        images = {camera: np.zeros((48, 48, 3), np.uint8) for camera in small_config.cameras}
        state = np.zeros(small_config.state_dim, np.float32)
        policy.act(Observation(images, state, "push", 10.35), VideoCondition(tokens, 10.0, 0, 1))
        assert told == [pytest.approx(0.35)]


class TestPlans:
    class Unsound(FakeSystem):
        """Its plans with these numbers are not finite."""

        def __init__(self, unsound: tuple[int, ...]):
            super().__init__(horizon=8)
            self._unsound = unsound

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            chunk = super().act(observation, condition)
            is_bad = len(self.conditions) - 1 in self._unsound
            return replace(chunk, actions=chunk.actions * np.nan) if is_bad else chunk

    @pytest.mark.parametrize(
        ("unsound", "planned_at"),
        [((), [0, 4, 8]), ((1,), [0, 4, 5, 9]), ((1, 2), [0, 4, 5, 6, 10])],
    )
    def test_after_an_unsound_plan_the_next_one_is_tried_at_once(self, unsound, planned_at):
        system = self.Unsound(unsound)
        loop = InlineSlowLoop(system, RefreshSpec((MOTION,), 1, FPS))
        runner = Runner(DualPolicy(system, loop), execute_steps=4)
        run_episode(FakeEnvironment(11), runner, seed=0)
        assert [round(condition.observed_at * FPS) for condition in system.conditions] == planned_at

    def test_after_a_hold_the_next_one_is_tried_at_once(self):
        class Stops(InlineSlowLoop):
            """System 2 stands still from step 1 to step 11."""

            def observe(self, observation: Observation) -> None:
                super().observe(observation)
                self._condition = self._condition if round(observation.time * FPS) >= 11 else seen_at(0)

        system = FakeSystem(horizon=8)
        loop = Stops(system, RefreshSpec((MOTION,), 1, FPS))
        runtime = RuntimeConfig(max_staleness_s=0.1)
        runner = Runner(DualPolicy(system, loop, runtime=runtime), execute_steps=4, **vars(runtime))
        result = run_episode(FakeEnvironment(14), runner, seed=0)
        # begun at 0 and 4; due again at 8 and held until the first fresh condition, of step 11
        assert [step.is_held for step in result.steps] == [False] * 8 + [True] * 3 + [False] * 3
        assert len(system.conditions) == 3


class TestPace:
    def test_it_waits_for_what_is_left_of_the_period(self, monkeypatch: pytest.MonkeyPatch):
        now, slept = [0.0], []
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        monkeypatch.setattr(
            time, "sleep", lambda seconds: (slept.append(seconds), now.__setitem__(0, now[0] + seconds))
        )
        pace = Pace(10.0)
        was_late = []
        for works_s in (0.03, 0.25, 0.02, 0.1):
            now[0] += works_s
            was_late.append(pace.wait())
        assert was_late == [False, True, False, False]
        assert slept == pytest.approx([0.07, 0.08, 0.0])  # after the late one the schedule starts anew
        assert pace.missed_deadlines == 1
