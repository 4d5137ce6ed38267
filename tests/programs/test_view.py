"""`video2act view` on a real dataset and a real policy, both as small as they come."""

from pathlib import Path

import av
import numpy as np
import pytest

from video2act.data import DatasetWriter, Episode
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny
from video2act.programs.view import view
from video2act.statistics import Statistics
from video2act.viz.pictures import SCALE_PX

NUM_FRAMES = 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with random weights for one camera at 20 Hz."""
    one = Statistics(mean=(0.0,), std=(1.0,), min=(-1.0,), max=(1.0,))
    path = tmp_path_factory.mktemp("run")
    Video2Act(tiny(DataSpec(1, 1, 20.0, ("top",))), {"state": one, "action": one}).save(path)
    return path


def record(root: Path, fps: float, camera: str) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros((NUM_FRAMES, 1), np.float32)
    with DatasetWriter.create(
        root, fps=fps, robot="fake", state_names=("x",), action_names=("x",), cameras=(camera,), image_size=64
    ) as writer:
        writer.add_episode(Episode({camera: frames}, zeros, zeros, "push"))
    return root


def test_an_episode_becomes_a_film_of_the_camera_and_both_streams(run: Path, tmp_path: Path):
    path = view(run, record(tmp_path / "data", 20.0, "top"), episode=0, out=tmp_path / "film.mp4")
    with av.open(path, "r") as container:
        frames = list(container.decode(video=0))
    assert len(frames) == NUM_FRAMES
    assert frames[0].width == 256 + 4 * (256 + SCALE_PX)


def test_another_rate_another_camera_or_no_such_episode_is_refused(run: Path, tmp_path: Path):
    fitting = record(tmp_path / "fitting", 20.0, "top")
    with pytest.raises(ValueError, match="episodes 0 to 0, got 3"):
        view(run, fitting, episode=3, out=tmp_path / "film.mp4")
    with pytest.raises(
        ValueError, match="the policy has 20, the dataset 10; this policy was trained on other data, such as another"
    ):
        view(run, record(tmp_path / "slow", 10.0, "top"), episode=0, out=tmp_path / "film.mp4")
    with pytest.raises(ValueError, match="looks through top, which the dataset does not have; its cameras are front"):
        view(run, record(tmp_path / "front", 20.0, "front"), episode=0, out=tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()
