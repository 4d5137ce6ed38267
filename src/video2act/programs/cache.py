"""`video2act cache`: let System 2 see the demonstrations before training, and check what it left behind.

`train` fills a cache by itself. Filled apart, it can be shared by trainings, computed by many machines (a pool, or
accelerate launch), kept to a size, and hold an earlier stage, which is smaller and fits policies that differ only
behind it.
"""

from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from rich.progress import Progress

from video2act.config.training_options import FillCacheOptions, VerifyCacheOptions
from video2act.data import Dataset, FrameStore
from video2act.data.batches import check_columns, check_fit
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import Dtype, load_spec
from video2act.data.frame_store import GIB
from video2act.data.opening import open_chosen
from video2act.files.lock import FolderLock
from video2act.policy import Video2Act
from video2act.runtime.pool import LOCAL, open_pool
from video2act.system2.backbones import CONFIG_FILE
from video2act.training.features import PROGRESS, cache_spec, fill, fill_episode
from video2act.training.new_policy import SEEN, build_policy, can_write, choose_policy, frame_notes, prepare_text


@dataclass(frozen=True)
class Filled:
    """What a cache takes, and what it would take in another form."""

    folder: Path
    num_bytes: int
    num_frames: int
    num_clips: int
    """clips that were seen"""
    dtype: Dtype
    raw_bytes: int
    """of the frames, as recorded, of System 2's cameras: 3 bytes a pixel"""

    def __str__(self) -> str:
        per_frame = f"{self.num_bytes / self.num_frames / 2**10:.1f} KiB a frame"
        size = f"{self.num_bytes / 2**20:.1f} MiB in {self.dtype}, {per_frame}"
        raw = f"{self.num_bytes / self.raw_bytes:.3g} times the raw frames' {self.raw_bytes / 2**20:.1f} MiB"
        return f"{self.folder}: {size}, {raw}; {self.num_clips} moments of {self.num_frames} frames"


def fill_cache(options: FillCacheOptions) -> Filled:
    """Fill a cache, or go on filling it. Raises ValueError: the policy has no System 2, `out` is needed, or `max_gib`
    is no size; StaleCacheError: `out` holds a cache of something else; OSError: it would not fit."""
    max_gib, out, video_model = options.max_gib, options.out, options.video_model
    if max_gib is not None and not isfinite(max_gib):
        raise ValueError(f"max_gib must be finite, got {max_gib:g}; leave it out for as much as the disk holds")
    policy, dataset = _subject(options)
    stage, dtype = options.stage, options.dtype
    spec = cache_spec(policy, dataset, stage=stage, dtype=dtype)
    if out is None:
        if video_model is None or not (video_model / CONFIG_FILE).is_file() or (stage, dtype) != ("seen", "float16"):
            raise ValueError(
                "only stage seen in float16 beside a train-video folder has a place of its own; name a folder for this "
                "cache with --out, and give it to train with --cache"
            )
        out = video_model / SEEN / spec.name
        if not can_write(out):
            raise ValueError(f"{video_model} cannot be written; name a folder for this cache with --out")
    cache = FeatureCache(out, spec, max_bytes=None if max_gib is None else int(max_gib * 2**30))
    accelerator = Accelerator()
    is_shared = options.pool != LOCAL or options.workers > 1
    if is_shared and accelerator.num_processes > 1:
        raise ValueError("accelerate launch shares the episodes already; leave out --pool and --workers, or launch")
    for line in frame_notes(policy.config, dataset, video_model) if accelerator.is_main_process else ():
        print(f"note: {line}")
    policy.slow.to(accelerator.device)
    prepare_text(policy, dataset, accelerator=accelerator)
    if not is_shared:
        store = FrameStore(dataset, int(options.frames_gib * GIB))
        fill(policy, dataset, store=store, cache=cache, accelerator=accelerator, wait=False)
    else:
        _fill_shared(options, dataset, cache=cache, uses_gpu=accelerator.device.type == "cuda")
    num_clips = sum(-(-length // spec.every) for length in dataset.lengths)
    sizes = [dataset.image_size(camera) for camera in {stream.camera for stream in policy.slow.config.streams}]
    raw_bytes = sum(3 * h * w * dataset.total_frames for h, w in sizes)
    return Filled(out, cache.num_bytes, dataset.total_frames, num_clips, dtype, raw_bytes)


def _fill_shared(options: FillCacheOptions, dataset: Dataset, *, cache: FeatureCache, uses_gpu: bool) -> None:
    """`fill` by the workers of a pool."""
    with FolderLock(cache.root, "a filling of the cache"):
        cache.begin()
        lengths = dict(enumerate(dataset.lengths))
        left = {episode: length for episode, length in lengths.items() if cache.fault(episode, length)}
        cache.check_room(0)
        if not left:
            return
        sources = [path for path in (*options.data, options.video_model) if path is not None and path.is_dir()]
        with (
            open_pool(
                partial(CacheWorker, options, cache.root, cache.max_bytes),
                min(options.workers, len(left)),
                pool=options.pool,
                folders=[cache.root, *sources],
                uses_gpu=uses_gpu,
            ) as pool,
            Progress() as progress,
        ):
            bar = progress.add_task(PROGRESS, total=len(left))
            # one by one: how much is left depends on what is finished then
            for task, _ in pool.results(CacheTask(episode, sum(left.values())) for episode in list(left)):
                del left[task.episode]
                progress.advance(bar)


class CacheTask(NamedTuple):
    """One episode of a cache."""

    episode: int
    frames_left: int
    """frames that the cache lacks, with this episode's"""

    def __str__(self) -> str:
        return f"episode {self.episode}"


class CacheWorker:
    """Lets System 2 see an episode, and writes the cache's file of it."""

    def __init__(self, options: FillCacheOptions, out: Path, max_bytes: int | None):
        accelerator = Accelerator()
        self._policy, self._dataset = _subject(options)
        self._policy.slow.to(accelerator.device)
        prepare_text(self._policy, self._dataset, accelerator=accelerator)
        self._store, self._device = FrameStore(self._dataset, int(options.frames_gib * GIB)), accelerator.device
        spec = cache_spec(self._policy, self._dataset, stage=options.stage, dtype=options.dtype)
        self._cache = FeatureCache(out, spec, max_bytes=max_bytes)

    def __call__(self, task: CacheTask) -> None:
        fill_episode(
            self._policy,
            self._dataset,
            store=self._store,
            cache=self._cache,
            episode=task.episode,
            frames_left=task.frames_left,
            device=self._device,
        )

    def close(self) -> None: ...


def verify_cache(options: VerifyCacheOptions) -> str:
    """Read every episode and compare it with its checksums. Raises FileNotFoundError: there is no cache; ValueError:
    lists all that is wrong."""
    folder, spec = options.folder, load_spec(options.folder)
    cache = FeatureCache(folder, spec)
    faults = [fault for episode in range(spec.num_episodes) if (fault := cache.verify(episode))]
    if faults:
        raise ValueError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n  " + "\n  ".join(faults))
    return f"{folder}: {spec.num_episodes} episodes as they were written; stage {spec.stage}, {spec.dtype}"


def _subject(options: FillCacheOptions) -> tuple[Video2Act, Dataset]:
    dataset = open_chosen(options)
    check_columns(dataset)
    config = choose_policy(options, dataset, options.cameras)
    if config.system2 is None:
        raise ValueError(f"the preset {config.preset!r} has no System 2, so there is nothing to cache")
    check_fit(config, dataset)
    return build_policy(config, dataset.stats, video_model=options.video_model).eval(), dataset
