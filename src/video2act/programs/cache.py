"""`video2act cache`: let System 2 see the demonstrations before training, and check what it left behind.

`train` fills a cache by itself. Filled apart, it can be shared by trainings, computed where the GPUs are (accelerate launch),
kept to a size, and hold an earlier stage, which is smaller and fits policies that differ only behind it.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator

from video2act.config import System2Options
from video2act.data import Dataset, FrameStore, open_datasets
from video2act.data.cache import Dtype, FeatureCache, load_spec
from video2act.policy import Video2Act
from video2act.presets import DataSpec, make_preset
from video2act.system2.backbones import CONFIG_FILE
from video2act.training.features import cache_spec, fill, look
from video2act.training.new_policy import build_policy, prepare_text, with_encoding, with_options
from video2act.types import Stage

AS_IN_PRESET = System2Options()


@dataclass(frozen=True)
class Filled:
    """What a cache takes, and what it would take in another form."""

    folder: Path
    num_bytes: int
    num_frames: int
    num_clips: int
    """that were looked at, or would be, one by one"""
    dtype: Dtype
    raw_bytes: int
    """of the frames, as recorded, of the cameras that System 2 looks through: 3 bytes a pixel"""

    def __str__(self) -> str:
        size = f"{self.num_bytes / 2**20:.1f} MiB in {self.dtype}, {self.num_bytes / self.num_frames / 2**10:.1f} KiB a frame"
        raw = f"{self.num_bytes / self.raw_bytes:.3g} times the raw frames' {self.raw_bytes / 2**20:.1f} MiB"
        return f"{self.folder}: {size}, {raw}; {self.num_clips} moments of {self.num_frames} frames"


def fill_cache(
    data: tuple[Path, ...],
    out: Path | None,
    *,
    preset: str = "tiny",
    video_model: Path | None = None,
    cameras: tuple[str, ...] | None = None,
    stage: Stage = "seen",
    encoding: Literal["window", "stream"] = "window",
    dtype: Dtype = "float16",
    max_gib: float | None = None,
    embodiments: tuple[str, ...] | None = None,
    system2: System2Options = AS_IN_PRESET,
) -> Filled:
    """Fill a cache, or go on filling it; see `video2act.programs.train.train` for what is not said here.

    Args:
        out: its folder; None: where `train` looks for it, which only the finished stage of the tiny presets has.
        stage: latents, features (after the video model's blocks), or seen (filtered).
        max_gib: what the cache may take; more is refused before it is written.
        embodiments: as `TrainConfig.embodiments`.
        system2: how the preset's published video model is looked through.
    Raises:
        ValueError: the preset has no System 2, `out` is needed, or `max_gib` is no size.
        StaleCacheError: `out` holds a cache of something else.
        OSError: it would not fit.
    """
    if max_gib is not None and not (isfinite(max_gib) and max_gib > 0):
        raise ValueError(
            f"a cache needs a size above 0, got --max-gib {max_gib:g}; leave it out for as much as the disk holds"
        )
    policy, dataset = _subject(
        data,
        preset,
        video_model=video_model,
        cameras=cameras,
        encoding=encoding,
        embodiments=embodiments,
        system2=system2,
    )
    spec = cache_spec(policy, dataset, stage=stage, dtype=dtype)
    if out is None:
        if video_model is None or not (video_model / CONFIG_FILE).is_file() or (stage, dtype) != ("seen", "float16"):
            raise ValueError("name a folder for this cache with --out, and give it to train with --cache")
        out = video_model / "seen" / spec.name
    cache = FeatureCache(out, spec, max_bytes=None if max_gib is None else int(max_gib * 2**30))
    accelerator = Accelerator()
    assert policy.system2 is not None
    policy.system2.to(accelerator.device)
    prepare_text(policy, dataset, accelerator=accelerator)
    fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=accelerator)
    num_clips = sum(-(-length // spec.every) for length in dataset.lengths)
    sizes = [dataset.image_size(camera) for camera in {stream.camera for stream in policy.system2.config.streams}]
    raw_bytes = sum(3 * h * w * dataset.total_frames for h, w in sizes)
    return Filled(out, cache.num_bytes, dataset.total_frames, num_clips, dtype, raw_bytes)


def verify_cache(
    folder: Path,
    data: tuple[Path, ...] = (),
    *,
    preset: str = "tiny",
    video_model: Path | None = None,
    cameras: tuple[str, ...] | None = None,
    sample: int = 2,
    embodiments: tuple[str, ...] | None = None,
    system2: System2Options = AS_IN_PRESET,
) -> str:
    """Read every episode and compare it with its checksums; with `data`, also look again at some episodes and compare.

    Raises:
        FileNotFoundError: there is no cache.
        StaleCacheError: with `data`: it was made of something else.
        ValueError: lists all that is wrong.
    """
    spec = load_spec(folder)
    lengths: list[int | None] = [None] * spec.num_episodes
    faults: list[str] = []
    seen_again = 0
    cache = FeatureCache(folder, spec)
    if data:
        encoding = (
            "stream" if any(s.get("encoding") == "stream" for s in spec.described.get("streams", [])) else "window"
        )
        policy, dataset = _subject(
            data,
            preset,
            video_model=video_model,
            cameras=cameras,
            encoding=encoding,
            embodiments=embodiments,
            system2=system2,
        )
        cache = FeatureCache(folder, cache_spec(policy, dataset, stage=spec.stage, dtype=spec.dtype))
        lengths = [*dataset.lengths]
        chosen = sorted({round(i * (len(dataset) - 1) / max(1, sample - 1)) for i in range(sample)})
        for episode in chosen:
            if episode in cache and cache.verify(episode) is None:
                faults += _compare(policy, dataset, cache=cache, episode=episode)
                seen_again += 1
    found = [fault for episode, length in enumerate(lengths) if (fault := cache.verify(episode, length))]
    faults = [*found, *faults]
    if faults:
        raise ValueError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  " + "\n  ".join(faults))
    again = f", {seen_again} looked at again" if data else ""
    return f"{folder}: {len(lengths)} episodes as they were written{again}; stage {spec.stage}, {spec.dtype}"


def _compare(policy: Video2Act, dataset: Dataset, *, cache: FeatureCache, episode: int) -> list[str]:
    """Differences beyond the rounding of the cache's dtype and of bfloat16, in which System 2 may run."""
    now = look(policy, dataset, store=FrameStore(dataset), episode=episode, spec=cache.spec, device=torch.device("cpu"))
    faults = []
    for name, stored in cache.whole(episode).items():
        expected = now[name].grid.float()
        error = float((stored.grid - expected).norm() / expected.norm().clamp(min=1e-9))
        if error > 0.02:
            faults.append(
                f"episode {episode}, {name}: what System 2 sees now is {error:.1%} off what is stored; fill it again"
            )
    return faults


def _subject(
    data: tuple[Path, ...],
    preset: str,
    *,
    video_model: Path | None,
    cameras: tuple[str, ...] | None,
    encoding: Literal["window", "stream"],
    embodiments: tuple[str, ...] | None,
    system2: System2Options,
) -> tuple[Video2Act, Dataset]:
    dataset = open_datasets(data, embodiments=embodiments)
    spec = DataSpec(dataset.state_dim, dataset.action_dim or 0, float(dataset.fps), cameras or dataset.cameras)
    config = with_encoding(with_options(make_preset(preset, spec), system2), encoding)
    if config.system2 is None:
        raise ValueError(f"the preset {preset!r} has no System 2, so there is nothing to cache")
    return build_policy(config, dataset.stats, video_model=video_model).eval(), dataset
