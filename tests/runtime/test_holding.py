"""What keeps a robot still: holds, pauses and takeovers, and which of its actions are changes or speeds."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from runtime_fakes import CONFIG, FPS, FakeEnvironment, FakeSystem, observation, wait_until

from video2act import Runner
from video2act.config import SimulatedLatency
from video2act.interfaces import Decision, HoldError, NoPlanError
from video2act.limits import Limits
from video2act.runtime.control_loop import run_episode
from video2act.runtime.keys import QueuedKeys
from video2act.runtime.live import Live
from video2act.statistics import Statistics
from video2act.trace import Tracer
from video2act.types import ActionChunk, Committed, Observation, VideoCondition


def known(size: int, names: tuple[str, ...] = ()) -> Statistics:
    return replace(Statistics.unknown(size), names=names)


class Speeds(FakeSystem):
    """Trained on actions of which the first, x, is a speed. Plans 0.2 everywhere, until it fails."""

    config = replace(CONFIG, relative_actions=("x",))

    def __init__(self, fails_from: float = np.inf, error: type[Exception] = HoldError):
        super().__init__()
        self.statistics = {"action": known(2, ("x", "y"))}
        self.fails_from, self.error = fails_from, error

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        if round(observation.time * FPS) >= self.fails_from:
            raise self.error("nothing to plan on")
        return ActionChunk(np.full((4, 2), 0.2), observation.time, 1 / FPS)


def driven(environment: FakeEnvironment, runner: Runner, *keys: list[str]) -> list[list[float]]:
    """What the environment got, with a person's keys."""
    with runner:
        Live(environment, runner, keys=QueuedKeys(keys), show=lambda status: None, jog=np.full(2, 0.5)).episode(0)
    return [[round(float(number), 3) for number in action] for action in environment.actions]


class TestWhichActionsAreRelative:
    """First what the Runner is told, then what the environment says, then what the policy has recorded."""

    @pytest.mark.parametrize(
        ("told", "said", "expected"),
        [
            (None, (), [0, 3]),
            (None, ("y",), [3, 0]),
            (("y",), ("x",), [3, 0]),
            ((), ("x",), [3, 3]),
        ],
    )
    def test_an_environment_that_names_none_does_not_erase_those_of_the_policy(
        self, told: tuple[str, ...] | None, said: tuple[str, ...], expected: list[float]
    ):
        """A held robot got its last speed again and drove on."""
        spec = replace(FakeEnvironment().spec, relative_actions=said)
        with Runner(Speeds(), relative_actions=told) as runner:
            runner.reset(spec)
            assert runner.hold_action(np.full(2, 3.0)).tolist() == expected

    def test_a_robot_without_a_plan_gets_zero_of_a_speed(self):
        environment = FakeEnvironment(8)
        with Runner(Speeds(fails_from=4)) as runner:
            run_episode(environment, runner, seed=0)
        assert [action[0] for action in environment.actions] == [0.2] * 4 + [0] * 4

    def test_an_environment_with_other_names_has_them_at_the_same_places(self):
        spec = replace(FakeEnvironment().spec, action_names=("speed", "grip"))
        for policy, told in ((Speeds(), None), (FakeSystem(), ("x",))):
            with Runner(policy, action_names=("x", "y"), relative_actions=told) as runner:
                runner.reset(spec)
                assert runner.hold_action(np.full(2, 3.0)).tolist() == [0, 3]

    def test_an_environment_that_lacks_one_is_refused(self):
        spec = replace(FakeEnvironment().spec, action_names=("a", "b", "c"))
        with Runner(Speeds()) as runner, pytest.raises(ValueError, match="fake:count: relative_actions names x"):
            runner.reset(spec)

    def test_a_key_by_hand_moves_a_speed_only_while_it_is_pressed(self):
        """The robot kept the speed of one key press for good."""
        assert [x for x, _ in driven(FakeEnvironment(5), Runner(Speeds()), [], ["tab"], ["d"])] == [0.2, 0, 0.5, 0, 0]


