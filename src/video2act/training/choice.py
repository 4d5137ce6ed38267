"""Which policy a training is for: the config that options ask for, fitted to the data and the video model.

Nothing here needs torch: a mistake on the command line is an error within a second.
"""

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path

from video2act.config import (
    BackboneConfig,
    FrameConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    System2Config,
    TrainConfig,
    load,
)
from video2act.config.files import build
from video2act.config.training_options import PolicyStart
from video2act.data import Dataset
from video2act.data.embodied import EmbodiedDataset
from video2act.data.frame_store import GIB, check_budget
from video2act.data.sentences import check_sentences
from video2act.embodiment import UNIFIED
from video2act.files.run_folder import TRAINING_FILE
from video2act.files.video_model import find_source, load_video_config
from video2act.frames import describe_fit
from video2act.presets import SMALL_SOURCE, Demonstrations, make_preset
from video2act.text.instruction import MAX_BYTES
from video2act.training.resuming import read_settings
from video2act.training.video_clips import check_rate, clip_notes, clip_of, moving

BATCH = 32
"""clips that System 2 sees together when a cache is filled"""
PIECE = 16
"""latents that a stream encodes at a time"""


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


def check_prediction(config: PolicyConfig) -> None:
    """Raise ValueError for a System 1 that would be trained to predict the noise."""
    if config.system1.denoising.prediction == "epsilon":
        raise ValueError(
            "prediction='epsilon' is for converted checkpoints: denoising begins where the noise hides the actions, so "
            "small errors of a prediction become large actions. Train with prediction='sample'"
        )


def check_video_model(config: PolicyConfig, video_model: Path | None) -> None:
    """Raise FileNotFoundError or ValueError where a policy has no video model, or one of another kind."""
    if config.system2 is None:
        if video_model is not None:
            problem = f"this policy has no System 2, so the video model {video_model} would go unused"
            raise ValueError(f"{problem}; leave it out")
        return
    check_kind(config.system2, video_model)
    check_rate(config, video_model)


def check_kind(config: System2Config, video_model: Path | None) -> None:
    """Raise FileNotFoundError or ValueError where a System 2 has no video model, or one of another kind."""
    backbone = config.backbone
    if isinstance(backbone, PretrainedBackboneConfig):
        if video_model is None and backbone.source == SMALL_SOURCE:
            problem = "this policy's video model is trained here, by train-video --preset small"
            raise ValueError(f"{problem}; give its folder (--video-model, or video_model=...)")
        find_source(backbone.source if video_model is None else str(video_model))
        return
    if video_model is None:
        remedy = "train one (train-video, or train_video), and give its folder (--video-model, or video_model=...)"
        raise ValueError(f"this policy has System 2, which needs a video model: {remedy}")
    found = load_video_config(video_model)
    if not isinstance(found, BackboneConfig):
        problem = f"{video_model} holds a {found.name} video model, but this policy is over the tiny one"
        raise ValueError(f"{problem}; choose a preset over {found.name}")


def frame_notes(config: PolicyConfig, data: Dataset, video_model: Path | None) -> list[str]:
    """One line for each stream that shows our video model another camera than it learned from, frames that get their
    size by another rule, or clips of another size or of more frames."""
    path = video_model / TRAINING_FILE if video_model else None
    if path is None or config.system2 is None or not path.is_file():
        return []
    settings = read_settings(path)
    notes = clip_notes(config, settings)
    trained, camera = settings.get("frame"), settings.get("camera")
    for stream in config.system2.streams if camera else ():
        if stream.camera != camera:
            notes.append(
                f"stream {stream.name!r} looks through {stream.camera!r}, but the video model learned from {camera!r}; "
                f"train one with --camera {stream.camera}"
            )
    if not isinstance(trained, dict):  # the video model is older than the rule
        return notes
    learned = build(FrameConfig, trained, where=f"{path}: frame")
    for stream in config.system2.streams:
        recorded, size = data.image_size(stream.camera), stream.frame_px
        ours, theirs = (describe_fit(recorded, size, rule=rule) for rule in (stream.frame, learned))
        if (ours, stream.frame.resample) != (theirs, learned.resample) and recorded != size:
            notes.append(
                f"stream {stream.name!r} shows the video model frames that it did not learn from: {ours} "
                f"({stream.frame.resample}), learned: {theirs} ({learned.resample}); train it with the same --fit"
            )
    return notes


def can_write(folder: Path) -> bool:
    """Whether a folder, which may not exist yet, can be written."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return os.access(existing, os.W_OK | os.X_OK)


def check_beside(config: PolicyConfig, training: TrainConfig, *, video_data: Sequence[Dataset]) -> None:
    """Raise ValueError where the video loss cannot be learned, or video data would go unused."""
    weight = training.video_loss_weight
    if not weight:
        if video_data:
            raise ValueError(
                "video_data is for the video model's own loss; set video_loss_weight above 0 (.1 is usual)"
            )
        return
    if config.system2 is None:
        problem = f"video_loss_weight={weight:g} trains a video model, but this policy has no System 2"
        raise ValueError(f"{problem}; set it to 0, or choose another preset")
    if config.system2.tuning.method == "frozen":
        raise ValueError(
            f"video_loss_weight={weight:g} trains the video model, but system2.tuning.method=frozen keeps it as it is; "
            "set --policy.system2.tuning.method full, or lora for a published one"
        )
    if not moving(config.system2.streams):
        raise ValueError(
            f"video_loss_weight={weight:g} needs clips with a future to predict, but every stream shows one frame; "
            "add a stream of several, or set it to 0"
        )
    stream = clip_of(config.system2)
    for number, dataset in enumerate(video_data):
        if stream.camera not in dataset.cameras:
            raise ValueError(
                f"dataset {number + 1} of video_data has no camera {stream.camera!r}, which stream {stream.name!r} "
                f"looks through; its cameras are {', '.join(dataset.cameras)}"
            )
        if dataset.orientation != config.orientation:
            ours, theirs = config.orientation, dataset.orientation
            problem = f"dataset {number + 1} of video_data has pictures of orientation {theirs}, the policy {ours}"
            raise ValueError(f"{problem}; turn them, or leave this dataset out")
    # a published model's encoder checks its own
    check_sentences(video_data, MAX_BYTES if isinstance(config.system2.backbone, BackboneConfig) else None)


def check_look(config: PolicyConfig, frames_gib: float) -> None:
    """Raise ValueError where the frames that System 2 reads together do not fit into the memory for frames."""
    needed, lower = look_bytes(config), "a stream's size"
    check_budget(int(frames_gib * GIB), needed, what="that System 2 reads together", lower=lower)


def look_bytes(config: PolicyConfig) -> int:
    """Bytes of the decoded frames that System 2 reads together when a cache is filled."""
    if config.system2 is None:
        return 0
    group = config.system2.backbone.frames_per_latent
    windows = [s.num_frames * prod(s.frame_px) for s in config.system2.streams if s.encoding == "window"]
    pieces = [(PIECE * group + 1) * prod(s.frame_px) for s in config.system2.streams if s.encoding == "stream"]
    return 3 * max(BATCH * sum(windows), *pieces, 0)
