"""Scenes that look otherwise: the picture changes, nothing else does."""

from pathlib import Path

import numpy as np
import pytest

from video2act.data import LeRobotDataset
from video2act.data.origin import load_origin
from video2act.envs import make_environment, make_expert
from video2act.envs.visual_shift import MIXED, VISUAL_SHIFTS, VisualShift
from video2act.programs.collect import collect
from video2act.types import Observation

ENVIRONMENTS = [
    "moving:intercept",
    "metaworld:push-v3",
    "aloha:transfer_cube",
    pytest.param("libero:libero_object/0", marks=pytest.mark.libero),
]


def played(name: str, shift: str | None, *, seed: int = 3, steps: int = 4) -> list[Observation]:
    """The first observations of an episode that the expert plays."""
    pytest.importorskip({"aloha": "gym_aloha", "libero": "libero"}.get(name.partition(":")[0], "metaworld"))
    environment = make_environment(name, image_size=48, visual_shift=shift)
    expert = make_expert(environment)
    observations = [environment.reset(seed)]
    expert.reset()
    for _ in range(steps):
        observations.append(environment.step(expert.act()).observation)
    environment.close()
    return observations


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_shift_changes_every_picture_and_no_state(name: str) -> None:
    usual = played(name, None)
    for shift in VISUAL_SHIFTS[:-1]:
        for before, after in zip(usual, played(name, shift), strict=True):
            np.testing.assert_array_equal(before.state, after.state, err_msg=shift)
            for camera, image in before.images.items():
                assert (image != after.images[camera]).any(), f"{shift} leaves {camera} as it was"


def test_the_seed_of_a_scene_draws_its_shift() -> None:
    first, again, other = (played("moving:intercept", "colours", seed=seed, steps=0)[0] for seed in (3, 3, 4))
    for camera, image in first.images.items():
        np.testing.assert_array_equal(image, again.images[camera])
        assert np.abs(image[:8].mean((0, 1)) - other.images[camera][:8].mean((0, 1))).max() > 5  # far from the objects


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


def test_the_ball_flies_and_colours_stay_during_an_episode() -> None:
    moved = [each.images["topview"].astype(int) for each in played("moving:intercept", "distractor", steps=20)]
    usual = [each.images["topview"].astype(int) for each in played("moving:intercept", None, steps=20)]
    places = [np.argwhere((a != b).any(-1)).mean(0) for a, b in zip(moved, usual, strict=True)]
    assert np.linalg.norm(places[-1] - places[0]) > 2
    size = [(a != b).any(-1).sum() for a, b in zip(moved, usual, strict=True)]
    assert max(size) < 0.02 * 48 * 48  # a small one
    tinted = [each.images["topview"].astype(int) for each in played("moving:intercept", "colours", steps=20)]
    assert np.abs(tinted[0][:6] - tinted[-1][:6]).max() < 40  # the far border of the table, where nothing moves


def test_mixed_scenes_show_every_shift_about_equally_often() -> None:
    drawn = [VisualShift(MIXED, seed, 0.0).of_scene for seed in range(5000, 5200)]
    counts = {name: drawn.count(name) for name in VISUAL_SHIFTS[:-1]}
    assert sum(counts.values()) == 200
    assert min(counts.values()) > 30


def test_an_unknown_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown visual shift 'colors'. Did you mean 'colours'"):
        make_environment("moving:intercept", visual_shift="colors")


def test_demonstrations_record_how_they_look_and_are_only_continued_so(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    how = {"episodes": 1, "image_size": 32, "cameras": ("topview",), "workers": 1}
    for name, shift in (("usual", None), ("shifted", "colours")):
        collect("metaworld:reach-v3", tmp_path / name, visual_shift=shift, **how)
    assert load_origin(tmp_path / "shifted")["visual_shift"] == "colours"
    first = [LeRobotDataset(tmp_path / name).frames(0, "topview", numbers=[0])[0] for name in ("usual", "shifted")]
    assert first[0].shape == first[1].shape
    assert np.abs(first[0].astype(int) - first[1].astype(int)).mean() > 5
    with pytest.raises(ValueError, match="visual_shift was 'colours', now None"):
        collect("metaworld:reach-v3", tmp_path / "shifted", **{**how, "episodes": 2})