class TestNothingToPlanOnAfterAPerson:
    """A pause and a takeover drop all plans. The next step ended the program, and the recorded episode was lost."""

    @pytest.mark.parametrize("system1", ["inline", "thread"])
    @pytest.mark.parametrize("error", [HoldError, NoPlanError])
    def test_what_the_person_sent_is_held(self, system1: str, error: type[Exception]):
        with Runner(Speeds(fails_from=2, error=error), system1=system1) as runner:
            runner.reset()
            runner.step(observation(0))
            runner.let(np.array([0.7, 0.9]), observation(1))
            for step in range(2, 6):
                decision = runner.decide(observation(step))
                assert (decision.action.tolist(), decision.is_held) == ([0, 0.9], True)
            assert runner.rates.held_steps == 4
            assert runner.incidents.total >= 1

    def test_also_before_the_first_plan_of_an_episode(self):
        tracer = Tracer()
        with Runner(Speeds(fails_from=0), watch=tracer) as runner:
            runner.reset()
            runner.let(np.array([0.7, 0.9]), observation(0))
            decision = runner.decide(observation(1))
            assert (decision.action.tolist(), decision.is_held) == ([0, 0.9], True)
            assert decision.plan.chunk.actions.tolist() == [[0, 0.9]]
            assert decision.plan.chunk.period == pytest.approx(1 / FPS)
            assert (runner.rates.system1_hz, runner.rates.held_steps) == (0, 1)
            assert (tracer.trace().actions.shape, tracer.trace().plans.shape) == ((1, 2), (0, 0, 2))

    def test_at_the_first_step_there_is_still_nothing_to_hold(self):
        with Runner(Speeds(fails_from=0, error=NoPlanError)) as runner:
            runner.reset()
            with pytest.raises(NoPlanError, match="There is no earlier target to hold"):
                runner.step(observation(0))

    def test_an_unsound_plan_is_refused_and_the_action_by_hand_held(self):
        class Broken(Speeds):
            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                chunk = super().act(observation, condition)
                return replace(chunk, actions=chunk.actions * (np.nan if observation.time else 1))

        with Runner(Broken()) as runner:
            runner.reset()
            runner.step(observation(0))
            runner.let(np.array([0.7, 0.9]), observation(1))
            assert runner.step(observation(2)).tolist() == [0, 0.9]
            assert runner.incidents.counts == {"plan_refused": 1, "plans_spent": 1}

    def test_the_program_survives_a_pause(self):
        sent = driven(FakeEnvironment(8), Runner(Speeds(fails_from=4)), [], [], ["space"], [], ["space"])
        assert [x for x, _ in sent] == [0.2, 0.2, 0, 0, 0, 0, 0, 0]


class TestATakeoverWaitsForNoPlan:
    class Slow(Speeds):
        """Plans wait at a gate."""

        def __init__(self) -> None:
            super().__init__()
            self.gate = threading.Event()
            self.planned: list[int] = []

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            assert self.gate.wait(10)
            self.planned.append(round(observation.time * FPS))
            return super().act(observation, condition)

    def test_the_plan_in_the_making_is_dropped_and_the_robot_held_until_the_next(self):
        """A takeover waited until the plan was there, up to seconds."""
        system = self.Slow()
        system.gate.set()
        with Runner(system, system1="thread", execute_steps=2) as runner:
            runner.reset()
            runner.step(observation(0))
            system.gate.clear()
            runner.step(observation(1))
            runner.step(observation(2))  # begins a plan
            started = time.monotonic()
            runner.let(np.array([0.7, 0.9]), observation(3))
            assert runner.step(observation(4)).tolist() == [0, 0.9], "the plan that was dropped is still being made"
            assert time.monotonic() - started < 5
            system.gate.set()
            wait_until(lambda: system.planned == [0, 2])
            steps = iter(range(5, 1000))

            def plans() -> bool:
                time.sleep(0.001)
                decision = runner.decide(observation(next(steps)))
                assert decision.is_held != decision.is_new_plan
                return decision.is_new_plan

            wait_until(plans)
            assert runner.decision is not None
            assert runner.decision.plan.chunk.observed_at >= 4.5 / FPS, "no plan from before the takeover"
            assert runner.incidents.counts == {"plans_spent": 1}

    def test_a_reset_still_waits_for_a_plan_that_was_dropped(self):
        """Or it would run beside the first plan of the next episode, in the same network."""
        system = self.Slow()
        system.gate.set()
        with Runner(system, system1="thread", execute_steps=1) as runner:
            runner.reset()
            runner.step(observation(0))
            system.gate.clear()
            runner.step(observation(1))
            runner.let(np.array([0.7, 0.9]), observation(2))
            threading.Timer(0.05, system.gate.set).start()
            runner.reset()
            assert system.planned == [0, 1]

    def test_in_simulated_time_the_robot_is_held_for_the_latency(self):
        with Runner(Speeds(), simulate_latency=SimulatedLatency(system1=2 / FPS)) as runner:
            runner.reset()
            runner.step(observation(0))
            runner.let(np.array([0.7, 0.9]), observation(1))
            assert [runner.step(observation(step))[0] for step in range(2, 6)] == [0, 0, 0.2, 0.2]


class TestStandingStillIsInsideAllLimits:
    LIMITS = Limits((0.1, -1.0), (0.5, 1.0))

    @pytest.mark.parametrize("outside", ["clamp", "hold"])
    def test_a_paused_robot_does_not_move(self, outside: str):
        """It got the smallest speed inside the limits, 0.1, at every step of the pause."""
        runner = Runner(Speeds(), limits=self.LIMITS, outside_limits=outside)
        assert [x for x, _ in driven(FakeEnvironment(5), runner, [], ["space"])] == [0.2, 0, 0, 0, 0]
        assert runner.incidents.total == 0

    def test_other_actions_by_hand_are_clamped_as_before(self):
        with Runner(Speeds(), limits=self.LIMITS) as runner:
            runner.reset()
            assert runner.let(np.array([0.0, 9.0]), observation(0)).tolist() == [0, 1]
            assert runner.let(np.array([0.05, 0.0]), observation(1)).tolist() == [0.1, 0]
        with Runner(FakeSystem(), limits=self.LIMITS) as runner:
            runner.reset()
            assert runner.let(np.zeros(2), observation(0)).tolist() == [0.1, 0], "a target of zero is a place"

    def test_what_the_limits_forbid_at_the_first_steps_holds_what_was_sent_by_hand(self):
        with Runner(Speeds(), limits=self.LIMITS, outside_limits="hold") as runner:
            runner.reset()
            with pytest.raises(ValueError, match="given by hand is outside the limits"):
                runner.let(np.array([9.0, 0.0]), observation(0))
            runner.let(np.array([0.2, 0.5]), observation(0))
            assert runner.let(np.array([9.0, 0.0]), observation(1)).tolist() == [0, 0.5]


