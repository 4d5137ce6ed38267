"""Dataset -> Batch. Item i is the batch of training step i: a function of (seed, step, rank) and of nothing else.

That is what makes a resumed run equal an uninterrupted one without saving the state of any generator, and what lets worker
processes prepare steps in any order. Frames are visited in a fresh random order every epoch, shared out between ranks.
"""

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils import data

from video2act.clips import Fit, stream_indices, to_pixels
from video2act.config import PolicyConfig, StreamConfig, camera_and_lag
from video2act.data.cache import FeatureCache
from video2act.data.lerobot_reader import Dataset
from video2act.types import Batch, Video


@runtime_checkable
class Frames(Protocol):
    """Decoded frames of whole episodes (`FrameStore`)."""

    def frames(
        self, episode: int, camera: str, size_px: int, width_px: int = 0, fit: Fit = "area"
    ) -> UInt8[np.ndarray, "t _h _w 3"]: ...


class BatchLoader(data.Dataset):
    """Batches of a policy's training set, by training step.

    Args:
        cache: what System 2 saw at every frame; without it, batches hold the streams' pixel clips.
        batch_size: samples per rank.
    Raises:
        ValueError: the dataset has no actions, or does not fit the policy; both sides are named.
    """

    def __init__(
        self,
        dataset: Dataset,
        frames: Frames,
        config: PolicyConfig,
        batch_size: int,
        seed: int,
        cache: FeatureCache | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        check_fit(config, dataset)
        is_streamed = any(stream.encoding == "stream" for stream in config.system2.streams) if config.system2 else False
        if is_streamed and cache is None:
            raise ValueError("a stream is encoded once for all training steps, into a cache; train with one, or in windows")
        self.dataset = dataset
        self.frames = frames
        self.config = config
        self.batch_size = batch_size
        self.seed = seed
        self.cache = cache
        self.rank = rank
        self.world_size = world_size
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
        streams = self.config.system2.streams if self.config.system2 else ()
        rows = [self._row(episode, frame) for episode, frame in places]
        return Batch(
            clips={}
            if self.cache
            else {stream.name: episode_clips(self.frames, stream, observed, self.config.fps) for stream in streams},
            seen=self.cache.read(observed) if self.cache else {},
            images={camera: self._images(camera, places) for camera in self.config.cameras},
            state=torch.from_numpy(np.stack([row[0] for row in rows])),
            instruction=[self.dataset.episode(episode).instruction[frame] for episode, frame in places],
            actions=torch.from_numpy(np.stack([row[1] for row in rows])),
            action_is_pad=torch.from_numpy(np.stack([row[2] for row in rows])),
            staleness=torch.tensor(lags, dtype=torch.float32) / self.config.fps,
            stage=self.cache.spec.stage if self.cache else "seen",
            seen_instruction=tuple(self.dataset.episode(episode).instruction[frame] for episode, frame in observed),
        )

    def places(self, step: int) -> list[tuple[int, int]]:
        """The (episode, frame) of each sample of this rank's batch."""
        start = (step * self.world_size + self.rank) * self.batch_size
        total = len(self._episode)
        chosen = [self._order(i // total)[i % total] for i in range(start, start + self.batch_size)]
        return [(int(self._episode[i]), int(self._frame[i])) for i in chosen]

    def _epoch_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self._episode))

    def _row(self, number: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State, action chunk and padding flags; past the end, the last action is repeated and flagged."""
        episode = self.dataset.episode(number)
        assert episode.action is not None
        ahead = frame + np.arange(self.config.horizon)
        is_pad = ahead >= episode.length
        return episode.state[frame], episode.action[np.minimum(ahead, episode.length - 1)], is_pad

    def _images(self, name: str, places: list[tuple[int, int]]) -> Float[Tensor, "b 3 h w"]:
        camera, lag = camera_and_lag(name)
        size_px, fit = self.config.image_px, self.config.image_fit
        # before the episode began, its first frame is repeated, as in clips
        images = np.stack([self.frames.frames(e, camera, size_px, size_px, fit)[max(0, frame - lag)] for e, frame in places])
        return rearrange(torch.from_numpy(images), "b h w c -> b c h w").float() / 127.5 - 1


def episode_clips(frames: Frames, stream: StreamConfig, places: list[tuple[int, int]], control_fps: float) -> Video:
    """The stream's clips that end at (episode, frame) places, as one batch."""
    clips = []
    for episode, newest in places:
        images = frames.frames(episode, stream.camera, *stream.frame_px, stream.resize)
        chosen = stream_indices(newest, stream)
        clips.append(to_pixels(images[chosen], control_fps / stream.stride))
    return Video(torch.cat([clip.grid for clip in clips]), clips[0].fps)


def check_fit(config: PolicyConfig, dataset: Dataset) -> None:
    """Raise ValueError where a policy and a dataset contradict each other."""
    if dataset.action_dim is None:
        raise ValueError("this dataset has no actions (it was recorded as videos only); train-video can use it, train cannot")
    for word, own, other in (
        ("state size", config.state_dim, dataset.state_dim),
        ("action size", config.action_dim, dataset.action_dim),
        ("control rate in Hz", config.fps, float(dataset.fps)),
    ):
        if own != other:
            raise ValueError(f"{word}: the policy has {own}, the dataset {other}; use the config made for this dataset")
    missing = [camera for camera in config.all_cameras if camera not in dataset.cameras]
    if missing:
        raise ValueError(
            f"the policy looks through {', '.join(missing)}, which the dataset does not have; "
            f"its cameras are {', '.join(dataset.cameras)}"
        )
