"""New policies: the config that options ask for, its weights, and what must be ready before the first training step."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from video2act.config import BackboneConfig, FrameConfig, PolicyConfig, PretrainedBackboneConfig, load
from video2act.config.files import build
from video2act.config.training_options import PolicyStart
from video2act.data import Dataset
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import load_spec
from video2act.data.embodied import EmbodiedDataset
from video2act.data.sentences import hand_over
from video2act.embodiment import UNIFIED
from video2act.files.weights import check_memory
from video2act.frames import describe_fit
from video2act.policy import Video2Act
from video2act.presets import SMALL_SOURCE, Demonstrations, make_preset
from video2act.statistics import Statistics
from video2act.system1.pretrained import FrozenTextEncoder
from video2act.system2.backbones import CONFIG_FILE as BACKBONE_FILE
from video2act.system2.backbones import load_video_model, make_published
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.training.features import cache_spec
from video2act.training.settings import SETTINGS_FILE, read_settings

SEEN = "seen"
"""folder of caches beside a video model, or in a run folder"""


def can_write(folder: Path) -> bool:
    """Whether a folder, which may not exist yet, can be written."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(existing, os.W_OK | os.X_OK)


def choose_policy(start: PolicyStart, data: Demonstrations, cameras: tuple[str, ...] | None = None) -> PolicyConfig:
    """The policy that options ask for: a preset for the data, or a file, with their changes.

    Args:
        cameras: the preset's, System 2's first; all of the data's, if None.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown preset or field, or values that contradict each other.
    """
    if start.config is None:
        policy = make_preset(start.preset or "tiny", data, cameras)
    elif cameras is not None:
        raise ValueError("cameras are for presets; with a config, change its field cameras (--policy.cameras)")
    else:
        policy = load(PolicyConfig, start.config)
    if start.fit is not None:
        streams = policy.system2.streams if policy.system2 else ()
        rules = ["image.fit", *(f"system2.streams.{stream.name}.frame.fit" for stream in streams)]
        policy = policy.replace(dict.fromkeys(rules, start.fit))
    return policy.replace(start.changes)


def fit_robots(config: PolicyConfig, data: Dataset) -> PolicyConfig:
    """The config in the unified vector, if the data are of robots whose embodiments are named; else as it is. Raises
    ValueError: the config names one robot."""
    if not isinstance(data, EmbodiedDataset):
        return config
    if config.system1.embodiment not in ("", UNIFIED):
        remedy = f"leave system1.embodiment={config.system1.embodiment} out"
        raise ValueError(f"embodiments names each dataset's robot; {remedy}")
    return config.replace({"system1.embodiment": UNIFIED})


def frame_notes(config: PolicyConfig, data: Dataset, video_model: Path | None) -> list[str]:
    """One line for each stream whose frames get their size by another rule than those that our video model learned."""
    path = video_model / SETTINGS_FILE if video_model else None
    if path is None or config.system2 is None or not path.is_file():
        return []
    trained = read_settings(path).get("frame")
    if not isinstance(trained, dict):  # the video model is older than the rule
        return []
    learned, notes = build(FrameConfig, trained, where=f"{path}: frame"), []
    for stream in config.system2.streams:
        recorded, size = data.image_size(stream.camera), stream.frame_px
        ours, theirs = (describe_fit(recorded, size, rule=rule) for rule in (stream.frame, learned))
        if (ours, stream.frame.resample) != (theirs, learned.resample) and recorded != size:
            notes.append(
                f"stream {stream.name!r} shows the video model frames that it did not learn from: {ours} "
                f"({stream.frame.resample}), learned: {theirs} ({learned.resample}); train it with the same --fit"
            )
    return notes


