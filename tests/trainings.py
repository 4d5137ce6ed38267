"""The programs as tests call them: folders and a preset's name in, everything else by keyword."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from video2act.config import (
    BackboneConfig,
    PretrainedBackboneConfig,
    ScratchConfig,
    TrainConfig,
    TuningConfig,
    VideoTrainConfig,
)
from video2act.config.training_options import FillCacheOptions, VerifyCacheOptions
from video2act.data import LeRobotDataset, open_datasets
from video2act.policy import Video2Act
from video2act.presets import make_preset
from video2act.programs import cache as cache_program
from video2act.programs import train as train_program
from video2act.programs import train_video as train_video_program
from video2act.training.video_model_training import TrainedVideoModel


def train(
    data: Sequence[Path],
    out: Path,
    *,
    config: TrainConfig,
    preset: str = "tiny",
    cameras: tuple[str, ...] | None = None,
    embodiments: tuple[str, ...] | None = None,
    episodes: Sequence[int] | None = None,
    changes: Mapping[str, Any] | None = None,
    tuning: TuningConfig | None = None,
    **options: Any,
) -> Video2Act:
    dataset = open_datasets(data, embodiments=embodiments, episodes=episodes)
    tuned = {} if tuning is None else {"system2.tuning": tuning}
    policy = make_preset(preset, dataset, cameras).replace({**(changes or {}), **tuned})
    return train_program.train(policy, dataset, out=out, training=config, **options)


def train_video(
    data: Sequence[Path],
    out: Path,
    *,
    config: VideoTrainConfig,
    backbone: BackboneConfig | PretrainedBackboneConfig | ScratchConfig,
    **options: Any,
) -> TrainedVideoModel:
    datasets = [LeRobotDataset(path) for path in data]
    return train_video_program.train_video(datasets, out=out, training=config, backbone=backbone, **options)


def fill_cache(data: tuple[Path, ...], out: Path | None, **options: Any) -> cache_program.Filled:
    return cache_program.fill_cache(FillCacheOptions(data=data, out=out, **options))


def verify_cache(folder: Path) -> str:
    return cache_program.verify_cache(VerifyCacheOptions(folder=folder))
