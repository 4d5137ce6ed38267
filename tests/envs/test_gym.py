"""Gymnasium environments behind a mapping: the good case, and an answer for everything that can be mapped wrongly."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from video2act.envs.gym import GymEnvironment, GymMapping

MAPPING = GymMapping(
    name="tiny",
    robot="point",
    instruction="move to the right",
    fps=10.0,
    max_steps=20,
    image_size=8,
    images={"front": "pixels/front", "rendered": None},
    state="position",
    success="goal/reached",
    state_names=("x", "y"),
    action_names=("dx", "dy"),
)

RIGHT = np.array([1.0, 0.0], dtype=np.float32)


class TinyGym(gymnasium.Env):
    """A point that succeeds once it is 3 to the right; every frame is drawn into the same array."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    render_mode = "rgb_array"

    def __init__(self, truncate_after: int = 100) -> None:
        self._truncate_after = truncate_after
        self._frame = np.zeros((8, 8, 3), np.uint8)
        self._position = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._num_steps, self._position = 0, np.array([0.0, self.np_random.uniform()])
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        assert action.dtype == np.float64
        self._num_steps += 1
        self._position = self._position + action
        is_reached = bool(self._position[0] >= 3)
        return self._observe(), 0.0, False, self._num_steps >= self._truncate_after, {"goal": {"reached": is_reached}}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._frame

    def _observe(self) -> dict[str, Any]:
        self._frame[...] = int(self._position[0]) * 10
        return {
            "pixels": {"front": self._frame},
            "position": self._position,
            "label": "hello",
            "counts": np.zeros(2, int),
        }


def test_observations_are_mapped_and_success_ends_the_episode() -> None:
    environment = GymEnvironment(TinyGym(), MAPPING)
    first = environment.reset(0)
    steps = [environment.step(RIGHT) for _ in range(3)]
    assert [step.success for step in steps] == [step.done for step in steps] == [False, False, True]
    assert [step.observation.time for step in steps] == pytest.approx([0.1, 0.2, 0.3])
    for camera in ("front", "rendered"):
        assert [int(o.images[camera][0, 0, 0]) for o in (first, *(s.observation for s in steps))] == [0, 10, 20, 30]
    assert first.instruction == "move to the right"
    np.testing.assert_allclose(steps[-1].observation.state[0], 3.0)
    environment.close()


def test_truncation_ends_the_episode_without_success() -> None:
    environment = GymEnvironment(TinyGym(truncate_after=2), MAPPING)
    environment.reset(0)
    environment.step(RIGHT)
    step = environment.step(RIGHT)
    assert (step.done, step.success) == (True, False)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            replace(MAPPING, images={"front": "pixels/top"}),
            r"observation has no key 'pixels/top': at 'top' there are 'front'",
        ),
        (
            replace(MAPPING, images={"front": "image"}),
            r"no key 'image': at 'image' there are 'pixels', 'position', 'label', 'counts'",
        ),
        (replace(MAPPING, images={"front": "label/x"}), r"at 'x' it is not a dictionary but a str"),
        (
            replace(MAPPING, image_size=16),
            r"camera 'front' expects a uint8 array of shape \(16, 16, 3\).*got uint8 of shape \(8, 8, 3\)",
        ),
        (
            replace(MAPPING, images={"front": "position"}),
            r"camera 'front' expects.*'position', got float64 of shape \(2,\)",
        ),
        (
            replace(MAPPING, state_names=("x",)),
            r"state expects a float array of shape \(1,\).*got float64 of shape \(2,\)",
        ),
        (replace(MAPPING, state="counts"), r"state expects a float array.*from observation 'counts'; got int64"),
        (replace(MAPPING, state=None), r"from the observation itself; got a dictionary with 'pixels'"),
    ],
)
def test_a_wrong_mapping_is_refused_at_the_first_observation(mapping: GymMapping, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GymEnvironment(TinyGym(), mapping).reset(0)


def test_a_missing_success_key_is_refused() -> None:
    environment = GymEnvironment(TinyGym(), replace(MAPPING, success="is_success"))
    environment.reset(0)
    with pytest.raises(ValueError, match=r"info has no key 'is_success': at 'is_success' there are 'goal'"):
        environment.step(RIGHT)


def test_what_can_be_known_before_a_reset_is_checked_before() -> None:
    with pytest.raises(ValueError, match=r"Box of shape \(3,\).*a, b, c; the environment has Box"):
        GymEnvironment(TinyGym(), replace(MAPPING, action_names=("a", "b", "c")))
    blind = TinyGym()
    blind.render_mode = None
    with pytest.raises(ValueError, match=r"render_mode='rgb_array'.*render_mode=None"):
        GymEnvironment(blind, MAPPING)
