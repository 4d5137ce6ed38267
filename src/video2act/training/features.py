"""Fills a cache: System 2's frozen part sees every frame of a dataset once; processes share the episodes.

Where a stream is encoded as one (`encoding="stream"`), the encoder goes through the episode once; a clip is then the
newest of its latents. Where it is encoded in windows, each clip is encoded for itself, as the robot does it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import accumulate
from math import gcd

import torch
from accelerate import Accelerator
from torch import Tensor

from video2act.clips import stream_indices, to_pixels
from video2act.config import StreamConfig
from video2act.data import Dataset, FrameStore
from video2act.data.batches import episode_clips
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CachedStage, CacheSpec, Dtype
from video2act.files.atomic import remove_unfinished
from video2act.files.fingerprint import tensors_fingerprint
from video2act.files.lock import FolderLock
from video2act.policy import Video2Act
from video2act.progress import track
from video2act.system2 import System2
from video2act.system2.streaming import last_latents, open_stream
from video2act.training.cache_copies import Variation, variation_of
from video2act.training.choice import BATCH, PIECE, look_bytes
from video2act.training.identity import backbone_identity
from video2act.training.pause import Deadline, TrainingPausedError
from video2act.training.together import highest
from video2act.types import Video

PROGRESS = "System 2 sees the demonstrations"


def cache_spec(
    policy: Video2Act, dataset: Dataset, *, stage: CachedStage = "seen", dtype: Dtype = "float16"
) -> CacheSpec:
    """The manifest of what a policy's System 2 sees in a dataset.

    Only what the stage depends on is in it: latents know nothing of the transformer, features nothing of a filter
    after them.
    """
    system2 = policy.slow
    config = system2.config
    streams = [{**asdict(stream), "former": None} for stream in config.streams]  # formers are trained later
    weights: dict[str, Tensor] = system2.backbone.state_dict()
    described = {"streams": streams, "data": [dataset.fingerprint, float(dataset.fps)]}
    if stage == "latents":
        weights = {name: tensor for name, tensor in weights.items() if name.startswith(("codec.", "vae."))}
        described["backbone"] = config.backbone.name
    else:
        described |= {"backbone": backbone_identity(config.backbone), "filter_on": config.filter_on}
    if stage == "seen":
        described["reference"] = config.reference
    if stage == "latents" or (stage == "features" and config.filter_on == "features"):
        described["streams"] = [{**stream, "filter": None} for stream in streams]
    if stage == "latents":
        described["streams"] = [{**stream, "imagine": None} for stream in described["streams"]]
    streamed = [stream for stream in config.streams if stage == "latents" and stream.encoding == "stream"]
    windows = {s.name: (_latent_step(system2, s), _clip_latents(system2, s), s.every) for s in streamed}
    every = gcd(*(stream.every for stream in config.streams))
    return CacheSpec(stage, dtype, every, windows, {**described, "weights": tensors_fingerprint(weights)}, len(dataset))


@contextmanager
def begun(cache: FeatureCache, lengths: Sequence[int], *, wait: bool) -> Iterator[None]:
    """Begin a cache, and hold the lock of its folder while an episode is missing. A complete cache needs none: it may
    lie where nothing can be written.

    Args:
        lengths: frames of each episode.
        wait: for another program that fills the same cache, instead of raising.
    Raises:
        InUseError: another program fills the cache.
        ValueError: as `FeatureCache.begin`.
    """
    if not cache.missing(lengths):
        cache.begin()
        yield
        return
    with FolderLock(cache.root, "a filling of the cache", wait=wait) as lock:
        cache.begin()
        if lock.is_safe:
            remove_unfinished(cache.root.iterdir())  # not below: copies lie there, and have locks of their own
        yield


@torch.no_grad()
def fill(
    policy: Video2Act,
    dataset: Dataset,
    *,
    store: FrameStore,
    cache: FeatureCache,
    accelerator: Accelerator,
    wait: bool = True,
    deadline: Deadline | None = None,
) -> None:
    """Write the episodes that the cache does not hold yet, and those whose files are damaged.

    Args:
        wait: for another program that fills the same cache, instead of raising.
        deadline: the episode at which it passes is finished, and at least one.
    Raises:
        InUseError: another program fills the cache.
        TrainingPausedError: `deadline` is over; what was written is kept.
        ValueError: the folder holds episodes of an unknown cache, or values do not fit the cache's dtype.
        OSError: the whole would not fit into what the cache may take, or onto the disk.
    """
    with begun(cache, dataset.lengths, wait=wait) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        missing = cache.missing(dataset.lengths)
        accelerator.wait_for_everyone()
        cache.check_room(0)
        # by number: other programs may fill the same cache, so that processes need not miss the same
        mine = [episode for episode in missing if episode % accelerator.num_processes == accelerator.process_index]
        is_shown = accelerator.is_main_process and bool(mine)
        # others write at the same time, about as fast: what is left begins with this episode
        lengths = [dataset.lengths[episode] for episode in reversed(missing)]
        left = dict(zip(reversed(missing), accumulate(lengths), strict=True))
        is_over = False
        for number, episode in enumerate(track(mine, PROGRESS, unit="episode", is_shown=is_shown)):
            is_over = number > 0 and deadline is not None and deadline.is_over
            if is_over:
                break
            fill_episode(
                policy,
                dataset,
                store=store,
                cache=cache,
                episode=episode,
                frames_left=left[episode],
                device=accelerator.device,
            )
        accelerator.wait_for_everyone()
        if highest(int(is_over), accelerator):  # of any process: the cache is not complete
            raise TrainingPausedError(f"{PROGRESS}: {deadline}; the episodes that it has seen are kept in {cache.root}")


def fill_episode(
    policy: Video2Act,
    dataset: Dataset,
    *,
    store: FrameStore,
    cache: FeatureCache,
    episode: int,
    frames_left: int,
    device: torch.device,
) -> None:
    """Write one episode, if the cache does not hold it. Raises OSError: at its size per frame, the `frames_left` that
    the cache still lacks do not fit."""
    length = dataset.lengths[episode]
    if cache.fault(episode, length) is None:
        return  # another program was faster
    seen = look(policy, dataset, store=store, episode=episode, spec=cache.spec, device=device)
    cache.check_room(cache.size(seen) * frames_left // length)
    cache.write(episode, seen)


@torch.no_grad()
def look(
    policy: Video2Act, dataset: Dataset, *, store: FrameStore, episode: int, spec: CacheSpec, device: torch.device
) -> dict[str, Video]:
    """What the cache holds of one episode: stream -> clips one after another, or the latents of a stream."""
    system2, fps, instruction = policy.slow, policy.config.fps, dataset.episode(episode).instruction
    variation = variation_of(spec)
    windowed = tuple(stream for stream in system2.config.streams if stream.encoding == "window")
    streams = [stream for stream in system2.config.streams if stream not in windowed]
    length, store = dataset.lengths[episode], store.of_episode(episode)
    store.plan([(s.camera, s.frame_px, s.frame) for s in system2.config.streams], batch_bytes=look_bytes(policy.config))
    streamed = {
        s.name: _whole_stream(
            system2, s, store=store, place=(episode, length - 1), fps=fps, device=device, variation=variation
        )
        for s in streams
    }
    moments = range(0, length, spec.every)
    parts: list[dict[str, Video]] = []
    for first in range(0, len(moments), BATCH):
        frames = moments[first : first + BATCH]
        latents = {s.name: _clips(system2, s, latents=streamed[s.name], frames=frames) for s in streams}
        if windowed:
            places = [(episode, frame) for frame in frames]
            clips = {s.name: episode_clips(store, s, places=places, control_fps=fps) for s in windowed}
            clips = variation.of(clips, episode=episode, first=first) if variation else clips
            clips = {name: video.to(device) for name, video in clips.items()}
            latents |= system2.encode(clips, windowed)
        sentences = [instruction[frame] for frame in frames]
        parts.append(system2.see_on("latents", latents, instruction=sentences, until=spec.stage))
    seen = {name: Video(torch.cat([part[name].grid for part in parts]), video.fps) for name, video in parts[0].items()}
    # latents one by one, each once
    single = {name: replace(video, grid=video.grid[0].movedim(0, 1)[:, :, None]) for name, video in streamed.items()}
    return seen | {name: single[name] for name in spec.windows}


def _whole_stream(
    system2: System2,
    stream: StreamConfig,
    *,
    store: FrameStore,
    place: tuple[int, int],
    fps: float,
    device: torch.device,
    variation: Variation | None,
) -> Video:
    """All latents of an episode up to a frame `[1 c t h w]`."""
    group, (episode, newest) = system2.config.backbone.frames_per_latent, place
    chosen = stream_indices(newest, stream)
    encoder, grids, latent_fps = open_stream(system2.backbone), [], 0.0
    begin = 0
    while begin < len(chosen):
        end = begin + PIECE * group + (begin == 0)
        images = store.read([(episode, chosen[begin:end])], stream.camera, size=stream.frame_px, rule=stream.frame)
        pixels = to_pixels(images[0], fps / stream.stride)
        if variation:  # with the same draws for each piece
            pixels = variation.of({stream.name: pixels}, episode=episode, first=0)[stream.name]
        pixels = pixels.to(device)
        if stream.channel_order == "bgr":
            pixels = replace(pixels, grid=pixels.grid.flip(1))
        latents = system2.continue_stream(encoder, pixels)
        grids, latent_fps, begin = [*grids, latents.grid], latents.fps, end
    return Video(torch.cat(grids, dim=2), latent_fps)


def _clips(system2: System2, stream: StreamConfig, *, latents: Video, frames: range) -> Video:
    """The clips that end at these frames, as a batch."""
    step, count = _latent_step(system2, stream), _clip_latents(system2, stream)
    looked = [frame - frame % stream.every for frame in frames]
    grid = torch.cat([last_latents(latents.grid[:, :, : 1 + frame // step], count) for frame in looked])
    return Video(grid, latents.fps)


def _latent_step(system2: System2, stream: StreamConfig) -> int:
    """Control steps between two latents."""
    return stream.stride * system2.config.backbone.frames_per_latent


def _clip_latents(system2: System2, stream: StreamConfig) -> int:
    return 1 + (stream.num_frames - 1) // system2.config.backbone.frames_per_latent
