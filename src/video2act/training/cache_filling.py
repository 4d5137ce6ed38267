"""Fills a cache as `video2act cache fill` asks: in this process, by accelerate's, or by the workers of a pool."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from rich.progress import Progress

from video2act.config import PolicyConfig
from video2act.config.training_options import FillCacheOptions
from video2act.data import Dataset, FrameStore
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CacheSpec
from video2act.data.frame_store import GIB
from video2act.files.lock import FolderLock
from video2act.runtime.pool import LOCAL, num_workers, open_pool
from video2act.training.cache_contents import Filled, contents
from video2act.training.cache_copies import COPIES, open_copies
from video2act.training.choice import can_write, frame_notes
from video2act.training.features import PROGRESS, cache_spec, fill, fill_episode
from video2act.training.new_policy import SEEN, build_policy, prepare_text


def fill_chosen(options: FillCacheOptions, config: PolicyConfig, *, dataset: Dataset) -> Filled:
    """Fill the cache. Raises as `programs.cache.fill_cache`."""
    max_gib, out, video_model = options.max_gib, options.out, options.video_model
    policy = build_policy(config, dataset.stats, video_model=video_model).eval()
    stage, dtype = options.stage, options.dtype
    spec = cache_spec(policy, dataset, stage=stage, dtype=dtype)
    if out is None:
        assert video_model is not None
        out = video_model / SEEN / spec.name
        if not can_write(out):
            raise ValueError(f"{video_model} cannot be written; name a folder for this cache with --out")
    cache = FeatureCache(out, spec, max_bytes=None if max_gib is None else int(max_gib * 2**30))
    varied = {"shift_px": options.clip_shift_px, "jitter": options.clip_jitter, "copies": options.clip_copies}
    copies = open_copies(cache, **varied, root=out / COPIES)
    accelerator = Accelerator()
    is_shared = options.pool != LOCAL or (options.workers or 1) > 1
    if is_shared and accelerator.num_processes > 1:
        raise ValueError("accelerate launch shares the episodes already; leave out --pool and --workers, or launch")
    for line in frame_notes(policy.config, dataset, video_model) if accelerator.is_main_process else ():
        print(f"note: {line}")
    policy.slow.to(accelerator.device)
    prepare_text(policy, dataset, accelerator=accelerator)
    if is_shared:
        fill_one = partial(_fill_shared, options, dataset, uses_gpu=accelerator.device.type == "cuda")
    else:
        store = FrameStore(dataset, int(options.frames_gib * GIB))
        fill_one = partial(fill, policy, dataset, store=store, accelerator=accelerator, wait=False)
    fill_one(cache=cache)
    expected = cache.num_bytes * (1 + len(copies))
    if copies and cache.max_bytes is not None and expected > cache.max_bytes:
        takes = f"the cache and its {len(copies)} copies would take {expected / 2**30:.2f} GiB"
        raise OSError(f"{takes}, more than {max_gib:g} GiB; fewer --clip-copies take less")
    for copy in copies:
        fill_one(cache=copy)
    num_clips = sum(-(-length // spec.every) for length in dataset.lengths)
    sizes = [dataset.image_size(camera) for camera in {stream.camera for stream in policy.slow.config.streams}]
    raw_bytes = sum(3 * h * w * dataset.total_frames for h, w in sizes)
    num_bytes = sum(one.num_bytes for one in (cache, *copies))
    return Filled(out, num_bytes, dataset.total_frames, num_clips, dtype, raw_bytes)


def _fill_shared(options: FillCacheOptions, dataset: Dataset, *, cache: FeatureCache, uses_gpu: bool) -> None:
    """`fill` by the workers of a pool."""
    with FolderLock(cache.root, "a filling of the cache"):
        cache.begin()
        lengths = dict(enumerate(dataset.lengths))
        left = {episode: length for episode, length in lengths.items() if cache.fault(episode, length)}
        cache.check_room(0)
        if not left:
            return
        size = num_workers(options.workers, pool=options.pool, local=1, uses_gpu=uses_gpu)
        sources = [path for path in (*options.data, options.video_model) if path is not None and path.is_dir()]
        with (
            open_pool(
                partial(CacheWorker, options, cache.root, cache.spec, cache.max_bytes),
                min(size, len(left)),
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

    def __init__(self, options: FillCacheOptions, out: Path, spec: CacheSpec, max_bytes: int | None):
        accelerator = Accelerator()
        config, self._dataset = contents(options)
        self._policy = build_policy(config, self._dataset.stats, video_model=options.video_model).eval()
        self._policy.slow.to(accelerator.device)
        prepare_text(self._policy, self._dataset, accelerator=accelerator)
        self._store, self._device = FrameStore(self._dataset, int(options.frames_gib * GIB)), accelerator.device
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
