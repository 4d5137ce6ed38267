"""`train-video --preset small`, shrunken: Wan's own networks from nothing, the VAE first, then a policy over them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from trainings import train, train_video
from video2act.config import ScratchConfig, TrainConfig, VideoTrainConfig
from video2act.data import DatasetWriter, Episode, open_dataset
from video2act.data.clip_sampler import ClipSampler, Footage
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec, small
from video2act.programs.info.models import describe_preset
from video2act.system2.backbones.scratch import Reconstruction
from video2act.system2.backbones.sizes import size_of
from video2act.training.loop import TrainingLoop, TrainingPausedError
from video2act.training.new_policy import build_policy
from video2act.types import Video

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

TINY = ScratchConfig(hidden=24, depth=8, num_heads=2, vae_width=4, text_dim=16, vae_steps=3)
CONFIG = VideoTrainConfig(
    num_steps=3, batch_size=2, learning_rate=1e-3, warmup_steps=1, save_every=2, num_frames=5, sizes_px=(32,)
)


@pytest.fixture(scope="module")
def trained(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "model"
    train_video((recorded,), out, config=CONFIG, backbone=TINY)
    return out


def test_the_folder_is_a_model_of_diffusers(trained: Path):
    transformer: Any = WanTransformer3DModel.from_pretrained(trained / "transformer")
    vae: Any = AutoencoderKLWan.from_pretrained(trained / "vae")
    assert (transformer.config.num_layers, vae.config.base_dim) == (8, 4)
    # normalised by what its latents were found to be
    assert vae.config.latents_mean != AutoencoderKLWan().config["latents_mean"]
    assert len(vae.config.latents_std) == 16
    assert {path.name for path in trained.iterdir()} >= {
        "text_encoder",
        "tokenizer",
        "model_index.json",
        "video_report.json",
    }
    assert not (trained / "base").exists()


def test_it_continues_any_past(trained: Path):
    report = json.loads((trained / "video_report.json").read_text())
    assert [(row["num_clean"], row["horizon"]) for row in report["predictions"]] == [(1, 1)]
    assert np.isfinite(report["codec"])


def test_a_policy_looks_through_it(trained: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def smaller(data: Any) -> Any:
        policy = small(data)
        assert policy.system2 is not None
        streams = tuple(replace(s, size_px=32, num_frames=min(s.num_frames, 5)) for s in policy.system2.streams)
        return replace(policy, image_px=32, system2=replace(policy.system2, streams=streams))

    monkeypatch.setitem(PRESETS, "smaller", smaller)
    train(
        (recorded,),
        tmp_path / "run",
        config=TrainConfig(num_steps=2, batch_size=2),
        preset="smaller",
        video_model=trained,
    )
    policy = Video2Act.load(tmp_path / "run")
    assert policy.config.system2 is not None
    clips = {s.name: Video(torch.zeros(1, 3, s.num_frames, 32, 32), 20.0) for s in policy.config.system2.streams}
    assert policy.perceive(clips, ["push"]).data.isfinite().all()


def test_the_vae_of_another_may_be_taken(trained: Path, recorded: Path, tmp_path: Path):
    train_video(
        (recorded,), tmp_path / "random", config=replace(CONFIG, num_steps=0), backbone=replace(TINY, vae=str(trained))
    )
    theirs, ours = (
        (root / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() for root in (trained, tmp_path / "random")
    )
    assert theirs == ours
    configs = [json.loads((root / "vae" / "config.json").read_text()) for root in (trained, tmp_path / "random")]
    assert configs[0]["latents_std"] == configs[1]["latents_std"]


def test_the_vae_and_the_transformer_share_the_time_that_is_given(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Each had the whole of `max_minutes` for itself."""
    seconds, take_step = [0.0], TrainingLoop._step

    def slow(self: TrainingLoop, *arguments: Any) -> Any:
        seconds[0] += 10
        return take_step(self, *arguments)

    monkeypatch.setattr("video2act.training.pause.monotonic", lambda: seconds[0])
    monkeypatch.setattr(TrainingLoop, "_step", slow)
    config = replace(CONFIG, max_minutes=0.75)
    with pytest.raises(TrainingPausedError, match=r"video model: 0.75 minutes are over; step 2 of 3"):
        train_video((recorded,), tmp_path / "model", config=config, backbone=TINY)


