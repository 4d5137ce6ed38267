"""The contract of `Environment`, kept by every simulator: MetaWorld, ALOHA and a Gymnasium environment behind a
mapping."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from video2act.envs import make_environment
from video2act.envs.gym import GymEnvironment, GymMapping
from video2act.interfaces import Environment
from video2act.types import Observation

SIZE, MAX_STEPS = 48, 5


class ReportsSuccess(gymnasium.Wrapper):
    """Gymnasium's Reacher has no success; a wrapper is how a user adds one."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, is_terminated, is_truncated, info = self.env.step(action)
        return observation, reward, is_terminated, is_truncated, {**info, "is_success": info["reward_dist"] > -0.01}


def make_reacher() -> Environment:
    mapping = GymMapping(
        name="gym:reacher",
        robot="reacher",
        instruction="bring the finger tip to the target",
        fps=50.0,
        max_steps=MAX_STEPS,
        image_size=SIZE,
        images={"top": None},
        state=None,
        success="is_success",
        state_names=tuple(f"observation_{index}" for index in range(10)),
        action_names=("shoulder", "elbow"),
    )
    return GymEnvironment(
        ReportsSuccess(gymnasium.make("Reacher-v5", render_mode="rgb_array", width=SIZE, height=SIZE)), mapping
    )


def by_name(name: str) -> Callable[[], Environment]:
    return lambda: make_environment(name, image_size=SIZE, max_steps=MAX_STEPS)


NAMES = (
    "metaworld:push-v3",
    "metaworld:drawer-open-v3",
    "metaworld:hammer-v3",
    "aloha:transfer_cube",
    "aloha:insertion",
    "moving:intercept",
    "moving:push",
    "moving:hidden",
)
ENVIRONMENTS = {**{name: by_name(name) for name in (*NAMES, "libero:libero_goal/7")}, "gym:reacher": make_reacher}
PARAMETERS = [pytest.param(name, marks=pytest.mark.libero if "libero" in name else ()) for name in ENVIRONMENTS]


@pytest.fixture(scope="module", params=PARAMETERS, ids=list(ENVIRONMENTS))
def environment(request: pytest.FixtureRequest) -> Iterator[Environment]:
    if "libero" in request.param:
        pytest.importorskip("libero", reason="needs the extra libero")
    made = ENVIRONMENTS[request.param]()
    with pytest.raises(RuntimeError, match=r"reset"):  # the one moment at which no test has reset it yet
        made.step(some_action(made))
    yield made
    made.close()


def some_action(environment: Environment) -> np.ndarray:
    return np.full(len(environment.spec.action_names), 0.1, dtype=np.float32)


def episode(environment: Environment, seed: int) -> list[Observation]:
    observations = [environment.reset(seed)]
    for _ in range(3):
        observations.append(environment.step(some_action(environment)).observation)
    return observations


def test_observations_are_what_the_spec_says(environment: Environment) -> None:
    spec = environment.spec
    for observation in episode(environment, seed=0):
        assert tuple(observation.images) == spec.cameras
        for image in observation.images.values():
            assert (image.shape, image.dtype) == ((spec.image_size, spec.image_size, 3), np.uint8)
            assert image.std() > 1, "an empty picture"
        assert (observation.state.shape, observation.state.dtype) == ((len(spec.state_names),), np.float32)
        assert np.isfinite(observation.state).all()
        assert observation.instruction == spec.instruction


def test_the_same_seed_gives_the_same_episode_to_the_pixel(environment: Environment) -> None:
    first = episode(environment, seed=3)
    episode(environment, seed=4)
    for left, right in zip(first, episode(environment, seed=3), strict=True):
        np.testing.assert_array_equal(left.state, right.state)
        for camera in environment.spec.cameras:
            np.testing.assert_array_equal(left.images[camera], right.images[camera])


def test_another_seed_gives_another_episode(environment: Environment) -> None:
    first, other = environment.reset(3), environment.reset(4)
    assert any((first.images[camera] != other.images[camera]).any() for camera in environment.spec.cameras)


def test_pictures_are_not_overwritten_by_later_ones(environment: Environment) -> None:
    first = environment.reset(3)
    kept = {camera: image.copy() for camera, image in first.images.items()}
    environment.reset(4)
    for camera, image in first.images.items():
        np.testing.assert_array_equal(image, kept[camera])


def test_time_starts_at_zero_and_advances_by_the_control_period(environment: Environment) -> None:
    for _ in range(2):
        times = [observation.time for observation in episode(environment, seed=0)]
        np.testing.assert_allclose(times, np.arange(4) / environment.spec.fps)


def test_an_episode_ends_at_the_time_limit_and_takes_no_further_step(environment: Environment) -> None:
    environment.reset(0)
    steps = [environment.step(some_action(environment)) for _ in range(environment.spec.max_steps)]
    assert [step.done for step in steps] == [False] * (environment.spec.max_steps - 1) + [True]
    with pytest.raises(RuntimeError, match=rf"ended after {environment.spec.max_steps} steps.*call reset"):
        environment.step(some_action(environment))
    environment.reset(0)
    assert not environment.step(some_action(environment)).done


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_by_name(environment: Environment, value: float) -> None:
    environment.reset(0)
    action = some_action(environment)
    action[1] = value
    with pytest.raises(ValueError, match=rf"finite, got {environment.spec.action_names[1]} = {value}"):
        environment.step(action)
    assert environment.step(some_action(environment)).observation.time == pytest.approx(1 / environment.spec.fps)


def test_an_action_of_the_wrong_length_is_refused(environment: Environment) -> None:
    environment.reset(0)
    action = some_action(environment)[:-1]
    with pytest.raises(
        ValueError, match=rf"expected an action of shape .*{environment.spec.action_names[0]}.*got shape"
    ):
        environment.step(action)


def test_an_action_is_not_changed(environment: Environment) -> None:
    environment.reset(0)
    action = some_action(environment) * 30
    before = action.copy()
    environment.step(action)
    np.testing.assert_array_equal(action, before)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_holds_nothing_about_objects_or_goals(name: str) -> None:
    environment = make_environment(name, cameras=())
    states = [environment.reset(seed).state for seed in range(3)]
    np.testing.assert_allclose(states[1], states[0], atol=1e-6)
    np.testing.assert_allclose(states[2], states[0], atol=1e-6)
    environment.close()
