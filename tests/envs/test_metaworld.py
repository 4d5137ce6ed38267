"""MetaWorld: its five traps, one test each, and what a policy is shown."""

import sys

import numpy as np
import pytest

from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.metaworld import UPSIDE_DOWN_CAMERAS, MetaWorld, check_version
from video2act.envs.metaworld_tasks import INSTRUCTIONS
from video2act.envs.simulation import import_simulator

mujoco = import_simulator("mujoco")

STAY = np.zeros(4, dtype=np.float32)


def run_expert(environment: MetaWorld, seed: int) -> bool:
    expert = MetaWorldExpert(environment)
    environment.reset(seed)
    expert.reset()
    while True:
        step = environment.step(expert.act())
        if step.done:
            return step.success


def test_trap_a_the_goal_is_not_clipped_to_the_origin() -> None:
    environment = MetaWorld("assembly-v3", cameras=())
    environment.reset(0)
    goal = environment.privileged[-3:].copy()
    environment.step(STAY)
    assert np.abs(goal).max() > 0.05
    np.testing.assert_allclose(environment.privileged[-3:], goal)
    environment.close()


def test_trap_b_the_seed_decides_the_episode() -> None:
    environment = MetaWorld("push-v3", cameras=())
    environment.reset(0)
    first = environment.privileged.copy()
    environment.reset(1)
    other = environment.privileged.copy()
    for _ in range(5):
        environment.step(np.ones(4, dtype=np.float32))
    environment.reset(0)
    np.testing.assert_array_equal(environment.privileged, first)
    assert np.abs(other - first).max() > 0.01
    environment.close()


@pytest.mark.parametrize("task", ["reach-v3", "push-v3", "soccer-v3"])
def test_trap_c_the_goal_marker_is_at_the_goal_in_the_first_frame(task: str) -> None:
    environment = MetaWorld(task, cameras=())
    environment.reset(0)
    for site, position in environment._simulator._target_site_config:
        np.testing.assert_allclose(environment._simulator.data.site(site).xpos, position)
    environment.close()


def test_trap_d_cameras_on_their_head_are_turned() -> None:
    environment = MetaWorld("push-v3", cameras=tuple(sorted(UPSIDE_DOWN_CAMERAS)), image_size=64)
    images = environment.reset(0).images
    for camera, image in images.items():
        # the wooden table is redder than it is blue; the sky and the floor behind it are grey
        redness = image[..., 0].astype(int) - image[..., 2]
        wood = (redness > 15) & (redness < 60)
        assert wood[32:].mean() > wood[:32].mean(), f"{camera}: the table is not below"
        assert image.flags.c_contiguous
    environment.close()


def test_trap_d_no_camera_is_forgotten() -> None:
    environment = MetaWorld("push-v3", cameras=())
    environment.reset(0)
    model, data = environment._simulator.model, environment._simulator.data
    names = [model.camera(index).name for index in range(model.ncam)]
    # the second axis of a camera points up in its picture; seen from straight above it has no height
    upside_down = {name for name in names if data.camera(name).xmat.reshape(3, 3)[2, 1] < -0.1}
    assert upside_down == UPSIDE_DOWN_CAMERAS
    environment.close()


@pytest.mark.parametrize("task", ["drawer-open-v3", "window-close-v3", "peg-insert-side-v3", "dial-turn-v3"])
def test_trap_e_the_first_frame_shows_the_scene_that_is_simulated(task: str) -> None:
    environment = MetaWorld(task, cameras=())
    environment.reset(0)
    simulator = environment._simulator
    shown, privileged = simulator.data.geom_xpos.copy(), environment.privileged.copy()
    mujoco.mj_forward(simulator.model, simulator.data)
    np.testing.assert_allclose(shown, simulator.data.geom_xpos, atol=1e-9)
    np.testing.assert_allclose(
        privileged, np.r_[simulator._get_curr_obs_combined_no_goal(), privileged[:18], privileged[-3:]]
    )
    environment.close()


