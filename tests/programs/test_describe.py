import json
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import published_models
from video2act.config import PretrainedBackboneConfig
from video2act.data import DatasetWriter, Episode
from video2act.programs.info import describe, describe_dataset, describe_preset, describe_video_model
from video2act.system2.backbones import TinyBackbone, make_backbone, save_video_model


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
        "state 2 numbers: observation.state",
        "action 1 numbers: action",
        "action float32 [1] action",
        "observation.images.eye video [16, 16, 3] camera eye",
        "push 2",
        "pull 1",
        "y -1.5 -0.25 1 1.25",
        "grip 0 0.5 1 0.5",
    ):
        assert expected in lines
    assert max(map(len, text.splitlines())) <= 130


def test_all_environments():
    """No verb listed them."""
    lines = describe("environments").splitlines()
    assert any(line.split()[:3] == ["moving:", "5", "5"] for line in lines)
    assert "push-v3" in " ".join(lines)


def test_a_dataset_of_videos(tmp_path):
    assert "action       none" in describe_dataset(write(tmp_path / "set", None))


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


def test_a_mistyped_preset_is_answered_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="wan22_5 is not a folder, nor a preset; did you mean 'wan22_5b'"):
        describe(Path("wan22_5"))
    with pytest.raises(FileNotFoundError, match="push is not a folder; expected a dataset"):
        describe(Path("push"))
    assert describe(Path("cogvideox15")) == describe_preset("cogvideox15")


def test_a_folder_with_the_name_of_a_preset_is_looked_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "small", None)
    assert "action       none" in describe(Path("small"))


@pytest.mark.parametrize("layout", ["diffusers", "original"])
def test_a_video_models_folder_is_named_and_measured(tmp_path, layout):
    root = published_models.write_wan22(tmp_path / "wan")
    if layout == "original":
        root = published_models.write_original(tmp_path / "original", root)
    text = describe(root)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    where = "in diffusers' layout" if layout == "diffusers" else "in the original files"
    assert f"kind WanTransformer3DModel (of wan21, wan22, wan_small), {where}" in lines
    assert "blocks 3 of width 24" in lines
    assert "presets small, wan21_1b, wan21_14b, wan22_5b" in lines


def test_what_train_video_has_written_is_named(tmp_path, small_backbone):
    root = published_models.write_ltx(tmp_path / "ltx")
    config = PretrainedBackboneConfig("ltx", str(root), (1,), dtype="float32", text_cache=str(tmp_path))
    backbone = make_backbone(config, whole=True)
    assert isinstance(backbone, nn.Module)
    save_video_model(tmp_path / "tuned", backbone, weights=backbone.state_dict())
    assert f"ltx, finetuned by train-video from {root}"[:60] in " ".join(describe(tmp_path / "tuned").split())
    tiny = TinyBackbone(small_backbone)
    save_video_model(tmp_path / "tiny", tiny, weights=tiny.state_dict())
    assert "tiny, 2 blocks, trained by train-video" in " ".join(describe(tmp_path / "tiny").split())


def test_a_video_model_of_no_known_family_is_named(tmp_path):
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"_class_name": "AllegroTransformer3DModel"}))
    with pytest.raises(
        ValueError, match="is a video model, but of the kind AllegroTransformer3DModel; known are the families wan21"
    ):
        describe_video_model(tmp_path)
