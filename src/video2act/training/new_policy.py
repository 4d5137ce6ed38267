"""New policies: their weights, and what must be ready before the first training step."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from video2act.config import PolicyConfig, PretrainedBackboneConfig, System2Config, TrainConfig
from video2act.data import Dataset
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import COPIES, load_spec
from video2act.data.sentences import hand_over
from video2act.files.video_model import BACKBONE_FILE
from video2act.files.weights import check_memory
from video2act.policy import Video2Act
from video2act.statistics import Statistics
from video2act.system1.pretrained import FrozenTextEncoder
from video2act.system2.backbones import load_video_model, make_backbone, make_published
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.training.cache_copies import open_copies
from video2act.training.choice import can_write, check_kind, check_prediction, check_video_model
from video2act.training.features import cache_spec
from video2act.video_backbone import VideoBackbone

SEEN = "seen"
"""folder of caches beside a video model, or in a run folder"""


def build_policy(
    config: PolicyConfig, statistics: dict[str, Statistics], *, video_model: Path | None, whole: bool = False
) -> Video2Act:
    """A policy with new weights and a trained video model: a published one from the source that the config names, or
    from `video_model` in its place; the tiny one from `video_model`.

    Raises:
        ValueError: the config has System 2 but there is no video model, or the reverse; or it predicts noise.
    """
    check_prediction(config)
    check_video_model(config, video_model)
    if config.system2 is None:
        return make_policy(config, statistics)
    system2, backbone = open_video_model(config.system2, video_model, whole=whole)
    return make_policy(replace(config, system2=system2), statistics, backbone=backbone)


def open_video_model(
    config: System2Config, video_model: Path | None, *, whole: bool = False
) -> tuple[System2Config, VideoBackbone]:
    """The video model of a System 2, tapped as its config says, and the config of what was found.

    Args:
        whole: as in `make_backbone`.
    Raises:
        FileNotFoundError, ValueError: as `check_kind`.
    """
    check_kind(config, video_model)
    backbone = config.backbone
    if video_model is None or isinstance(backbone, PretrainedBackboneConfig):
        if video_model is not None:
            backbone = replace(backbone, source=str(video_model))
        return replace(config, backbone=backbone), make_backbone(backbone, whole)
    learned, trained = load_video_model(video_model)
    # the model brings its own shape; where it is tapped is the policy's choice
    tap = {name: getattr(backbone, name) for name in ("feature_layers", "feature_join", "feature_norm")}
    tapped = make_backbone(replace(learned, **tap))
    tapped.load_state_dict(trained.state_dict())
    return replace(config, backbone=tapped.config), tapped


def make_policy(
    config: PolicyConfig, statistics: dict[str, Statistics], *, backbone: VideoBackbone | None = None
) -> Video2Act:
    """A policy with random weights, over a video model; the one that the config names, if None. Raises ValueError: the
    machine has no memory for it."""
    backbone = backbone or make_published(config.system2)
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
            if can_write(beside.root) or not beside.missing(dataset.lengths):
                return beside
            print(f"{video_model} cannot be written; what System 2 sees goes to {out / SEEN}")
        return FeatureCache(out / SEEN / spec.name, spec)
    found = load_spec(cache)
    return FeatureCache(cache, cache_spec(policy, dataset, stage=found.stage, dtype=found.dtype))


def copies_of(cache: FeatureCache, training: TrainConfig, *, lengths: Sequence[int], out: Path) -> list[FeatureCache]:
    """The varied copies that a training draws from: in the cache's folder, or in the run folder `out` where that cannot
    be written and a copy is not complete.

    Args:
        lengths: frames of each episode.
    """
    varied = {"shift_px": training.clip_shift_px, "jitter": training.clip_jitter, "copies": training.clip_copies}
    beside, own = (open_copies(cache, **varied, root=root / COPIES) for root in (cache.root, out / SEEN))
    is_free = can_write(cache.root)
    return [one if is_free or not one.missing(lengths) else other for one, other in zip(beside, own, strict=True)]
