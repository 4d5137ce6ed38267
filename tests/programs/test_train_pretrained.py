"""`train` with frozen encoders of others, as the preset `rdt_1b` has them, on folders with a few narrow layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrained_folders import IMAGE_WIDTH, TEXT_WIDTH, make_siglip_folder, make_t5_folder
from trainings import train
from video2act.clips import ImageHistory
from video2act.config import (
    RDT_FORM,
    DenoisingConfig,
    PolicyConfig,
    PretrainedConfig,
    System1Config,
    TrainConfig,
)
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.types import Observation, Tokens, VideoCondition

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CAMERAS = ("front@1", "front", "wrist")


def narrow(spec: DataSpec) -> PolicyConfig:
    """`rdt_1b`, a thousandth of its size."""
    system1 = System1Config(
        hidden=32,
        depth=2,
        num_heads=4,
        denoising=DenoisingConfig("ddpm", "sample", num_steps=2),
        dit=replace(RDT_FORM, num_text_positions=64, positions_per_image=4),
        text_encoder=PretrainedConfig("somewhere", TEXT_WIDTH, max_tokens=64),
        text_adaptor="mlp2x_gelu",
        image_encoder=PretrainedConfig("elsewhere", IMAGE_WIDTH),
    )
    published = PRESETS["rdt_1b"](spec)
    return replace(published, horizon=4, execute_steps=2, image_px=28, system1=system1)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setitem(PRESETS, "narrow", narrow)
    return {
        "system1.text_encoder.source": str(make_t5_folder(tmp_path / "t5")),
        "system1.text_encoder.cache": str(tmp_path / "texts"),
        "system1.image_encoder.source": str(make_siglip_folder(tmp_path / "siglip")),
    }


def test_it_trains_and_its_run_acts_without_the_text_encoder(recorded: Path, tmp_path: Path, sources: dict[str, str]):
    config = TrainConfig(num_steps=2, batch_size=2, warmup_steps=1)
    train((recorded,), tmp_path / "run", config=config, preset="narrow", cameras=CAMERAS, changes=sources)
    policy = Video2Act.load(tmp_path / "run")
    # encoders are named, not held
    assert not any(tensor.shape[-1] == 200 for tensor in policy.state_dict().values())
    # every instruction of the data was computed once, and lies in the cache
    assert len(list((tmp_path / "texts").iterdir())) == 2
    (tmp_path / "t5").rename(tmp_path / "gone")
    images = {camera: np.full((48, 64, 3), 90, np.uint8) for camera in ("front", "wrist")}
    seen = Observation(images, np.zeros(3, np.float32), "push the square", 0.0)
    history = ImageHistory(policy.config.cameras)
    history.append(seen)
    nothing = VideoCondition(Tokens.empty(1, 32, like=torch.zeros(1)), 0.0, 0)
    assert np.isfinite(policy.act(history.complete(seen), nothing).actions).all()


def test_past_images_that_nobody_kept_are_missed(recorded: Path, tmp_path: Path, sources: dict[str, str]):
    train(
        (recorded,),
        tmp_path / "run",
        config=TrainConfig(num_steps=0),
        preset="narrow",
        cameras=CAMERAS,
        changes=sources,
    )
    policy = Video2Act.load(tmp_path / "run")
    images = {camera: np.full((48, 64, 3), 90, np.uint8) for camera in ("front", "wrist")}
    seen = Observation(images, np.zeros(3, np.float32), "push the square", 0.0)
    with pytest.raises(ValueError, match="System 1 reads camera 'front@1', but the observation has front, wrist"):
        policy.act(seen, VideoCondition(Tokens.empty(1, 32, like=torch.zeros(1)), 0.0, 0))


def test_weights_that_do_not_fit_stop_the_training_before_it_begins(
    recorded: Path, tmp_path: Path, sources: dict[str, str]
):
    torch.save({"model.x_pos_embed": torch.zeros(1, 7, 32)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"RDT-1B's checkpoint has no|does not fit"):
        train(
            (recorded,), tmp_path / "run", config=TrainConfig(num_steps=1), preset="narrow", cameras=CAMERAS,
            changes=sources, init=tmp_path,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
