import numpy as np
import pytest

from video2act.data import DatasetWriter, Episode
from video2act.describe import describe_dataset


def write(root, action):
    names = ("grip",) if action is not None else ()
    shape = {"cameras": ("eye",), "image_size": 16, "state_names": ("x", "y"), "action_names": names}
    with DatasetWriter.create(root, fps=10.0, robot="arm", **shape) as writer:
        for task in ("push", "pull", "push"):
            state = np.array([[0, -1.5], [0.25, 1]], np.float32)
            writer.add_episode(Episode({"eye": np.zeros((2, 16, 16, 3), np.uint8)}, state, action, task))
    return root


def test_everything_is_on_one_screen(tmp_path):
    text = describe_dataset(write(tmp_path / "set", np.array([[0], [1]], np.float32)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for expected in (
        "robot arm",
        "fps 10",
        "cameras eye: 16 x 16 px, h264",
        "episodes 3 of 2 to 2 frames, median 2",
        "frames 6 (0.6 s)",
        "actions 1 numbers",
        "push 2",
        "pull 1",
        "y -1.5 -0.25 1 1.25",
        "grip 0 0.5 1 0.5",
    ):
        assert expected in lines
    assert max(map(len, text.splitlines())) <= 130


def test_a_dataset_of_videos(tmp_path):
    assert "none: videos only" in describe_dataset(write(tmp_path / "set", None))


def test_no_dataset(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a LeRobot dataset"):
        describe_dataset(tmp_path)