def test_time_that_is_over_is_a_pause(trained: Path, recorded: Path, tmp_path: Path):
    """In pieces of no time at all, each of one step, it ends with the same bytes."""
    config, pieces = replace(CONFIG, max_minutes=1e-6), 0
    while not (tmp_path / "pieces" / "video_report.json").is_file():
        try:
            train_video((recorded,), tmp_path / "pieces", config=config, backbone=TINY, resume=pieces > 0)
        except TrainingPausedError:
            assert not (tmp_path / "pieces" / "transformer").exists()  # half a model is none
        pieces += 1
        assert pieces < 10
    assert pieces == 5
    file = "transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "pieces" / file).read_bytes() == (trained / file).read_bytes()


def test_reconstruction_falls_and_clamped_pixels_learn():
    torch.manual_seed(0)
    module = Reconstruction(TINY)
    pixels = Video(
        torch.where(torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0), 5.0
    )
    with torch.no_grad():  # far outside of what is shown
        module.vae.decoder.conv_out.bias.fill_(3.0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-2)
    losses = []
    for _ in range(12):
        loss = module(pixels, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2
    assert losses[-1] < losses[0] - 0.5


def test_its_size_is_the_middle_one():
    size = size_of(small(_spec()).system2.backbone)  # type: ignore[union-attr, arg-type]
    assert 30e6 < size.whole + 2 * size.encoder < 100e6
    assert "small" in describe_preset("small")


def test_a_policy_without_the_model_is_told_how_to_make_it(recorded: Path):
    data = open_dataset(recorded)
    with pytest.raises(ValueError, match="by train-video --preset small; give its folder"):
        build_policy(small(DataSpec.of(data)), data.stats, video_model=None)


class TestManyRobots:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        """Another robot at another rate, with a camera of another name."""
        writer = DatasetWriter.create(
            tmp_path / "other",
            fps=50.0,
            robot="two arms",
            cameras=("top",),
            image_size=64,
            state_names=("x",),
            action_names=("dx",),
        )
        with writer:
            for seed in range(2):
                frames = np.full((8, 64, 64, 3), 100 + seed, np.uint8)
                numbers = np.zeros((8, 1), np.float32)
                writer.add_episode(Episode({"top": frames}, numbers, numbers, "hand it over", seed=seed))
        return tmp_path / "other"

    def test_videos_of_different_robots_go_together(self, recorded: Path, other: Path, tmp_path: Path):
        trained = train_video(
            (recorded, other),
            tmp_path / "model",
            config=replace(CONFIG, num_steps=1),
            backbone=replace(TINY, vae_steps=1),
        )
        assert trained.report.num_clips > 4

    def test_a_batch_has_one_rate(self, recorded: Path, other: Path):
        config = replace(CONFIG, stride=1)
        datasets, sizes = [open_dataset(recorded, episodes=(0, 1)), open_dataset(other, episodes=(0,))], [(32, 32)]
        footage = Footage.open(datasets, None, config=config, sizes=sizes)
        assert [one.camera for one in footage] == ["front", "top"]
        sampler = ClipSampler(footage, num_frames=config.num_frames, stride=config.stride, sizes=sizes)
        said: dict[float, set[str]] = {}
        for seed in range(20):
            clips, instruction = sampler.random(3, (seed,))
            said.setdefault(clips.fps, set()).update(instruction)
        assert said == {20.0: {"push the square", "pull"}, 50.0: {"hand it over"}}
        assert [len(places) for places in sampler.spread(100)] == [2 * 8, 4]


def _spec() -> Any:
    return DataSpec(4, 4, 80.0, ("corner4",))
