"""How a batch is made: dataset -> `Batch`. Item i is the batch of training step i, a function of (seed, step, rank).

So a resumed run equals an uninterrupted one without saved generator states, and worker processes may prepare steps in
any order. Frames are visited in a new random order in every epoch, shared out between ranks.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils import data

from video2act.clips import stream_indices, to_pixels
from video2act.config import FrameConfig, PolicyConfig, StreamConfig, camera_and_lag
from video2act.data.cache_manifest import CacheSpec
from video2act.data.embodied import EmbodiedDataset
from video2act.data.fit import batch_bytes, check_fit, check_weights
from video2act.data.lerobot_reader import Dataset
from video2act.data.view import as_view
from video2act.frames import Size, frame_uses
from video2act.types import Batch, Video


@runtime_checkable
class Frames(Protocol):
    """Decoded frames of episodes (`FrameStore`)."""

    def plan(self, uses: Sequence[tuple[str, Size, FrameConfig]], *, batch_bytes: int) -> None: ...

    def read(
        self, wanted: Sequence[tuple[int, Sequence[int]]], camera: str, *, size: Size, rule: FrameConfig
    ) -> UInt8[np.ndarray, "b t _h _w 3"]: ...


@runtime_checkable
class SeenFrames(Protocol):
    """What System 2 saw at every frame (`FeatureCache`)."""

    spec: CacheSpec

    def read(self, places: list[tuple[int, int]]) -> dict[str, Video]: ...


class BatchLoader(data.Dataset):
    """Batches of a policy's training set, by training step.

    Args:
        cache: what System 2 saw at every frame; without it, batches hold the streams' pixel clips.
        copies: what it saw in varied clips; each sample's clip comes from one of these or from `cache`, drawn.
        numbers: of the dataset's episodes in `frames` and `cache`, where these hold more; None: the same.
        batch_size: samples per rank.
        weights: how often each of several datasets is drawn from, per frame of the epoch; None: by their sizes.
        vary_instruction: draw one of the sentences that an episode was recorded with (`Dataset.sentences`); System 2
            reads it too, unless the cache has read the recorded one.
    Raises:
        ValueError: the dataset has no actions, or does not fit the policy; both sides are named. The frames of a
            batch do not fit into the memory for decoded frames.
    """

    def __init__(
        self,
        dataset: Dataset,
        frames: Frames,
        *,
        config: PolicyConfig,
        batch_size: int,
        seed: int,
        cache: SeenFrames | None = None,
        copies: Sequence[SeenFrames] = (),
        numbers: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        weights: tuple[float, ...] | None = None,
        vary_instruction: bool = False,
    ):
        check_fit(config, dataset)
        check_weights(dataset, weights)
        self._streams = config.system2.streams if config.system2 else ()
        if cache is None and any(stream.encoding == "stream" for stream in self._streams):
            problem = "encoding='stream' needs a cache, which holds each episode encoded as a whole"
            raise ValueError(f"{problem}; train without --live, or set the stream's encoding to 'window'")
        self.dataset = dataset
        self.frames = frames
        self.config = config
        self.batch_size = batch_size
        self.seed = seed
        self.cache = cache
        self.copies = copies
        self._numbers = range(len(dataset)) if numbers is None else numbers
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.vary_instruction = vary_instruction
        uses = [use for use in frame_uses(config) if cache is None or not use.stream]
        needed = batch_bytes(config, batch_size, is_cached=cache is not None)
        frames.plan([(use.camera, use.size, use.rule) for use in uses], batch_bytes=needed)
        # global frame number -> episode, frame
        self._episode = np.repeat(np.arange(len(dataset)), dataset.lengths)
        self._frame = np.concatenate([np.arange(length) for length in dataset.lengths])
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step, self.rank])
        places = self.places(step)
        stale = rng.integers(0, self.config.max_staleness_steps + 1, size=len(places))
        # nothing was seen before the episode began
        lags = [min(int(lag), frame) for lag, (_, frame) in zip(stale, places, strict=True)]
        observed = [(episode, frame - lag) for (episode, frame), lag in zip(places, lags, strict=True)]
        instruction = self._instructions(step, places)
        rows = [self._row(episode, frame) for episode, frame in places]
        return Batch(
            videos=self._videos(step, observed),
            images={camera: self._images(camera, places) for camera in self.config.cameras},
            state=torch.from_numpy(np.stack([row[0] for row in rows])),
            instruction=instruction,
            actions=torch.from_numpy(np.stack([row[1] for row in rows])),
            action_is_pad=torch.from_numpy(np.stack([row[2] for row in rows])),
            staleness=torch.tensor(lags, dtype=torch.float32) / self.config.fps,
            stage=self.cache.spec.stage if self.cache else "pixels",
            clip_instruction=tuple(instruction if self._varies_clip_instruction else self._recorded(observed)),
            dimension_mask=self._dimension_mask(places),
        )

    def places(self, step: int) -> list[tuple[int, int]]:
        """The (episode, frame) of each sample of this rank's batch."""
        start = (step * self.world_size + self.rank) * self.batch_size
        total = len(self._episode)
        chosen = [self._order(i // total)[i % total] for i in range(start, start + self.batch_size)]
        return [(int(self._episode[i]), int(self._frame[i])) for i in chosen]

    def _epoch_order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            return rng.permutation(len(self._episode))
        # of each dataset as many frames as its weight says, each as often as any other of it, give or take one
        parts = as_view(self.dataset).each
        ends = np.cumsum([part.total_frames for part in parts])
        share = np.array(self.weights) / sum(self.weights)
        counts = np.diff(np.concatenate([[0], np.rint(np.cumsum(share) * len(self._episode)).astype(int)]))
        chosen = []
        for end, part, count in zip(ends, parts, counts, strict=True):
            rounds = -(-int(count) // part.total_frames)
            frames = np.concatenate([rng.permutation(part.total_frames) for _ in range(rounds)] or [np.zeros(0, int)])
            chosen.append(end - part.total_frames + frames[:count])
        return rng.permutation(np.concatenate(chosen))

    def _instructions(self, step: int, places: list[tuple[int, int]]) -> list[str]:
        own = self._recorded(places)
        if not self.vary_instruction:
            return own
        # a generator of its own: what else is drawn in a step does not depend on this choice
        rng = np.random.default_rng([self.seed, step, self.rank, 1])
        choices = [self.dataset.sentences(i) or (one,) for (i, _), one in zip(places, own, strict=True)]
        return [some[int(draw * len(some))] for some, draw in zip(choices, rng.random(len(places)), strict=True)]

    def _recorded(self, places: list[tuple[int, int]]) -> list[str]:
        return [self.dataset.episode(episode).instruction[frame] for episode, frame in places]

    @property
    def _varies_clip_instruction(self) -> bool:
        """Whether System 2 reads the sentences that are drawn. What it has read before is the recorded ones."""
        return self.vary_instruction and not (self.cache is not None and self.cache.spec.has_read_text)

    def _row(self, number: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State, action chunk and padding flags; past the end, the last action is repeated and flagged."""
        episode = self.dataset.episode(number)
        ahead, last = frame + np.arange(self.config.horizon), episode.length - 1
        return episode.state[frame], episode.actions[np.minimum(ahead, last)], ahead > last

    def _dimension_mask(self, places: list[tuple[int, int]]) -> Float[Tensor, "b s"] | None:
        if not isinstance(self.dataset, EmbodiedDataset):
            return None
        return torch.from_numpy(np.stack([self.dataset.dimension_mask(episode) for episode, _ in places]))

    def _videos(self, step: int, observed: list[tuple[int, int]]) -> dict[str, Video]:
        """The streams' clips: pixels, or from the cache."""
        stored = [(self._numbers[episode], frame) for episode, frame in observed]
        if self.cache is not None and self._streams:
            if not self.copies:
                return self.cache.read(stored)
            rng = np.random.default_rng([self.seed, step, self.rank, 2])
            return _read_drawn([self.cache, *self.copies], stored, rng=rng)
        fps = self.config.fps
        return {s.name: episode_clips(self.frames, s, places=stored, control_fps=fps) for s in self._streams}

    def _images(self, name: str, places: list[tuple[int, int]]) -> Float[Tensor, "b 3 h w"]:
        camera, lag = camera_and_lag(name)
        size, rule = (self.config.image_px, self.config.image_px), self.config.image
        # before the episode began, its first frame is repeated, as in clips
        wanted = [(self._numbers[episode], (max(0, frame - lag),)) for episode, frame in places]
        images = self.frames.read(wanted, camera, size=size, rule=rule)
        return rearrange(torch.from_numpy(images), "b 1 h w c -> b c h w").float() / 127.5 - 1


def _read_drawn(
    caches: Sequence[SeenFrames], places: list[tuple[int, int]], *, rng: np.random.Generator
) -> dict[str, Video]:
    """What was seen at places, each read from one of the caches."""
    drawn = rng.integers(0, len(caches), size=len(places))
    order = np.argsort(drawn, kind="stable")
    groups = [[places[i] for i in order if drawn[i] == number] for number in range(len(caches))]
    parts = [cache.read(group) for cache, group in zip(caches, groups, strict=True) if group]
    back = torch.from_numpy(np.argsort(order))
    return {
        name: replace(video, grid=torch.cat([part[name].grid for part in parts])[back])
        for name, video in parts[0].items()
    }


def episode_clips(frames: Frames, stream: StreamConfig, *, places: list[tuple[int, int]], control_fps: float) -> Video:
    """The stream's clips that end at (episode, frame) places, as one batch."""
    wanted = [(episode, stream_indices(newest, stream)) for episode, newest in places]
    size, fps = stream.frame_px, control_fps / stream.stride
    return read_clips(frames, stream.camera, wanted=wanted, size=size, rule=stream.frame, fps=fps)


def read_clips(
    frames: Frames,
    camera: str,
    *,
    wanted: Sequence[tuple[int, Sequence[int]]],
    size: Size,
    rule: FrameConfig,
    fps: float,
) -> Video:
    """Chosen frames of episodes, equally many of each, as one batch of clips."""
    images = frames.read(wanted, camera, size=size, rule=rule)
    return Video(torch.cat([to_pixels(clip, fps).grid for clip in images]), fps)