def test_an_action_by_hand_of_another_size_is_refused():
    """Without limits it was sent to the robot."""
    with Runner(FakeSystem()) as runner:
        runner.reset()
        with pytest.raises(ValueError, match=r"by hand has shape \[5\], those of this policy have \[2\]"):
            runner.let(np.zeros(5), observation(0))
        assert runner.step(observation(0)).tolist() == [0, 0]


class Scales(FakeEnvironment):
    """Changes the action that it is given."""

    def step(self, action: np.ndarray) -> Any:
        action *= 10
        return super().step(action)


class TestARobotMayChangeTheActionInPlace:
    """It changed the plan, the trace and the dataset, for the action was a view into the plan."""

    def test_it_changes_neither_the_plan_nor_what_is_held(self):
        with Runner(Speeds(fails_from=4)) as runner:
            runner.reset()
            for step in range(6):
                action = runner.step(observation(step))
                assert action.tolist() == [0.2 if step < 4 else 0, 0.2]
                action += 100
            decision = runner.decide(observation(6))
            action = decision.action
            action += 100
            assert decision.plan.chunk.actions.tolist() == [[0.2, 0.2]] * 4
            sent = runner.let(np.array([0.7, 0.9]), observation(7))
            sent += 100
            assert runner.step(observation(8)).tolist() == [0, 0.9]

    def test_nor_what_watchers_see(self):
        inside, outside = Tracer(), Tracer()
        with Runner(FakeSystem(), execute_steps=4, watch=inside) as runner:
            run_episode(Scales(4), runner, seed=0, watchers=[outside])
        for tracer in (inside, outside):
            assert tracer.trace().actions[:, 0].tolist() == [0, 1, 2, 3]
            assert tracer.trace().plans[0, :, 0].tolist() == [0, 1, 2, 3]

    def test_nor_what_is_recorded(self):
        with Runner(Speeds()) as runner:
            live = Live(Scales(4), runner, keys=QueuedKeys(), show=lambda status: None, jog=np.ones(2))
            assert [action.tolist() for action in live.episode(0).actions] == [[0.2, 0.2]] * 4


class TestAPlanIsContinuedOnlyIfItWasExecuted:
    """After a hold the robot was told to go on from where its plan would have led it."""

    class Continuing(Speeds):
        asked: list[int]

        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            chunk = super().act(observation, condition)
            return replace(chunk, actions=np.arange(32.0).reshape(16, 2) % 20)

        def continue_plan(
            self, observation: Observation, condition: VideoCondition, *, committed: Committed, guidance: float | None
        ) -> ActionChunk:
            self.asked.append(round(observation.time * FPS))
            return self.act(observation, condition)

    @pytest.mark.parametrize("overlap", ["rtc", "rtc_trained"])
    @pytest.mark.parametrize("system1", ["inline", "thread"])
    def test_not_after_a_hold(self, overlap: str, system1: str):
        system = self.Continuing(fails_from=4)
        system.config = system.config.replace({"system1.max_delay_steps": 3})
        system.asked = []
        with Runner(system, overlap=overlap, system1=system1, execute_steps=4) as runner:
            runner.reset()
            steps = iter(range(1000))

            def until(is_true: Callable[[Decision], bool]) -> None:
                def is_there() -> bool:
                    time.sleep(0.002)
                    return is_true(runner.decide(observation(next(steps))))

                wait_until(is_there)

            until(lambda decision: decision.is_held)
            assert len(system.asked) == 1
            system.fails_from = np.inf
            until(lambda decision: not decision.is_held)
            assert len(system.asked) == 1, "a hold is no plan to continue"
            until(lambda decision: decision.is_new_plan)
            assert len(system.asked) == 2, "the plan after it is"

    def test_not_while_the_limits_hold_the_robot(self):
        system = self.Continuing()
        system.asked = []
        limits = Limits((-1.0, -1.0), (5.0, 6.0))  # the fourth action of a plan is outside
        with Runner(system, overlap="rtc", limits=limits, outside_limits="hold", execute_steps=4) as runner:
            runner.reset()
            held = [runner.decide(observation(step)).is_held for step in range(5)]
        assert held == [False] * 3 + [True, False]
        assert system.asked == []
