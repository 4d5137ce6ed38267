"""A policy of each preset over a video model, with a tiny instance of it: it perceives, acts, and takes a training
step.

Everything else is the preset's own: streams, filters, formers, System 1. Only pictures and clips are smaller.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import published_models
from video2act.config import GRIDS, PolicyConfig, PretrainedBackboneConfig
from video2act.policy import Video2Act
from video2act.presets import ANY_DATA, PRESETS, DataSpec, make_preset, video_model_in
from video2act.statistics import Statistics
from video2act.system2.backbones.sizes import size_of
from video2act.types import Batch, Observation, VideoCondition

SPEC = DataSpec(3, 2, 20.0, ("front", "wrist"))
FULL_SYSTEM1 = ("rdt_1b", "wan22_5b_rdt_1b", "official")
"""System 1 of these is measured by benchmarks/full_size.py, and trained, narrow, in test_train_pretrained.py"""

NAMES = [
    name
    for name in PRESETS
    if name not in (*FULL_SYSTEM1, "tiny_latents") and make_preset(name, SPEC).system2 is not None
]


def over_a_tiny_instance(config: PolicyConfig, root: Path) -> PolicyConfig:
    """The preset, its video model replaced by a tiny one of the family, its clips by the shortest and smallest."""
    system2 = config.system2
    assert system2 is not None
    backbone = system2.backbone
    if not isinstance(backbone, PretrainedBackboneConfig):
        return config
    family = "wan21" if backbone.name == "wan_small" else backbone.name
    source = getattr(published_models, f"write_{family}")(root)
    tiny = replace(backbone, source=str(source), feature_layers=(2,), text_cache=str(root / "text"))
    num_frames, size = 1 + 2 * tiny.frames_per_feature, 2 * tiny.patch_px
    spatial, motion = system2.streams
    imagine = motion.imagine
    if imagine.num_frames:
        imagine = replace(imagine, num_frames=tiny.frames_per_feature)
        num_frames = min(num_frames, motion.num_frames)
    motion = replace(motion, size_px=size, num_frames=num_frames, imagine=imagine)
    streams = (replace(spatial, size_px=size), motion)
    return replace(config, system2=replace(system2, backbone=tiny, streams=streams))


@pytest.mark.parametrize("name", NAMES)
def test_it_perceives_acts_and_learns(name: str, make_batch: Callable[..., Batch], tmp_path: Path):
    config = over_a_tiny_instance(make_preset(name, SPEC), tmp_path)
    sizes = {"state": 3, "action": 2}
    unit = {part: Statistics((0.0,) * n, (1.0,) * n, (-1.0,) * n, (1.0,) * n) for part, n in sizes.items()}
    torch.manual_seed(0)
    policy = Video2Act(config, unit)
    batch = make_batch(config, size=1)

    system2 = policy.system2
    assert system2 is not None

    tokens = policy.eval().perceive(batch.videos, ["push the block"])
    assert tokens.data.shape == (1, sum(s.former.num_tokens for s in system2.config.streams), config.system1.hidden)
    images = {camera: np.full((128, 128, 3), 90, np.uint8) for camera in config.cameras}
    observation = Observation(images, np.zeros(3, np.float32), "push the block", 0.0)
    chunk = policy.act(observation, VideoCondition(tokens, 0.0, 0))
    assert chunk.actions.shape == (config.horizon, 2)
    assert np.isfinite(chunk.actions).all()

    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    loss = policy.train()(batch, torch.Generator().manual_seed(0))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))
    assert all(parameter.grad is None for parameter in system2.backbone.parameters())


def test_every_preset_over_a_video_model_is_here():
    large = {"wan21_1b", "wan21_14b", "wan22_5b", "hunyuan", "cogvideox", "cogvideox15", "ltx", "cosmos"}
    assert set(NAMES) >= {"tiny", "small", *large}


FAMILIES = frozenset(GRIDS)
"""those of the library: an example's test adds one of its own"""


def test_every_family_of_published_models_is_reached_by_a_preset():
    reached = {getattr(video_model_in(make_preset(name, ANY_DATA)), "name", "") for name in NAMES}
    assert reached >= FAMILIES - {"mochi"}  # an example's, if that ran in this process


def test_cogvideox_1_5_is_what_its_authors_publish():
    backbone = video_model_in(make_preset("cogvideox15", ANY_DATA))
    assert isinstance(backbone, PretrainedBackboneConfig)
    assert (backbone.name, backbone.source) == ("cogvideox15", "zai-org/CogVideoX1.5-5B")
    size = size_of(backbone)
    assert size.num_blocks == 42
    assert round(size.whole / 1e9, 1) == 5.6
    motion = make_preset("cogvideox15", SPEC).system2.streams[1]  # type: ignore[union-attr]
    assert (motion.num_frames - 1) % backbone.frames_per_feature == 0
