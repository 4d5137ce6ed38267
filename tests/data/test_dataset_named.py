"""Errors about several datasets name the folder that is meant, and a remedy that helps."""

import re
import shutil
from pathlib import Path

import pytest

from video2act.config import VideoTrainConfig
from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset, open_datasets
from video2act.data.clip_sampler import Footage
from video2act.data.view import split


@pytest.fixture
def unlabelled(recorded: Path, tmp_path: Path) -> Path:
    """The same episodes without actions."""
    labelled, folder = LeRobotDataset(recorded), tmp_path / "films"
    info = labelled.info
    with DatasetWriter.create(
        folder,
        fps=labelled.fps,
        robot=labelled.robot,
        cameras=labelled.cameras,
        image_size={camera: labelled.image_size(camera) for camera in labelled.cameras},
        state_names=info.state_names,
        action_names=(),
    ) as writer:
        for i in range(len(labelled)):
            known = labelled.episode(i)
            frames = {camera: labelled.frames(i, camera) for camera in labelled.cameras}
            writer.add_episode(Episode(frames, known.state, None, known.instruction))
    return folder


@pytest.mark.parametrize("is_first", [False, True])
def test_a_dataset_without_actions_beside_one_that_has_them(recorded: Path, unlabelled: Path, is_first: bool):
    """`action_dim is 2 in the first and None in the second` came with --embodiments as remedy, which cannot help."""
    pair = [unlabelled, recorded] if is_first else [recorded, unlabelled]
    remedy = r"label it first \(video2act label\), or learn its frames alone: train-video, or --video-data of train$"
    with pytest.raises(DatasetError, match=rf"{re.escape(str(unlabelled))} has no actions; {remedy}"):
        open_datasets(pair)


def test_the_dataset_that_lacks_a_camera_is_named(recorded: Path, tmp_path: Path):
    """`the dataset has no camera 'corner4'`, and several were given."""
    other = shutil.copytree(recorded, tmp_path / "other")
    parts = [half for folder in (recorded, other) for half in split(LeRobotDataset(folder), 0.4)]
    with pytest.raises(ValueError, match=rf"^{re.escape(str(recorded))} has no camera 'corner4'; its cameras are "):
        Footage.open(parts, "corner4", config=VideoTrainConfig(), sizes=[(8, 8)])
