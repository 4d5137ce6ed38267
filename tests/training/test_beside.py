"""`train --video-loss-weight`: the video model's own loss beside that of the actions, with action-free data."""

import json
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
from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.policy import Video2Act
from video2act.presets import PRESETS
from video2act.system2.backbones import make_backbone
from video2act.training.loop import TrainingLoop
from video2act.types import Batch

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

LORA, FULL = TuningConfig("lora", rank=2, alpha=4.0), TuningConfig("full")
CONFIG = TrainConfig(
    num_steps=2,
    batch_size=2,
    warmup_steps=1,
    save_every=1,
    video_learning_rate=1e-2,
    video_loss_weight=0.5,
    video_batch_size=2,
)


@pytest.fixture
def over_wan(tmp_path: Path, small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch) -> PretrainedBackboneConfig:
    """The preset `over_wan` is the small policy over a tiny Wan, tapped after its first block."""
    source = published_models.write_wan21(tmp_path / "wan21")
    wan = PretrainedBackboneConfig("wan21", str(source), (1,), dtype="float32", text_cache=str(tmp_path / "text"))
    assert small_config.system2 is not None
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    config = replace(small_config, system2=replace(small_config.system2, backbone=wan, streams=streams))
    monkeypatch.setitem(PRESETS, "over_wan", lambda data: config)
    return wan


@pytest.fixture
def video_model(recorded: Path, small_config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained tiny model, and the preset `over_tiny` for it."""
    monkeypatch.setitem(PRESETS, "over_tiny", lambda data: small_config)
    video = VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,))
    assert small_config.system2 is not None
    train_video((recorded,), tmp_path / "video", config=video, backbone=small_config.system2.backbone)
    return tmp_path / "video"


@pytest.fixture
def free(tmp_path: Path, recorded: Path) -> Path:
    return write_free(tmp_path / "free", recorded)


def write_free(root: Path, recorded: Path, cameras: tuple[str, ...] = ("front",), sentence: str = "look") -> Path:
    """Another robot's videos, without actions, at another rate."""
    data = LeRobotDataset(recorded)
    vector: dict[str, Any] = {"state_names": ("joint",), "action_names": ()}
    writer = DatasetWriter.create(root, fps=10.0, robot="other", cameras=cameras, image_size=64, **vector)
    with writer:
        frames = data.frames(0, "wrist")
        state = torch.zeros(len(frames), 1).numpy()
        writer.add_episode(Episode(dict.fromkeys(cameras, frames), state, None, sentence))
    return root


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("tuning", [FULL, replace(LORA, gradient_checkpointing=True)], ids=["full", "lora"])
def test_a_published_model_learns_both_and_the_run_folder_holds_what_the_policy_needs(
    tuning: TuningConfig,
    over_wan: PretrainedBackboneConfig,
    recorded: Path,
    free: Path,
    make_batch: Callable[..., Batch],
    tmp_path: Path,
):
    """Blocks behind the tap learn from the video loss alone; they are not saved."""
    run = tmp_path / "run"
    options: dict[str, Any] = {"preset": "over_wan", "tuning": tuning, "video_data": [LeRobotDataset(free)]}
    policy = train((recorded,), run, config=CONFIG, **options)
    for line in metrics(run):
        assert line["loss"] == pytest.approx(line["action_loss"] + 0.5 * line["video_loss"], rel=1e-5)
    transformer: Any = policy.slow.backbone.transformer
    assert len(transformer.blocks) == 1
    names = [name for name in load_file(run / "model.safetensors") if "backbone" in name]
    if tuning.method == "lora":
        assert not names
        names = [*load_file(run / "adapter" / "adapter_model.safetensors")]
    assert any("blocks.0" in name for name in names)
    assert not any("blocks.1" in name or ".vae." in name for name in names)
    loaded = Video2Act.from_pretrained(run)
    clips = make_batch(policy.config).videos
    seen = [each.perceive(clips, ["push", "look"]).data for each in (policy, loaded)]
    assert torch.allclose(seen[0], seen[1], atol=1e-5)
    models: list[Any] = [make_backbone(over_wan), loaded.slow.backbone]
    before, after = (model.transformer.blocks[0].attn1.to_q.weight for model in models)
    assert not torch.equal(before, after)


def test_the_video_loss_teaches_what_the_actions_alone_do_not(video_model: Path, recorded: Path, tmp_path: Path):
    """The head of the tiny model and its last block are behind the tap."""
    options: dict[str, Any] = {"preset": "over_tiny", "video_model": video_model, "tuning": FULL}
    without = replace(CONFIG, video_loss_weight=0.0, video_batch_size=TrainConfig().video_batch_size)
    train((recorded,), tmp_path / "alone", config=without, **options)
    train((recorded,), tmp_path / "joint", config=CONFIG, **options)
    start = load_file(video_model / "model.safetensors")
    alone, joint = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "joint"))
    name = "latent_out.weight"
    assert torch.equal(alone[f"system2.backbone.{name}"], start[name])
    assert not torch.equal(joint[f"system2.backbone.{name}"], start[name])
    assert alone.keys() == joint.keys()
    first = [metrics(tmp_path / name)[0] for name in ("alone", "joint")]
    assert first[0]["loss"] == first[1]["action_loss"]  # the same noise for the actions
    assert "video_loss" not in first[0]


