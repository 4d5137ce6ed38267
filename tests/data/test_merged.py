import numpy as np
import pytest
from recordings import make_episode, write_dataset

from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset, open_datasets


@pytest.fixture
def first(tmp_path):
    return write_dataset(tmp_path / "first", [make_episode(0), make_episode(1, 5)])


def test_one_folder_is_that_dataset(first):
    assert isinstance(open_datasets([first]), LeRobotDataset)
    with pytest.raises(ValueError, match="at least one dataset folder"):
        open_datasets([])


def test_episodes_are_numbered_through(tmp_path, first):
    second = write_dataset(tmp_path / "second", [make_episode(2, 4, "pull")])
    merged = open_datasets([second, first])
    assert merged.lengths == (4, 7, 5)
    assert merged.tasks == ("pull", "push")
    assert np.array_equal(merged.episode(2).state, make_episode(1, 5).state)
    assert np.array_equal(merged.frames(0, "front"), LeRobotDataset(second).frames(0, "front"))


def test_what_does_not_go_together_names_both(tmp_path, first):
    videos = write_dataset(tmp_path / "videos", [make_episode(2, has_action=False)])
    with pytest.raises(
        DatasetError, match=r"first and .*videos do not go together: action_dim is 2 in the first and None in the"
    ):
        open_datasets([first, videos])
    slow = write_dataset(tmp_path / "slow", [make_episode(2)], fps=10.0)
    with pytest.raises(DatasetError, match=r"fps is 20\.0 in the first and 10\.0 in the second"):
        open_datasets([first, slow])
    other = write_dataset(tmp_path / "other", [make_episode(2)], robot="leg")
    with pytest.raises(DatasetError, match="robot is arm in the first and leg in the second"):
        open_datasets([first, other])


@pytest.mark.parametrize("embodiments", [None, ("one_arm_position", "one_arm_position")])
def test_cameras_of_different_sizes_are_named(tmp_path, embodiments):
    """The message listed all cameras of both, without a word on what to do."""
    for name, side in (("large", 64), ("small", 32)):
        record(tmp_path / name, {"front": (64, 64), "wrist": (side, 64)})
    expected = (
        r"large and .*small do not go together: the height and width of camera 'wrist' is \(64, 64\) in the first and "
        r"\(32, 64\) in the second; record them alike"
    )
    with pytest.raises(DatasetError, match=expected):
        open_datasets([tmp_path / "large", tmp_path / "small"], embodiments=embodiments)


def record(root, sizes):
    names = ("a", "b", "c", "d")
    with DatasetWriter.create(
        root, fps=20.0, robot="arm", cameras=tuple(sizes), image_size=sizes, state_names=names, action_names=names
    ) as writer:
        frames = {camera: np.zeros((2, *size, 3), np.uint8) for camera, size in sizes.items()}
        writer.add_episode(Episode(frames, np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32), "push"))
