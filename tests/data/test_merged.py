import numpy as np
import pytest
from recordings import make_episode, write_dataset

from video2act.data import DatasetError, LeRobotDataset, open_datasets


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