def build_policy(
    config: PolicyConfig, statistics: dict[str, Statistics], *, video_model: Path | None, whole: bool = False
) -> Video2Act:
    """A policy with new weights and a trained video model: a published one from the source that the config names, or
    from `video_model` in its place; the tiny one from `video_model`.

    Raises:
        ValueError: the config has System 2 but there is no video model, or the reverse.
    """
    if config.system2 is None:
        if video_model is not None:
            problem = f"this policy has no System 2, so the video model {video_model} would go unused"
            raise ValueError(f"{problem}; leave it out")
        return make_policy(config, statistics)
    backbone = config.system2.backbone
    if isinstance(backbone, PretrainedBackboneConfig):
        if video_model is None and backbone.source == SMALL_SOURCE:
            raise ValueError(
                "this policy's video model is trained here: train-video --preset small, then pass --video-model"
            )
        if video_model is not None:
            backbone = replace(backbone, source=str(video_model))
        return make_policy(replace(config, system2=replace(config.system2, backbone=backbone)), statistics, whole=whole)
    if video_model is None:
        remedy = "train one with train-video and pass --video-model"
        raise ValueError(f"this policy has System 2, which needs a video model: {remedy}")
    backbone_config, trained = load_video_model(video_model)
    if not isinstance(backbone_config, BackboneConfig):
        problem = f"{video_model} holds a {backbone_config.name} video model, but this policy is over the tiny one"
        raise ValueError(f"{problem}; choose a preset over {backbone_config.name}")
    # the model brings its own shape; where it is tapped is the policy's choice
    chosen = replace(backbone_config, feature_layer=backbone.feature_layer, feature_norm=backbone.feature_norm)
    policy = make_policy(replace(config, system2=replace(config.system2, backbone=chosen)), statistics)
    policy.slow.backbone.load_state_dict(trained.state_dict())
    return policy


def make_policy(config: PolicyConfig, statistics: dict[str, Statistics], *, whole: bool = False) -> Video2Act:
    """A policy with random weights, over the video model that the config names. Raises ValueError: the machine has no
    memory for it."""
    backbone = make_published(config.system2, whole)
    check_memory(lambda: Video2Act(config, statistics, backbone=backbone))
    return Video2Act(config, statistics, backbone=backbone)


def prepare_text(
    policy: Video2Act, dataset: Dataset, *, videos: Sequence[Dataset] = (), accelerator: Accelerator
) -> None:
    """Embed every sentence of the data by the frozen text encoders, those of `videos` by the video model's; a small
    encoder is trained along and has nothing to prepare."""
    text = policy.system1.text
    # one process computes and writes the embeddings, the others then find them
    with accelerator.main_process_first():
        if isinstance(text, FrozenTextEncoder):
            hand_over([dataset], lambda sentences: text.prepare(sentences, accelerator.device))
        if policy.system2 and isinstance(policy.system2.backbone, PretrainedBackbone):
            hand_over([dataset, *videos], policy.system2.backbone.text.prepare)


def open_cache(
    policy: Video2Act, dataset: Dataset, *, out: Path, video_model: Path | None, cache: Path | str | None
) -> FeatureCache:
    """The cache that a training reads: the one that was named, or one with a name of its own.

    It lies beside a video model of ours, which other trainings share; in the run folder `out`, if the model is a
    published one, or its folder cannot be written.

    Raises:
        FileNotFoundError, StaleCacheError: the named one does not exist, or was made of something else.
    """
    if cache is None:
        spec = cache_spec(policy, dataset)
        if video_model is not None and (video_model / BACKBONE_FILE).is_file():
            beside = FeatureCache(video_model / SEEN / spec.name, spec)
            if can_write(beside.root) or not any(map(beside.fault, *zip(*enumerate(dataset.lengths), strict=True))):
                return beside
            print(f"{video_model} cannot be written; what System 2 sees goes to {out / SEEN}")
        return FeatureCache(out / SEEN / spec.name, spec)
    found = load_spec(cache)
    return FeatureCache(cache, cache_spec(policy, dataset, stage=found.stage, dtype=found.dtype))
