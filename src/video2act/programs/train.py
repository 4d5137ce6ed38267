"""`video2act train`: teach a policy from demonstrations.

The frozen video model sees every frame once, before training (`FeatureCache`); training then reads its features. The
run folder holds the policy (`config.json`, `model.safetensors`, `stats.json`: the moving average of the weights) and
the training's record.
"""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video2act.config import PolicyConfig, TrainConfig
from video2act.config.calls import takes
from video2act.config.nearby import nearby
from video2act.config.training_options import TrainOptions
from video2act.data import Dataset, open_dataset, split
from video2act.data.cache_manifest import load_spec
from video2act.data.fingerprint import of_datasets
from video2act.data.fit import batch_bytes, check_columns, check_fit, check_weights
from video2act.data.frame_store import GIB, check_budget
from video2act.data.labels import label_notes
from video2act.data.opening import AnyDataset, as_dataset, as_datasets, open_chosen
from video2act.files.video_model import BACKBONE_FILE
from video2act.training.choice import (
    check_beside,
    check_look,
    check_prediction,
    check_video_model,
    choose_policy,
    fit_robots,
)
from video2act.training.effects import check_effects
from video2act.training.pause import Deadline
from video2act.training.resuming import check_out, is_done, policy_settings
from video2act.training.trackers import check_tracker
from video2act.training.video_clips import clip_bytes

if TYPE_CHECKING:
    from video2act.policy import Video2Act
else:
    Video2Act = Any


def main(options: TrainOptions) -> None:
    """Train as the command line asks."""
    data, video_data = open_chosen(options), [open_dataset(path) for path in options.video_data]
    check_columns(data)
    config = choose_policy(options, data, options.cameras)
    if options.resume and is_done(options.out, options.training, _known_identity(options, config, data, video_data)):
        print(f"{options.out} holds this training, finished: nothing is left to do")
        return
    names = ("out", "training", "video_model", "init", "init_parts", "resume", "cache", "live")
    train(config, data, video_data=video_data, **{name: getattr(options, name) for name in names})


def _known_identity(
    options: TrainOptions, config: PolicyConfig, data: Dataset, video_data: Sequence[Dataset]
) -> dict[str, Any]:
    known: dict[str, Any] = {"policy": policy_settings(fit_robots(config, data)), "data": data.fingerprint}
    if video_data:
        known["video_data"] = of_datasets(video_data)
    return known | ({"init_parts": list(options.init_parts)} if options.init else {})


@takes(TrainConfig)
def train(
    config: PolicyConfig,
    data: AnyDataset,
    *,
    out: Path | str,
    training: TrainConfig | None = None,
    num_steps: int | None = None,
    video_model: PathLike[str] | str | None = None,
    init: PathLike[str] | str | None = None,
    init_parts: tuple[str, ...] = (),
    video_data: AnyDataset | Sequence[AnyDataset] = (),
    resume: bool = False,
    cache: Path | str | None = None,
    live: bool = False,
) -> Video2Act:
    """Train a policy, write its run folder, and return it, ready to act. Several processes: load it from the run
    folder.

    Args:
        config: the policy; `preset(name, data)` is a beginning.
        data: demonstrations of one robot, or their folder; or of several (`open_datasets` with `embodiments`).
        out: folder to write; must not hold another training unless `resume`. For several robots it holds a run folder
            for each, and the policy of the first is returned.
        num_steps: replaces `training.num_steps`.
        video_model: what `train_video` returned, or its folder; the tiny presets need one. For the others it replaces
            the source of the published video model.
        init: another run's folder, or RDT-1B's checkpoint, whose weights this policy begins with; see `begin`.
        init_parts: take these parts only.
        video_data: more datasets, with or without actions, for `training.video_loss_weight`.
        cache: what System 2 sees, filled before; None fills one.
        live: run System 2 at every step; slow, and the same except for the cache's rounding.
    Raises:
        TypeError: not a policy's config and a dataset.
        ValueError: the data do not fit, the video model is missing, nothing of `init` fits, or an argument would have
            no effect.
        TrainingPausedError: the time given by `max_minutes` is over.
    """
    if not isinstance(config, PolicyConfig):
        order = "train takes a policy's config, then the data: train(preset('tiny', data), data, out=...)"
        raise TypeError(f"{order}; got a value of type {type(config).__name__} first")
    out, video_model = Path(out), None if video_model is None else Path(video_model)
    training = training or TrainConfig()
    training = training if num_steps is None else replace(training, num_steps=num_steps)
    deadline = Deadline(training.max_minutes)
    data, videos = as_dataset(data), as_datasets(video_data)
    tuning = config.system2.tuning.method if config.system2 else "frozen"
    config = fit_robots(config, data)
    check_fit(config, data)
    check_beside(config, training, video_data=videos)
    check_effects(config, training, init=init, init_parts=init_parts, cache=cache, live=live)
    check_weights(data, training.weights)
    label_notes(data)  # raises where their record is damaged
    is_cached = tuning == "frozen" and not live
    needed = batch_bytes(config, training.batch_size, is_cached=is_cached) + clip_bytes(config, training)
    check_budget(int(training.frames_gib * GIB), needed)
    if is_cached and cache is None:
        check_look(config, training.frames_gib)
    if training.validation_fraction:
        split(data, training.validation_fraction)
    check_prediction(config)
    check_video_model(config, video_model)
    if init is not None and not resume and not Path(init).exists():
        raise FileNotFoundError(
            f"{init} does not exist{nearby(Path(init))}; init takes a run folder, or RDT-1B's checkpoint"
        )
    if init is not None and (Path(init) / BACKBONE_FILE).is_file():
        raise ValueError(f"{init} is a video model ({BACKBONE_FILE}), not a policy: give it as video_model")
    if cache is not None:
        load_spec(cache)
    check_tracker(training.track)
    check_out(out, resume=resume)

    from video2act.training.policy_training import train_policy  # torch: after the input was checked

    return train_policy(
        config,
        data,
        out=out,
        training=training,
        video_model=video_model,
        init=None if init is None else Path(init),
        init_parts=init_parts,
        video_data=videos,
        resume=resume,
        cache=cache,
        live=live,
        deadline=deadline,
    )
