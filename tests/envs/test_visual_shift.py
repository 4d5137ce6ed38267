"""Scenes that look otherwise: the picture changes, nothing else does."""

import itertools
from typing import Any

import numpy as np
import pytest

from video2act.envs import make_environment, make_expert
from video2act.envs.simulation import import_simulator
from video2act.envs.visual_shift import MIXED, VISUAL_SHIFTS, VisualShift
from video2act.types import Observation

ENVIRONMENTS = [
    "moving:intercept",
    "metaworld:push-v3",
    "aloha:transfer_cube",
    pytest.param("libero:libero_object/0", marks=pytest.mark.libero),
]


DATA = {"aloha:transfer_cube": lambda it: it.data, "libero:libero_object/0": lambda it: it.simulator.sim.data._data}


def opened(name: str, **options: Any) -> Any:
    pytest.importorskip({"aloha": "gym_aloha", "libero": "libero"}.get(name.partition(":")[0], "metaworld"))
    return make_environment(name, **options)


def played(name: str, shift: str | None, *, seed: int = 3, steps: int = 4) -> list[Observation]:
    """The first observations of an episode that the expert plays."""
    environment = opened(name, image_size=48, visual_shift=shift)
    expert = make_expert(environment)
    observations = [environment.reset(seed)]
    expert.reset()
    for _ in range(steps):
        observations.append(environment.step(expert.act()).observation)
    environment.close()
    return observations


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_shift_changes_a_state(name: str) -> None:
    usual = played(name, None)
    for shift in VISUAL_SHIFTS:
        for before, after in zip(usual, played(name, shift), strict=True):
            np.testing.assert_array_equal(before.state, after.state, err_msg=shift)


@pytest.mark.parametrize("size", [48, (48, 96), (96, 48)])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_scene_shows_its_shift_in_every_picture(name: str, size: int | tuple[int, int]) -> None:
    """Light and camera were drawn from no change at all, and a ball was hidden behind a gripper or out of view."""
    environment = opened(name, image_size=size)
    usual = environment.reset(0).images
    for shift, seed in itertools.product(VISUAL_SHIFTS[:-1], range(6)):
        data = environment._simulator.data if hasattr(environment, "_simulator") else DATA[name](environment)
        shown = environment._cameras.capture(data, VisualShift(shift, seed, 0.3))
        for camera, image in usual.items():
            changed = np.abs(shown[camera].astype(int) - image)
            seen = (changed.max(-1) > 20).mean() if shift == "distractor" else changed.mean()
            least = 0.001 if shift == "distractor" else 1.5
            assert seen > least, f"{shift} leaves {camera} as it was, seed {seed}"
    environment.close()


def test_the_seed_of_a_scene_draws_its_shift() -> None:
    first, again, other = (played("moving:intercept", "colours", seed=seed, steps=0)[0] for seed in (3, 3, 4))
    for camera, image in first.images.items():
        np.testing.assert_array_equal(image, again.images[camera])
        changed = np.abs(image.astype(int) - other.images[camera])
        assert changed.mean() > 5, f"{camera}: another scene has the same colours"


def test_the_scene_looks_as_usual_again_after_each_picture() -> None:
    """A shift that stayed in the model would reach the expert's environment, or add up."""
    environment = make_environment("moving:intercept", image_size=48)
    usual = environment.reset(3).images
    for shift in VISUAL_SHIFTS:
        environment.visual_shift = shift  # type: ignore[attr-defined]
        environment.reset(3)
    environment.visual_shift = None  # type: ignore[attr-defined]
    for camera, image in environment.reset(3).images.items():
        np.testing.assert_array_equal(image, usual[camera])
    environment.close()


def test_the_disc_moves_and_colours_stay_during_an_episode() -> None:
    moved = [each.images["topview"].astype(int) for each in played("moving:intercept", "distractor", steps=20)]
    usual = [each.images["topview"].astype(int) for each in played("moving:intercept", None, steps=20)]
    places = [np.argwhere((a != b).any(-1)).mean(0) for a, b in zip(moved, usual, strict=True)]
    assert np.linalg.norm(places[-1] - places[0]) > 2
    tinted = [each.images["topview"].astype(int) for each in played("moving:intercept", "colours", steps=20)]
    assert np.abs(tinted[0][:6] - tinted[-1][:6]).max() < 40  # the far border of the table, where nothing moves


def test_the_disc_has_no_colour_of_what_is_handled() -> None:
    """It was as large, as fast and as yellow as the ball of moving:intercept in ten of fifty scenes."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    for seed in range(200):
        image = VisualShift("distractor", seed, 0.0).finish(grey, "topview")
        red, green, blue = image[(image != grey).any(-1)][0].astype(int)
        assert blue > max(red, green) - 30
        assert blue > 200


def test_colours_are_mixed_as_mujoco_draws_them() -> None:
    """Each part of a material was drawn in grey and a colour of its own, and glass was no longer transparent."""
    pytest.importorskip("metaworld")
    mujoco = import_simulator("mujoco")
    model = mujoco.MjModel.from_xml_string(SCENE)
    data, drawn = mujoco.MjData(model), mujoco.MjvScene(model, 100)
    mujoco.mj_forward(model, data)

    def colours() -> np.ndarray:
        view, option = mujoco.MjvCamera(), mujoco.MjvOption()
        mujoco.mjv_updateScene(model, data, option, None, view, mujoco.mjtCatBit.mjCAT_ALL, drawn)
        return np.array([drawn.geoms[number].rgba for number in range(drawn.ngeom)])

    usual = colours()
    with VisualShift("colours", 3, 0.0).shown(model, data):
        shifted = colours()
    np.testing.assert_array_equal(colours(), usual)
    assert usual.shape == (6, 4)
    np.testing.assert_array_equal(shifted[:, 3], usual[:, 3])
    assert (shifted[:, :3] != usual[:, :3]).any(1).all()
    assert (np.abs(shifted[:, :3] - usual[:, :3] / 2) <= 0.5 + 1e-6).all()  # half of it is the old colour
    np.testing.assert_array_equal(shifted[0], shifted[1])  # two parts of one material
    np.testing.assert_array_equal(shifted[3], shifted[4])  # two parts that were alike


SCENE = """<mujoco>
  <asset><material name="glass" rgba="0 .3 .4 .1"/></asset>
  <worldbody>
    <geom type="sphere" size=".1" material="glass"/>
    <geom type="box" size=".1 .1 .1" material="glass"/>
    <geom type="sphere" size=".1" material="glass" rgba="1 0 0 1"/>
    <geom type="sphere" size=".1" rgba="0 1 0 1"/>
    <geom type="box" size=".1 .1 .1" rgba="0 1 0 1"/>
    <site type="sphere" size=".1" rgba="0 0 1 .5"/>
  </worldbody>
</mujoco>"""


def test_fifty_scenes_show_each_shift_equally_often() -> None:
    """Eighteen of the study's fifty scenes had a turned camera, and only six had other colours."""
    drawn = [VisualShift(MIXED, seed, 0.0).of_scene for seed in range(5000, 5050)]
    assert sorted(drawn.count(name) for name in VISUAL_SHIFTS[:-1]) == [12, 12, 13, 13]
    assert drawn[:4] != drawn[4:8] or drawn[:4] != drawn[8:12]


def test_an_unknown_shift_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown visual shift 'colors'\. Did you mean 'colours'"):
        make_environment("moving:intercept", visual_shift="colors")
