"""`video2act cache`: let System 2 see the demonstrations before training, and check what it left behind.

`train` fills a cache by itself. Filled apart, it can be shared by trainings, computed where the GPUs are (accelerate
launch), kept to a size, and hold an earlier stage, which is smaller and fits policies that differ only behind it.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from accelerate import Accelerator

from video2act.config.training_options import FillCacheOptions, VerifyCacheOptions
from video2act.data import Dataset, FrameStore, open_datasets, parse_episodes
from video2act.data.cache import Dtype, FeatureCache, load_spec
from video2act.data.loader import check_fit
from video2act.policy import Video2Act
from video2act.system2.backbones import CONFIG_FILE
from video2act.training.features import cache_spec, fill, look
from video2act.training.new_policy import build_policy, choose_policy, prepare_text


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
        per_frame = f"{self.num_bytes / self.num_frames / 2**10:.1f} KiB a frame"
        size = f"{self.num_bytes / 2**20:.1f} MiB in {self.dtype}, {per_frame}"
        raw = f"{self.num_bytes / self.raw_bytes:.3g} times the raw frames' {self.raw_bytes / 2**20:.1f} MiB"
        return f"{self.folder}: {size}, {raw}; {self.num_clips} moments of {self.num_frames} frames"


def fill_cache(options: FillCacheOptions) -> Filled:
    """Fill a cache, or go on filling it.

    Raises:
        ValueError: the policy has no System 2, `out` is needed, or `max_gib` is no size.
        StaleCacheError: `out` holds a cache of something else.
        OSError: it would not fit.
    """
    max_gib, out, video_model = options.max_gib, options.out, options.video_model
    if max_gib is not None and not isfinite(max_gib):
        raise ValueError(f"max_gib must be finite, got {max_gib:g}; leave it out for as much as the disk holds")
    policy, dataset = _subject(options)
    stage, dtype = options.stage, options.dtype
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


def verify_cache(options: VerifyCacheOptions) -> str:
    """Read every episode and compare it with its checksums; with `data`, also look again at some episodes and compare.

    Raises:
        FileNotFoundError: there is no cache.
        StaleCacheError: with `data`: it was made of something else.
        ValueError: lists all that is wrong.
    """
    folder, sample = options.folder, options.sample
    spec = load_spec(folder)
    lengths: list[int | None] = [None] * spec.num_episodes
    faults: list[str] = []
    seen_again = 0
    cache = FeatureCache(folder, spec)
    if options.data:
        policy, dataset = _subject(options)
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
    again = f", {seen_again} looked at again" if options.data else ""
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


def _subject(options: FillCacheOptions | VerifyCacheOptions) -> tuple[Video2Act, Dataset]:
    episodes = parse_episodes(options.episodes) if options.episodes else None
    dataset = open_datasets(options.data, episodes=episodes, embodiments=options.embodiments)
    config = choose_policy(options, dataset, options.cameras)
    if config.system2 is None:
        raise ValueError(f"the preset {config.preset!r} has no System 2, so there is nothing to cache")
    check_fit(config, dataset)
    return build_policy(config, dataset.stats, video_model=options.video_model).eval(), dataset
