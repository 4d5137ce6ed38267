"""ALOHA: equal to gym-aloha's own environments, and its experts."""

from typing import Any

import numpy as np
import pytest

from video2act.envs.aloha import Aloha
from video2act.envs.experts.aloha import AlohaExpert

TASKS = ["transfer_cube", "insertion"]


def run_expert(environment: Aloha, seed: int) -> bool:
    expert = AlohaExpert(environment)
    environment.reset(seed)
    expert.reset()
    while True:
        step = environment.step(expert.act())
        if step.done:
            return step.success


@pytest.mark.parametrize("task", TASKS)
def test_resets_states_and_rewards_equal_the_original(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pytest.importorskip("gym_aloha.env")
    from gym_aloha.tasks import sim

    def observe_without_pictures(self: sim.BimanualViperXTask, physics: Any) -> dict:
        return {"qpos": self.get_qpos(physics), "images": {"top": np.zeros((1, 1, 3), np.uint8)}}

    monkeypatch.setattr(sim.BimanualViperXTask, "get_observation", observe_without_pictures)
    ours, theirs = Aloha(task, cameras=()), original.AlohaEnv(task, obs_type="pixels_agent_pos")
    expert = AlohaExpert(ours)
    rewards = set()
    # a whole episode; the beginning of another shows that nothing of the first is left
    for seed, num_steps in ((1000, ours.spec.max_steps), (0, 60)):
        ours.reset(seed)
        expert.reset()
        observation, _ = theirs.reset(seed=seed)
        np.testing.assert_array_equal(ours.data.qpos, theirs._env.physics.data.qpos)
        for _ in range(num_steps):  # the expert's actions pass through every stage of the reward
            action = expert.act().astype(np.float64)  # the original computes in the type it is given
            step = ours.step(action)
            observation, reward, is_done, _, _ = theirs.step(action)
            assert (ours.reward, step.success) == (reward, is_done)
            np.testing.assert_array_equal(step.observation.state, observation["agent_pos"].astype(np.float32))
            rewards.add(reward)
            if is_done:
                break
    assert {0, 2, 4} <= rewards


def test_all_cameras_of_the_scene_can_be_asked_for() -> None:
    cameras = ("angle", "front_close", "left_pillar", "left_wrist", "right_pillar", "right_wrist", "top")
    environment = Aloha("transfer_cube", cameras=cameras, image_size=32)
    images = environment.reset(0).images
    assert tuple(images) == cameras
    assert all(image.shape == (32, 32, 3) and image.any() for image in images.values())
    environment.close()
    with pytest.raises(ValueError, match=r"unknown camera 'topp'. Did you mean 'top'\?.*right_wrist"):
        Aloha("transfer_cube", cameras=("topp",))


def test_pictures_are_upright_and_not_mirrored() -> None:
    environment = Aloha("transfer_cube", cameras=("angle",))
    places, pixels = [], []
    for seed in range(6):
        image = environment.reset(seed).images["angle"].astype(int)
        rows, columns = np.nonzero((image[..., 0] > 100) & (image[..., 1] < 50))
        assert rows.size > 0, "the red cube is not in the picture"
        places.append(environment.data.qpos[16:18].copy())
        pixels.append((columns.mean(), -rows.mean()))
    # this camera looks along +y from above: what lies further along x is further right, what lies further along y is
    # higher up
    for axis in range(2):
        assert np.corrcoef(np.array(places)[:, axis], np.array(pixels)[:, axis])[0, 1] > 0.9
    environment.close()


def test_the_state_is_the_joints_with_normalised_grippers() -> None:
    environment = Aloha("insertion", cameras=())
    state = environment.reset(0).state
    np.testing.assert_array_equal(state, environment.reset(1).state)  # the objects' places are not in it
    target = state.copy()
    target[[6, 13]] = 1.0
    for _ in range(40):
        state = environment.step(target).observation.state
    assert environment.spec.state_names[6] == "left_gripper"
    np.testing.assert_allclose(state[[6, 13]], 1.0, atol=0.05)
    environment.close()


def test_an_unknown_task_is_answered_with_what_exists() -> None:
    with pytest.raises(ValueError, match=r"unknown ALOHA task 'insert'.*Did you mean 'insertion'\?.*transfer_cube"):
        Aloha("insert")
    with pytest.raises(ValueError, match="max_steps must be positive, got 0"):
        Aloha("insertion", max_steps=0)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds(task: str) -> None:
    environment = Aloha(task, cameras=())
    assert run_expert(environment, seed=1001)  # above, it succeeds on seed 1000
    environment.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_on_50_unseen_seeds(task: str) -> None:
    environment = Aloha(task, cameras=())
    successes = sum(run_expert(environment, seed) for seed in range(1000, 1050))
    assert successes >= 48, f"{task}: {successes} of 50"
    environment.close()
