import numpy as np
import pytest

from video2act.data import DatasetWriter, Episode
from video2act.describe import describe_dataset, describe_preset


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


def test_a_published_video_model_is_measured_without_its_weights():
    lines = [" ".join(line.split()) for line in describe_preset("wan22_5b").splitlines()]
    for expected in (
        "video model wan22 from Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        "blocks 20 of 30 are loaded and run",
        "parameters 3.36 B loaded of the transformer's 5.00 B",
        "VAE encoder 150 M parameters, in float32",
        "memory 7.32 GB of weights (bfloat16, VAE float32), text encoder apart",
        "spatial 1 480 x 480 1 x 15 x 15 3072 225 224",
        "motion 61 224 x 224 16 x 7 x 7 3072 784 224",
    ):
        assert expected in lines


def test_the_tiny_video_model_and_none():
    assert "tiny, trained by train-video; 2 of 4 blocks run" in describe_preset("tiny")
    assert "none: System 1 alone" in describe_preset("tiny_system1")


def test_frames_that_are_not_square_and_features_that_all_become_tokens():
    lines = [" ".join(line.split()) for line in describe_preset("official").splitlines()]
    assert "spatial 1 480 x 832 1 x 15 x 26 3072 390 390" in lines
    assert "motion 61 224 x 224 16 x 7 x 7 3072 784 784" in lines
    assert any(line.startswith("System 1 12") and "google/t5-v1_1-xxl and google/siglip" in line for line in lines)