def test_the_state_does_not_depend_on_object_or_goal() -> None:
    environment = MetaWorld("push-v3", cameras=())
    states, privileged = [], []
    for seed in range(3):
        states.append(environment.reset(seed).state)
        privileged.append(environment.privileged[4:].copy())
    np.testing.assert_array_equal(states[0], states[1])
    np.testing.assert_array_equal(states[0], states[2])
    assert np.abs(privileged[0] - privileged[1]).max() > 0.01
    environment.close()


def test_every_task_has_its_own_short_instruction() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(INSTRUCTIONS) == set(ALL_V3_ENVIRONMENTS)
    assert len(set(INSTRUCTIONS.values())) == 50
    assert all(2 <= len(sentence.split()) <= 14 for sentence in INSTRUCTIONS.values())


def test_fps_is_the_rate_of_the_simulated_clock() -> None:
    environment = MetaWorld("reach-v3", cameras=())
    environment.reset(0)
    before = environment._simulator.data.time
    for _ in range(8):
        environment.step(STAY)
    assert environment.spec.fps == pytest.approx(8 / (environment._simulator.data.time - before))
    assert environment.spec.fps == pytest.approx(80)
    environment.close()


def test_actions_are_clipped_as_the_simulator_documents() -> None:
    environment = MetaWorld("reach-v3", cameras=())
    states = []
    for size in (1.0, 7.0):
        environment.reset(0)
        states.append(environment.step(np.full(4, size, dtype=np.float32)).observation.state)
    np.testing.assert_array_equal(states[0], states[1])
    environment.close()


def test_no_cameras_means_no_renderer() -> None:
    environment = MetaWorld("reach-v3", cameras=())
    assert environment.reset(0).images == {}
    assert environment._cameras._renderer is None
    environment.close()


def test_an_unknown_task_or_camera_is_answered_with_what_exists() -> None:
    with pytest.raises(ValueError, match=r"unknown MetaWorld task 'puhs-v3'. Did you mean 'push-v3'\?.*window-open-v3"):
        MetaWorld("puhs-v3")
    with pytest.raises(ValueError, match=r"unknown camera 'corner5'. Did you mean 'corner\d?'\?.*gripperPOV.*topview"):
        MetaWorld("push-v3", cameras=("corner5",))
    with pytest.raises(ValueError, match="cameras must differ"):
        MetaWorld("push-v3", cameras=("corner4", "corner4"))


def test_an_episode_cannot_be_longer_than_the_simulator_allows() -> None:
    with pytest.raises(ValueError, match=r"500 steps; max_steps=501"):
        MetaWorld("push-v3", cameras=(), max_steps=501)


def test_a_missing_simulator_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    with pytest.raises(ImportError, match=r"pip install 'video2act\[sim\]'"):
        MetaWorld("push-v3")


@pytest.mark.parametrize("task", ["push-v3", "assembly-v3"])
def test_the_expert_succeeds(task: str) -> None:
    environment = MetaWorld(task, cameras=())
    assert [run_expert(environment, seed) for seed in (1000, 1001)] == [True, True]
    environment.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(INSTRUCTIONS))
def test_the_expert_succeeds_mostly_on_every_task(task: str) -> None:
    environment = MetaWorld(task, cameras=(), max_steps=500)
    successes = sum(run_expert(environment, seed) for seed in range(1000, 1020))
    assert successes >= 14, f"{task}: {successes} of 20"  # the weakest of them succeed in about 17
    environment.close()


def test_a_simulator_without_the_default_view_names_the_version() -> None:
    """LeRobot 0.6.1 asks for metaworld 3.0.0, where the default camera was called unknown."""
    check_version(("corner4",), ["corner3", "corner4"])
    check_version(("corner3",), ["corner3"])
    with pytest.raises(ValueError, match=r"no camera corner4.*'metaworld>=3\.1', or choose others of corner3, topview"):
        check_version(("corner4", "topview"), ["corner3", "topview"])
