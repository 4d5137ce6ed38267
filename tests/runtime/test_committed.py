"""Plans that continue one another: what is frozen of the plan before, and what the new one sees."""

import numpy as np
import pytest
from runtime_fakes import FPS, MOTION, FakeEnvironment, FakeSystem

from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.limits import Limits
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.types import ActionChunk, Observation

SPEC = RefreshSpec((MOTION,), 1, FPS)


class Continuing(FakeSystem):
    def __init__(self, horizon: int = 8):
        super().__init__(horizon)
        self.asked: list[tuple[list[float], int]] = []
        self.images: list[dict[str, np.ndarray]] = []

    def continue_plan(self, observation: Observation, condition, committed, guidance) -> ActionChunk:
        self.asked.append((committed.actions[:, 0].tolist(), committed.num_frozen))
        self.images.append(observation.images)
        return self.act(observation, condition)


class TestCommitted:
    @pytest.mark.parametrize(("latency_s", "num_frozen"), [(0.0, 0), (0.02, 1), (0.05, 3), (0.5, 4)])
    def test_as_many_actions_are_frozen_as_are_executed_while_a_plan_is_made(self, latency_s: float, num_frozen: int):
        """At 50 Hz; never more than the plan still holds."""
        system = Continuing(horizon=8)
        runner = Runner(system, execute_steps=4, overlap="rtc", simulate_latency=SimulatedLatency(system1=latency_s))
        run_episode(FakeEnvironment(6), runner, seed=0)
        assert system.asked[0] == ([4.0, 5, 6, 7], num_frozen)

    def test_a_plan_continues_the_actions_as_they_are_clamped(self):
        """It continued actions that were never sent."""
        system = Continuing(horizon=8)
        limits = Limits((-1.0, -1.0), (5.5, 5.5))
        run_episode(FakeEnvironment(6), Runner(system, execute_steps=4, overlap="rtc", limits=limits), seed=0)
        assert system.asked[0] == ([4.0, 5, 5.5, 5.5], 0)

    def test_a_plan_that_continues_sees_past_images_too(self):
        system = Continuing()
        policy = DualPolicy(
            system, InlineSlowLoop(system, SPEC), cameras=("top", "top@2"), runtime=RuntimeConfig(overlap="rtc")
        )
        runner = Runner(policy, execute_steps=2, overlap="rtc")
        run_episode(FakeEnvironment(5), runner, seed=0)
        seen = [(int(image["top"][0, 0, 0]), int(image["top@2"][0, 0, 0])) for image in system.images]
        assert seen == [(2, 0), (4, 2)]
