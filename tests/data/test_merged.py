import numpy as np
import pytest
from recordings import make_episode, write_dataset

from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset, open_datasets
from video2act.data.opening import name_problem


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
    with pytest.raises(DatasetError, match=r"first and .*videos do not go together: .*videos has no actions; label it"):
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


JOINTS = ("pan", "lift", "grip", "roll")


class TestNames:
    def test_numbers_in_another_order_are_not_joined(self, tmp_path):
        """Two datasets of one robot whose joints stand in another order were joined, and trained on as if they were the
        same joints."""
        for name, names in (("one", JOINTS), ("two", JOINTS[::-1])):
            record(tmp_path / name, {"front": (64, 64)}, names=names)
        expected = r"one and .*two do not go together: state\[0\] is pan in the first and roll in the second; record"
        with pytest.raises(DatasetError, match=expected):
            open_datasets([tmp_path / "one", tmp_path / "two"])
        again = record(tmp_path / "three", {"front": (64, 64)}, names=JOINTS)
        assert len(open_datasets([tmp_path / "one", again])) == 2

    def test_two_datasets_of_one_embodiment_are_compared_too(self, tmp_path):
        for name, names in (("one", JOINTS), ("two", JOINTS[::-1])):
            record(tmp_path / name, {"front": (64, 64)}, names=names)
        with pytest.raises(DatasetError, match="is pan in the first and roll in the second"):
            open_datasets([tmp_path / "one", tmp_path / "two"], embodiments=["one_arm_position"] * 2)

    @pytest.mark.parametrize(
        ("theirs", "problem"),
        [
            (JOINTS, ""),
            (("state_0", "state_1", "state_2", "state_3"), ""),
            (("motor_1", "motor_2", "motor_3", "motor_4"), ""),
            (("pan", "lift", "state_2", "state_3"), ""),
            (("x", "y", "z", "grip"), "state[0] is pan in one and x in two"),
            (("pan", "lift", "roll", "grip"), "state[2] is grip in one and roll in two"),
            (("state_0", "pan", "state_2", "state_3"), "state[0] is pan in one and state_0 in two"),
        ],
    )
    def test_names_that_only_count_say_nothing(self, theirs, problem):
        assert name_problem("state", JOINTS, theirs, words=("one", "two")) == problem
        assert bool(name_problem("state", theirs, JOINTS, words=("two", "one"))) == bool(problem)

    def test_counting_names_are_compared_with_each_other(self):
        ours, theirs = ("joint_1", "joint_2"), ("joint_2", "joint_1")
        assert name_problem("action", ours, theirs, words=("one", "two"))
        assert not name_problem("action", ours, ("joint_0", "joint_1"), words=("one", "two"))


def record(root, sizes, names=("a", "b", "c", "d")):
    with DatasetWriter.create(
        root, fps=20.0, robot="arm", cameras=tuple(sizes), image_size=sizes, state_names=names, action_names=names
    ) as writer:
        frames = {camera: np.zeros((2, *size, 3), np.uint8) for camera, size in sizes.items()}
        writer.add_episode(Episode(frames, np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32), "push"))
    return root
