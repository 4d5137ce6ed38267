"""New policies: a config with its video model in place, and what must be ready before its first training step."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import nn

from video2act.config import (
    BackboneConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    System1Sources,
    System2Options,
    TuningConfig,
    continuing,
)
from video2act.data import Dataset
from video2act.data.cache import FeatureCache, load_spec
from video2act.embodiment import UNIFIED
from video2act.normalize import Statistics
from video2act.policy import Video2Act
from video2act.presets import SMALL_SOURCE
from video2act.system1 import Visibility
from video2act.system1.pretrained import FrozenTextEncoder
from video2act.system2.backbones import load_video_model
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.training.features import cache_spec


def of_several_robots(config: PolicyConfig) -> PolicyConfig:
    """The config in the unified vector. Raises ValueError where one robot is named already."""
    if config.system1.embodiment:
        raise ValueError(
            f"embodiments names each dataset's robot; leave system1.embodiment={config.system1.embodiment} out"
        )
    return replace(config, system1=replace(config.system1, embodiment=UNIFIED))


def with_sources(config: PolicyConfig, sources: System1Sources) -> PolicyConfig:
    """The config with its frozen encoders read from elsewhere.

    Raises:
        ValueError: a source is named for an encoder that the preset does not have.
    """
    system1 = config.system1
    if sources.text_encoder or sources.text_cache:
        if system1.text_encoder is None:
            raise ValueError(
                "this preset learns its own text encoder; leave system1.text-encoder and system1.text-cache out"
            )
        source = sources.text_encoder or system1.text_encoder.source
        system1 = replace(system1, text_encoder=replace(system1.text_encoder, source=source, cache=sources.text_cache))
    if sources.image_encoder:
        if system1.image_encoder is None:
            raise ValueError("this preset learns its own image encoder; leave system1.image-encoder out")
        system1 = replace(system1, image_encoder=replace(system1.image_encoder, source=sources.image_encoder))
    if sources.embodiment:
        if system1.text_encoder is None:
            raise ValueError("embodiments are for presets of RDT-1B's form (rdt_1b, ...); leave system1.embodiment out")
        system1 = replace(system1, embodiment=sources.embodiment)
    return replace(config, system1=system1)


def with_options(config: PolicyConfig, options: System2Options) -> PolicyConfig:
    """The config with its published video model looked through otherwise. Raises ValueError where there is none."""
    backbone = options.applied(config.system2 and config.system2.backbone)
    return config if config.system2 is None else replace(config, system2=replace(config.system2, backbone=backbone))


def with_tuning(config: PolicyConfig, tuning: TuningConfig) -> PolicyConfig:
    """The config with what of its video model is trained. Raises ValueError where there is none."""
    if config.system2 is None:
        if tuning.method != "frozen":
            raise ValueError(
                f"this preset has no System 2, and no video model to tune; leave tuning.method={tuning.method} out"
            )
        return config
    return replace(config, system2=replace(config.system2, tuning=tuning))


def with_encoding(config: PolicyConfig, encoding: Literal["window", "stream"]) -> PolicyConfig:
    """Raises ValueError where there is nothing to encode, or an encoder that cannot go on."""
    if encoding == "window":
        return config
    if config.system2 is None:
        raise ValueError("this preset has no System 2, so there is no encoder that could go on; leave encoding out")
    return replace(config, system2=continuing(config.system2))


def build_policy(config: PolicyConfig, statistics: dict[str, Statistics], *, video_model: Path | None) -> Video2Act:
    """A policy with new weights, except for its video model, which comes trained: a published one from the source that the preset
    names, or from `video_model` in its place; the tiny one from `video_model`.

    Raises:
        ValueError: the config has System 2 but there is no video model, or the reverse.
    """
    if config.system2 is None:
        if video_model is not None:
            raise ValueError(
                f"this preset has no System 2, so the video model {video_model} would go unused; leave it out"
            )
        return Video2Act(config, statistics)
    backbone = config.system2.backbone
    if isinstance(backbone, PretrainedBackboneConfig):
        if video_model is None and backbone.source == SMALL_SOURCE:
            raise ValueError(
                "this preset's video model is trained here: train-video --preset small, then pass --video-model"
            )
        if video_model is not None:
            backbone = replace(backbone, source=str(video_model))
        return Video2Act(replace(config, system2=replace(config.system2, backbone=backbone)), statistics)
    if video_model is None:
        raise ValueError(
            "this preset has System 2, which needs a video model: train one with train-video and pass --video-model"
        )
    backbone_config, trained = load_video_model(video_model)
    if not isinstance(backbone_config, BackboneConfig):
        raise ValueError(
            f"{video_model} holds a {backbone_config.name} video model, but this preset is over the tiny one; "
            f"choose a preset over {backbone_config.name}"
        )
    # the model brings its own shape; where it is tapped is the policy's choice
    chosen = replace(backbone_config, feature_layer=backbone.feature_layer)
    policy = Video2Act(replace(config, system2=replace(config.system2, backbone=chosen)), statistics)
    assert policy.system2 is not None
    assert isinstance(trained, nn.Module)
    policy.system2.backbone.load_state_dict(trained.state_dict())
    return policy


def prepare_text(policy: Video2Act, dataset: Dataset, *, accelerator: Accelerator) -> None:
    """Embed every sentence of the data by the frozen text encoders; a small one is trained along and has nothing to prepare."""
    said = (s for i in range(len(dataset)) for s in (*dataset.episode(i).instruction, *dataset.sentences(i)))
    sentences = tuple(dict.fromkeys(said))
    # one process computes and writes the embeddings, the others then find them
    with accelerator.main_process_first():
        if isinstance(policy.system1.text, FrozenTextEncoder):
            policy.system1.text.prepare(sentences, accelerator.device)
        if policy.system2 and isinstance(policy.system2.backbone, PretrainedBackbone):
            policy.system2.backbone.text.prepare(sentences)


def open_cache(policy: Video2Act, dataset: Dataset, *, folder: Path, cache: Path | None) -> FeatureCache:
    """The cache that a training reads: in `folder` under a name of its own, or the one that was named.

    Raises:
        FileNotFoundError, StaleCacheError: the named one does not exist, or was made of something else.
    """
    if cache is None:
        spec = cache_spec(policy, dataset)
        return FeatureCache(folder / "seen" / spec.name, spec)
    found = load_spec(cache)
    return FeatureCache(cache, cache_spec(policy, dataset, stage=found.stage, dtype=found.dtype))


def draw_visibility(
    batch: int,
    condition_dropout: float,
    *,
    vision_dropout: float = 0.0,
    generator: torch.Generator,
    device: torch.device,
) -> Visibility:
    """Hide text, image, video and state of each sample at random, each for itself; or all that is seen, and never the text."""
    text, image, video, state = (torch.rand(4, batch, generator=generator) >= condition_dropout).to(device)
    if vision_dropout:
        sees = (torch.rand(batch, generator=generator) >= vision_dropout).to(device)
        text, image, video = torch.ones_like(text), image & sees, video & sees
    return Visibility(text=text, image=image, video=video, state=state)
