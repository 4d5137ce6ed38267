"""Fills a cache as `video2act cache fill` asks: in this process, by accelerate's, or by the workers of a pool."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from video2act.config import PolicyConfig
from video2act.config.training_options import FillCacheOptions
from video2act.data import Dataset, FrameStore
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import COPIES, CacheSpec
from video2act.data.frame_store import GIB
from video2act.progress import Bar
from video2act.runtime.pool import LOCAL, Pool, num_workers, open_pool
from video2act.training.cache_contents import Filled, contents
from video2act.training.cache_copies import check_room, open_copies
from video2act.training.choice import can_write, frame_notes
from video2act.training.features import PROGRESS, begun, cache_spec, fill, fill_episode
from video2act.training.new_policy import SEEN, build_policy, prepare_text
from video2act.training.together import open_accelerator


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
    accelerator = open_accelerator()
    is_shared = options.pool != LOCAL or (options.workers or 1) > 1
    if is_shared and accelerator.num_processes > 1:
        raise ValueError("accelerate launch shares the episodes already; leave out --pool and --workers, or launch")
    for line in frame_notes(policy.config, dataset, video_model) if accelerator.is_main_process else ():
        print(f"note: {line}")
    policy.slow.to(accelerator.device)
    prepare_text(policy, dataset, accelerator=accelerator)
    caches = (cache, *copies)
    with ExitStack() as ending:
        if is_shared:
            uses_gpu = accelerator.device.type == "cuda"
            team = lru_cache(
                partial(_open_team, options, caches, lengths=dataset.lengths, uses_gpu=uses_gpu, ending=ending)
            )
            fill_one = partial(_fill_shared, team, dataset)
        else:
            store = FrameStore(dataset, int(options.frames_gib * GIB))
            fill_one = partial(fill, policy, dataset, store=store, accelerator=accelerator, wait=False)
        fill_one(cache=cache)
        check_room(cache, copies)
        for copy in copies:
            fill_one(cache=copy)
    num_clips = sum(-(-length // spec.every) for length in dataset.lengths)
    sizes = [dataset.image_size(camera) for camera in {stream.camera for stream in policy.slow.config.streams}]
    raw_bytes = sum(3 * h * w * dataset.total_frames for h, w in sizes)
    num_bytes = sum(one.num_bytes for one in caches)
    return Filled(out, num_bytes, dataset.total_frames, num_clips, dtype, raw_bytes)


def _open_team(
    options: FillCacheOptions,
    caches: Sequence[FeatureCache],
    *,
    lengths: Sequence[int],
    uses_gpu: bool,
    ending: ExitStack,
) -> Pool:
    """Workers that fill one cache after another."""
    size = num_workers(options.workers, pool=options.pool, local=1, uses_gpu=uses_gpu)
    sources = [path for path in (*options.data, options.video_model) if path is not None and path.is_dir()]
    making = open_pool(
        partial(CacheWorker, options),
        min(size, max(len(cache.missing(lengths)) for cache in caches)),
        pool=options.pool,
        folders=[caches[0].root, *sources],
        uses_gpu=uses_gpu,
    )
    return ending.enter_context(making)


def _fill_shared(team: Callable[[], Pool], dataset: Dataset, *, cache: FeatureCache) -> None:
    """`fill` by the workers of a pool."""
    with begun(cache, dataset.lengths, wait=False):
        left = {episode: dataset.lengths[episode] for episode in cache.missing(dataset.lengths)}
        cache.check_room(0)
        if not left:
            return
        pool, place = team(), (cache.root, cache.spec, cache.max_bytes)
        with Bar(PROGRESS, len(left), unit="episode") as bar:
            # one by one: how much is left depends on what is finished then
            for task, _ in pool.results(CacheTask(*place, episode, sum(left.values())) for episode in list(left)):
                del left[task.episode]
                bar.advance()


class CacheTask(NamedTuple):
    """One episode of a cache."""

    root: Path
    spec: CacheSpec
    max_bytes: int | None
    episode: int
    frames_left: int
    """frames that the cache lacks, with this episode's"""

    def __str__(self) -> str:
        return f"episode {self.episode}"


class CacheWorker:
    """Lets System 2 see an episode, and writes a cache's file of it."""

    def __init__(self, options: FillCacheOptions):
        accelerator = open_accelerator()
        config, self._dataset = contents(options)
        self._policy = build_policy(config, self._dataset.stats, video_model=options.video_model).eval()
        self._policy.slow.to(accelerator.device)
        prepare_text(self._policy, self._dataset, accelerator=accelerator)
        self._store, self._device = FrameStore(self._dataset, int(options.frames_gib * GIB)), accelerator.device

    def __call__(self, task: CacheTask) -> None:
        fill_episode(
            self._policy,
            self._dataset,
            store=self._store,
            cache=FeatureCache(task.root, task.spec, max_bytes=task.max_bytes),
            episode=task.episode,
            frames_left=task.frames_left,
            device=self._device,
        )

    def close(self) -> None: ...
