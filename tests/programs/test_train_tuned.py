"""`train` with a video model that learns with the policy: whole or by LoRA, the tiny one or a published one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import published_models
from trainings import train, train_video
from video2act.config import PolicyConfig, PretrainedBackboneConfig, TrainConfig, TuningConfig, VideoTrainConfig
from video2act.policy import Video2Act
from video2act.presets import PRESETS
from video2act.system2.backbones import make_backbone
from video2act.training.loop import TrainingLoop
from video2act.types import Batch

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

LORA, FULL = TuningConfig("lora", rank=2, alpha=4.0), TuningConfig("full")
CONFIG = TrainConfig(num_steps=3, batch_size=2, warmup_steps=1, save_every=2, video_learning_rate=1e-2)
TEXT = ["push", "pull"]


@pytest.fixture
def wan(tmp_path: Path) -> PretrainedBackboneConfig:
    source = published_models.write_wan21(tmp_path / "wan21")
    return PretrainedBackboneConfig("wan21", str(source), (2,), dtype="float32", text_cache=str(tmp_path / "text"))


@pytest.fixture
def preset(wan: PretrainedBackboneConfig, small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch) -> str:
    """The small policy over a tiny Wan."""
    assert small_config.system2 is not None
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    config = replace(small_config, system2=replace(small_config.system2, backbone=wan, streams=streams))
    monkeypatch.setitem(PRESETS, "over_wan", lambda data: config)
    return "over_wan"


def transformer_of(policy: Video2Act) -> Any:
    assert policy.system2 is not None
    return policy.system2.backbone.transformer


@pytest.mark.parametrize("tuning", [FULL, replace(LORA, gradient_checkpointing=True)], ids=["full", "lora"])
def test_a_published_model_learns_with_the_policy_and_comes_back(
    tuning: TuningConfig, preset: str, recorded: Path, make_batch: Callable[..., Batch], tmp_path: Path
):
    train((recorded,), tmp_path / "run", config=CONFIG, preset=preset, tuning=tuning)
    assert not (tmp_path / "run" / "seen").exists()  # nothing could be cached
    policy = Video2Act.load(tmp_path / "run")
    assert policy.config.system2 is not None
    assert policy.config.system2.tuning == tuning
    published: Any = make_backbone(policy.config.system2.backbone)
    before, after = published.transformer.state_dict(), transformer_of(policy).state_dict()
    assert before.keys() == after.keys()  # a LoRA is merged
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("attn1.to_q" in name for name in moved)
    assert not any(".vae." in name for name in load_file(tmp_path / "run" / "model.safetensors"))
    assert (tmp_path / "run" / "adapter").is_dir() == (tuning.method == "lora")
    clips = make_batch(policy.config).videos
    again = Video2Act.load(tmp_path / "run")
    policy.save(tmp_path / "copy")
    for other in (again, Video2Act.load(tmp_path / "copy")):
        assert torch.equal(policy.perceive(clips, TEXT).data, other.perceive(clips, TEXT).data)


def test_a_lora_of_train_video_is_looked_through_frozen(
    preset: str, wan: PretrainedBackboneConfig, recorded: Path, tmp_path: Path
):
    video = VideoTrainConfig(
        num_steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, num_frames=9, sizes_px=(32,)
    )
    train_video((recorded,), tmp_path / "video", config=video, backbone=wan, tuning=LORA)
    train(
        (recorded,),
        tmp_path / "run",
        config=replace(CONFIG, num_steps=1, video_learning_rate=TrainConfig().video_learning_rate),
        preset=preset,
        video_model=tmp_path / "video",
    )
    policy = Video2Act.load(tmp_path / "run")
    tuned: Any = make_backbone(replace(wan, source=str(tmp_path / "video")))
    for name, tensor in transformer_of(policy).state_dict().items():
        assert torch.equal(tensor, tuned.transformer.state_dict()[name]), name


def test_the_tiny_model_learns_with_the_policy(
    small_config: PolicyConfig, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(PRESETS, "narrow", lambda data: small_config)
    assert small_config.system2 is not None
    video = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), tmp_path / "video", config=video, backbone=small_config.system2.backbone)
    train((recorded,), tmp_path / "run", config=CONFIG, preset="narrow", video_model=tmp_path / "video", tuning=FULL)
    before, after = (
        load_file(tmp_path / "video" / "model.safetensors"),
        load_file(tmp_path / "run" / "model.safetensors"),
    )
    assert not torch.equal(before["latent_in.weight"], after["system2.backbone.latent_in.weight"])
    assert torch.equal(before["codec.components"], after["system2.backbone.codec.components"])


def test_a_killed_joint_training_that_goes_on_equals_one_that_was_never_killed(
    preset: str, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train((recorded,), tmp_path / "whole", config=CONFIG, preset=preset, tuning=LORA)
    take_step = TrainingLoop._step

    def killed(self: TrainingLoop, step: int, inputs: Any) -> Any:
        if step == 2:
            raise KeyboardInterrupt
        return take_step(self, step, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train((recorded,), tmp_path / "killed", config=CONFIG, preset=preset, tuning=LORA)
    train((recorded,), tmp_path / "killed", config=CONFIG, preset=preset, resume=True, tuning=LORA)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_video_model_learns_at_its_own_rate(preset: str, recorded: Path, tmp_path: Path):
    """A step of Adam moves each weight by about its learning rate."""
    slow = replace(CONFIG, num_steps=1, warmup_steps=0, video_learning_rate=1e-6, weight_decay=0.0)
    train((recorded,), tmp_path / "run", config=slow, preset=preset, tuning=FULL)
    policy = Video2Act.load(tmp_path / "run")
    assert policy.config.system2 is not None
    published: Any = make_backbone(policy.config.system2.backbone)
    name = "blocks.0.attn1.to_q.weight"
    moved = (transformer_of(policy).state_dict()[name] - published.transformer.state_dict()[name]).abs()
    assert 0 < moved.max() < 3e-6
    assert moved.isfinite().all()


def test_tuning_without_a_video_model_is_refused(small_config: PolicyConfig):
    with pytest.raises(ValueError, match=r"system2: missing field backbone, streams of System2Config"):
        replace(small_config, system2=None).replace({"system2.tuning.method": "full"})
    with pytest.raises(ValueError, match="lora is for published video models; tune the tiny one whole"):
        small_config.replace({"system2.tuning": LORA})


def test_a_cache_of_a_frozen_model_is_of_no_use_to_one_that_learns(recorded: Path, tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"cache would have no effect: system2.tuning.method=full runs System 2 at every step; leave"
    ):
        train((recorded,), tmp_path / "run", config=CONFIG, tuning=FULL, cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()
