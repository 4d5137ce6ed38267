"""Names and limits are of as many numbers as an action has, or nothing is driven."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from runtime_fakes import FPS, FakeEnvironment, FakeSystem, observation

from video2act.interfaces import EnvironmentSpec
from video2act.limits import Limits
from video2act.runtime.control_loop import run_episode
from video2act.runtime.runner import Runner
from video2act.types import ActionChunk, Observation

PROBLEM = r"names 3 actions \(x, y, z\), but an action of th\w+ policy has 2 numbers; name each of them, in their order"


class Finished:
    """A policy that does not say how many numbers its actions have."""

    def reset(self) -> None: ...
    def observe(self, observation: Observation) -> None: ...
    def infer(self, observation: Observation) -> ActionChunk:
        return ActionChunk(np.zeros((4, 2)), observation.time, 1 / FPS)


@dataclass(frozen=True)
class Told:
    action_dim: int = 2
    execute_steps: int = 2
    horizon: int = 4
    action_names: tuple[str, ...] = ()
    relative_actions: tuple[str, ...] = ()
    frame_sizes: Any = None
    period_s: float = 1 / FPS


class Contracted(Finished):
    """It says so, as a `RemotePolicy` does."""

    contract = Told(frame_sizes={})


class OfThree(FakeEnvironment):
    def __init__(self) -> None:
        super().__init__()
        names = ("x", "y", "z")
        self.spec = EnvironmentSpec("fake:three", "fake", "push", ("top",), 8, ("a", "b"), names, FPS, 10, ("x",))


@pytest.mark.parametrize("make", [FakeSystem, Contracted])
def test_names_of_another_number_are_refused_before_anything_is_driven(make: type):
    """To hold ended in numpy's error of shapes, in the middle of an episode."""
    with pytest.raises(ValueError, match=f"the robot {PROBLEM}"):
        Runner(make(), action_names=("x", "y", "z"), relative_actions=("x",))
    environment = OfThree()
    with Runner(make(), execute_steps=2) as runner, pytest.raises(ValueError, match=f"fake:three {PROBLEM}"):
        run_episode(environment, runner, seed=0)
    assert environment.actions == []


def test_names_of_another_number_are_refused_with_the_first_action_where_nobody_said_its_size():
    with Runner(Finished(), execute_steps=2, action_names=("x", "y", "z")) as runner:
        runner.reset()
        with pytest.raises(ValueError, match=f"the robot {PROBLEM}"):
            runner.step(observation(0))


@pytest.mark.parametrize("make", [FakeSystem, Contracted])
def test_limits_of_another_number_are_refused_before_anything_is_driven(make: type):
    """Those of a served policy were refused with its first action."""
    with pytest.raises(ValueError, match="limits are for 3 numbers, but an action of this policy has 2"):
        Runner(make(), limits=Limits((0.0,) * 3, (1.0,) * 3))