def test_a_killed_joint_training_with_video_data_that_goes_on_equals_one_that_was_never_killed(
    video_model: Path, recorded: Path, free: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options: dict[str, Any] = {"preset": "over_tiny", "video_model": video_model, "tuning": FULL}
    options["video_data"] = LeRobotDataset(free)
    train((recorded,), tmp_path / "whole", config=CONFIG, **options)
    take_step = TrainingLoop._step

    def killed(self: TrainingLoop, step: int, inputs: Any) -> Any:
        if step == 1:
            raise KeyboardInterrupt
        return take_step(self, step, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train((recorded,), tmp_path / "killed", config=CONFIG, **options)
    other = replace(CONFIG, video_loss_weight=0.25)
    with pytest.raises(ValueError, match=r"started with other settings \(video_loss_weight: 0.5 then, 0.25 now"):
        train((recorded,), tmp_path / "killed", config=other, resume=True, **options)
    without: dict[str, Any] = {**options, "video_data": ()}
    with pytest.raises(ValueError, match="video_data"):
        train((recorded,), tmp_path / "killed", config=CONFIG, resume=True, **without)
    train((recorded,), tmp_path / "killed", config=CONFIG, resume=True, **options)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_the_video_loss_costs_is_recorded_and_printed(
    video_model: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options: dict[str, Any] = {"preset": "over_tiny", "video_model": video_model, "tuning": FULL}
    train((recorded,), tmp_path / "run", config=replace(CONFIG, num_steps=1), **options)
    cost = json.loads((tmp_path / "run" / "training.json").read_text())["video_loss_cost"]
    assert cost["step_ms"] > 0
    assert cost["added_gib"] > 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith(f"the video loss adds {cost['added_ms']:.0f} ms to ")
    assert "action loss 0." in printed
    assert "video loss 0." in printed


def test_held_out_episodes_stay_unseen_by_the_video_loss(
    video_model: Path, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from video2act.data.clip_sampler import ClipSampler

    drawn, clips = set(), ClipSampler.clips

    def note(self: ClipSampler, places: Any, size: Any) -> Any:
        drawn.update(episode for _, episode, _ in places)
        return clips(self, places, size)

    monkeypatch.setattr(ClipSampler, "clips", note)
    held_out = replace(CONFIG, num_steps=4, validation_fraction=0.4)
    options: dict[str, Any] = {"preset": "over_tiny", "video_model": video_model, "tuning": FULL}
    train((recorded,), tmp_path / "run", config=held_out, **options)
    assert drawn == {0, 1}
    assert "validation_loss" in metrics(tmp_path / "run")[-1]


def test_what_cannot_learn_beside_is_refused_before_any_work(
    video_model: Path, small_config: PolicyConfig, recorded: Path, free: Path, tmp_path: Path, monkeypatch: Any
):
    out = tmp_path / "run"
    blind = replace(small_config, system2=None)
    one = small_config.replace({"system2.streams.motion.num_frames": 1, "system2.streams.motion.filter.name": "none"})
    monkeypatch.setitem(PRESETS, "without", lambda data: blind)
    monkeypatch.setitem(PRESETS, "one_frame", lambda data: one)
    options: dict[str, Any] = {"preset": "over_tiny", "video_model": video_model}
    with pytest.raises(ValueError, match=r"tuning.method=frozen keeps it as it is; set --policy.system2.tuning.method"):
        train((recorded,), out, config=CONFIG, **options)
    with pytest.raises(ValueError, match="no System 2; set it to 0"):
        train((recorded,), out, config=CONFIG, preset="without")
    with pytest.raises(ValueError, match="every stream shows one frame"):
        train((recorded,), out, config=CONFIG, preset="one_frame", video_model=video_model, tuning=FULL)
    joint = {**options, "tuning": FULL}
    with pytest.raises(ValueError, match="set video_loss_weight above 0"):
        train((recorded,), out, config=TrainConfig(), **joint, video_data=[LeRobotDataset(free)])
    other = LeRobotDataset(write_free(tmp_path / "top", recorded, ("top",)))
    with pytest.raises(ValueError, match=r"dataset 1 of video_data has no camera 'front'.* its cameras are top"):
        train((recorded,), out, config=CONFIG, **joint, video_data=[other])
    long = LeRobotDataset(write_free(tmp_path / "long", recorded, sentence="push " * 300))
    with pytest.raises(ValueError, match=r"episode 0: .*bytes"):
        train((recorded,), out, config=CONFIG, **joint, video_data=[long])
    assert not out.exists()
