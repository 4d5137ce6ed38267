"""An episode is played again from its actions, where that shows the same."""

import numpy as np
import pytest

from video2act.evaluation.replay import replay
from video2act.interfaces import Decision, EnvironmentSpec
from video2act.trace import Trace, Tracer
from video2act.types import ActionChunk, Observation, Plan, Step


class Simulator:
    """Its state counts the actions."""

    spec = EnvironmentSpec("my:world", "arm", "go", (), 8, ("x",), ("dx",), 10.0, 5)
    num_sent = 0

    def reset(self, seed: int) -> Observation:
        self.num_sent = 0
        return self.seen()

    def seen(self) -> Observation:
        return Observation({}, np.full(1, self.num_sent, np.float32), "go", self.num_sent / 10)

    def step(self, action: np.ndarray) -> Step:
        self.num_sent += 1
        return Step(self.seen(), self.num_sent == 3, True)

    def close(self) -> None: ...


class Robot(Simulator):
    def observe(self) -> Observation:
        return self.seen()


def traced() -> Trace:
    tracer, world = Tracer(), Simulator()
    seen = world.reset(0)
    for _ in range(3):
        plan = Plan(ActionChunk(np.zeros((1, 1)), seen.time, 0.1), None)
        tracer.on_step(seen, Decision(np.zeros(1), plan, is_new_plan=True, is_held=False, is_clamped=False))
        seen = world.step(np.zeros(1)).observation
    return tracer.trace()


def test_a_simulators_episode_is_the_same_again():
    found = replay(Simulator(), 0, trace=traced())
    assert (len(found.observations), found.success, found.difference) == (3, True, 0.0)


def test_a_robots_episode_is_not_played_again():
    """Its `step` returns at once, so it would get all actions of the episode in one burst."""
    robot = Robot()
    with pytest.raises(ValueError, match=r"my:world goes on in its own time .*leave films=yes out"):
        replay(robot, 0, trace=traced())
    assert robot.num_sent == 0
