"""`train-video` as it is run, on a small recording: what it writes, reports and refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from trainings import train_video
from video2act.config import BackboneConfig, VideoTrainConfig
from video2act.data import LeRobotDataset
from video2act.system2.backbones import TinyBackbone, load_video_model
from video2act.training.loop import TrainingLoop

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CONFIG = VideoTrainConfig(num_steps=6, batch_size=4, warmup_steps=1, save_every=2, num_frames=9, sizes_px=(16,))


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    backbone = load_video_model(folder)[1]
    assert isinstance(backbone, TinyBackbone)
    return backbone.state_dict()


@pytest.fixture(scope="module")
def trained(recorded: Path, small_backbone: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "model"
    train_video((recorded,), out, config=CONFIG, backbone=small_backbone)
    return out


class TestRun:
    def test_the_folder_is_a_video_model(self, trained: Path, small_backbone: BackboneConfig):
        config, backbone = load_video_model(trained)
        assert config == small_backbone
        assert isinstance(backbone, TinyBackbone)
        torch.manual_seed(CONFIG.seed)
        assert not torch.equal(backbone.latent_out.weight, TinyBackbone(small_backbone).latent_out.weight)
        assert [line["step"] for line in metrics(trained)] == list(range(6))
        assert not (trained / "checkpoints").exists()

    def test_the_report_has_numbers_for_every_past_and_every_horizon(self, trained: Path):
        report = json.loads((trained / "video_report.json").read_text())
        assert np.isfinite(report["loss"])
        # one episode of 12 frames is held out; clips of 9 frames end at its last four
        assert report["num_clips"] == 4
        rows = report["predictions"]
        assert [(row["num_clean"], row["horizon"]) for row in rows] == [(1, 1), (1, 2), (2, 1)]
        for row in rows:
            assert all(np.isfinite(row[name]) for name in ("model", "copy_last", "codec"))
            assert row["codec"] > row["model"] - 0.5  # no prediction is better than what the codec can show

    def test_the_prediction_can_be_watched(self, trained: Path):
        with av.open(trained / "prediction.mp4") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == CONFIG.num_frames
        # four clips side by side, the truth above the imagined; twice enlarged
        assert frames[0].shape == (2 * 2 * 16, 2 * 4 * 16, 3)

    def test_no_steps_give_random_weights_behind_a_fitted_codec(
        self, recorded: Path, small_backbone: BackboneConfig, trained: Path, tmp_path: Path
    ):
        control_model = train_video(
            (recorded,), tmp_path / "control", config=replace(CONFIG, num_steps=0), backbone=small_backbone
        )
        control = weights(tmp_path / "control")
        torch.manual_seed(CONFIG.seed)
        random = TinyBackbone(small_backbone).state_dict()
        for name, tensor in control.items():
            if name.startswith("codec."):
                assert torch.equal(tensor, weights(trained)[name])
            else:
                assert torch.equal(tensor, random[name]), name
        assert len(control_model.report.predictions) == 3

    def test_actions_are_not_needed_and_not_used(self, recorded: Path, small_backbone: BackboneConfig, tmp_path: Path):
        # a dataset that is given twice is two datasets: six episodes
        config = replace(CONFIG, num_steps=0, validation_fraction=0.4)
        trained = train_video(
            (recorded, recorded), tmp_path / "model", config=config, backbone=small_backbone, camera="wrist"
        )
        assert trained.report.num_clips == 8
        assert LeRobotDataset(recorded).action_dim == 2


class TestResume:
    def test_a_killed_run_that_goes_on_equals_one_that_was_never_killed(
        self, recorded: Path, small_backbone: BackboneConfig, trained: Path, tmp_path: Path
    ):
        take_step, out = TrainingLoop._step, tmp_path / "killed"

        def killed(self: TrainingLoop, step: int, inputs: Callable[[int], tuple[Any, ...]]) -> Any:
            if step == 5:
                raise KeyboardInterrupt
            return take_step(self, step, inputs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingLoop, "_step", killed)
            with pytest.raises(KeyboardInterrupt):
                train_video((recorded,), out, config=CONFIG, backbone=small_backbone)
        train_video((recorded,), out, config=CONFIG, backbone=small_backbone, resume=True)
        assert metrics(out) == metrics(trained)
        assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
        assert (out / "video_report.json").read_text() == (trained / "video_report.json").read_text()


class TestRefused:
    def test_a_folder_that_holds_a_training(self, recorded: Path, small_backbone: BackboneConfig, trained: Path):
        with pytest.raises(FileExistsError, match="already holds a training"):
            train_video((recorded,), trained, config=CONFIG, backbone=small_backbone)

    def test_an_unknown_camera(self, recorded: Path, small_backbone: BackboneConfig, tmp_path: Path):
        with pytest.raises(ValueError, match="no camera 'top'; its cameras are front, wrist"):
            train_video((recorded,), tmp_path / "model", config=CONFIG, backbone=small_backbone, camera="top")

    def test_clips_that_do_not_fit_the_codec(self, recorded: Path, small_backbone: BackboneConfig, tmp_path: Path):
        with pytest.raises(ValueError, match="got 8 frames"):
            train_video((recorded,), tmp_path / "model", config=replace(CONFIG, num_frames=8), backbone=small_backbone)
        assert not (tmp_path / "model").exists()

    def test_clips_without_a_future(self, recorded: Path, small_backbone: BackboneConfig, tmp_path: Path):
        """Before the folder is claimed: the same command with other frames must work afterwards."""
        with pytest.raises(ValueError, match="longer clips"):
            train_video((recorded,), tmp_path / "model", config=replace(CONFIG, num_frames=1), backbone=small_backbone)
        assert not (tmp_path / "model").exists()
