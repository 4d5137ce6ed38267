"""The nouns, in the order data travels from a camera to an action.

Axis letters, here and everywhere: b batch, c channel, t frame, h w grid, n token, d width, s state, a action.
What crosses the edge of the system is numpy in raw units (`Observation`, `ActionChunk`). Inside are arrays of the
engine that computes: torch tensors, or numpy where an exported policy runs without PyTorch. So torch is imported by
what makes tensors only.
Everything is immutable: a message that crosses a thread cannot change under its reader.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    Tensor = Any


@dataclass(frozen=True)
class Observation:
    """What the robot knows at one control step; the edge of the system. `Runner` copies the arrays: an environment may
    draw its next frame into the same memory."""

    images: dict[str, UInt8[np.ndarray, "_h _w 3"]]
    """camera -> RGB, upright"""
    state: Float[np.ndarray, "s"]
    """proprioception in the robot's own units; never the pose of an object"""
    instruction: str
    time: float
    """seconds on the robot's monotonic clock"""


@dataclass(frozen=True)
class Step:
    """What an environment answers to an action."""

    observation: Observation
    done: bool
    """the episode is over: success, failure or time limit"""
    success: bool


@dataclass(frozen=True)
class Video:
    """Any signal on a grid over time: pixels in [-1, 1], latents and features alike."""

    grid: Float[Tensor, "b c t h w"]
    fps: float
    """frames per second of THIS time axis; a codec that merges 4 frames divides it by 4"""

    def to(self, device: "torch.device | str", dtype: "torch.dtype | None" = None) -> "Video":
        return replace(self, grid=self.grid.to(device=device, dtype=dtype))


class Clip(Video):
    """Frames of one camera, as a frame history keeps them. Only `grid` makes torch pixels of them."""

    def __init__(self, frames: UInt8[np.ndarray, "t h w 3"], fps: float):
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "fps", fps)

    frames: UInt8[np.ndarray, "t h w 3"]

    @cached_property
    def grid(self) -> Float[Tensor, "1 3 t h w"]:
        import torch

        return torch.from_numpy(self.frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1

    def to(self, device: "torch.device | str", dtype: "torch.dtype | None" = None) -> Video:
        return Video(self.grid.to(device=device, dtype=dtype), self.fps)


class EncoderMemory:
    """How far the encoder of one stream has come in one episode. A frame history makes it, System 2 fills it."""

    def __init__(self) -> None:
        self.num_frames = 0
        """frames of the stream that were encoded"""
        self.encoder: Any = None
        """the video model's `LatentStream`, in the middle of the episode"""
        self.latents: Video | None = None
        """the newest ones, as many as a clip has"""


@dataclass(frozen=True)
class EpisodeFrames(Video):
    """The frames of one episode that its encoder has not seen yet (`encoding="stream"`); perhaps none."""

    memory: EncoderMemory
    first: int
    """number of the first frame, in the stream's own count from the start of the episode"""


Stage = Literal["pixels", "latents", "features", "seen"]
"""how far System 2's frozen part has come: pixels in [-1, 1]; the codec's output; hidden states of the video model;
these, filtered"""


@dataclass(frozen=True)
class Tokens:
    """A sequence of vectors with a mask; True marks a token that may be attended to."""

    data: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]

    @classmethod
    def all_visible(cls, data: Tensor) -> "Tokens":
        return cls(data, data.new_ones(data.shape[:2]).bool())

    @classmethod
    def empty(cls, batch: int, width: int, *, like: Tensor) -> "Tokens":
        """No token at all: what a policy without System 2, or without cameras, attends to."""
        return cls(like.new_zeros(batch, 0, width), like.new_zeros(batch, 0).bool())

    def to(self, device: "torch.device | str") -> "Tokens":
        return Tokens(self.data.to(device), self.mask.to(device))


def concatenate(*tokens: Tokens) -> Tokens:
    """Join sequences along the token axis."""
    import torch

    return Tokens(torch.cat([t.data for t in tokens], dim=1), torch.cat([t.mask for t in tokens], dim=1))


@dataclass(frozen=True)
class VideoCondition:
    """What System 2 last understood, stamped with when and in which episode it saw it."""

    tokens: Tokens
    observed_at: float
    """`Observation.time` of the newest frame there was, seconds; System 1's staleness counts from it"""
    episode: int
    version: int = 0
    """counts what a slow loop understood in an episode, from 1; negative: the policy refreshed it itself; 0: made by
    hand"""
    lag_s: float = 0.0
    """age, at `observed_at`, of the oldest of the streams' newest frames, seconds: a stream may look every few control
    steps only (`every`)"""


@dataclass(frozen=True)
class Conditions:
    """All that System 1 attends to while it denoises."""

    text: Tokens
    image: Tokens
    video: Tokens


@dataclass(frozen=True)
class ActionChunk:
    """A plan: `horizon` actions in raw units, the first one meant for the moment of `observed_at`."""

    actions: Float[np.ndarray, "horizon a"]
    observed_at: float
    period: float
    """seconds between two actions"""

    def action(self, now: float) -> Float[np.ndarray, "a"] | None:
        """What is due at the moment `now`; None before and past the plan."""
        rest = self.rest(now)
        return rest[0] if len(rest) else None

    def rest(self, now: float) -> Float[np.ndarray, "n a"]:
        """What is due from the moment `now` on; nothing where the plan does not cover it."""
        step = round((now - self.observed_at) / self.period)
        return self.actions[step:] if step >= 0 else self.actions[:0]


@dataclass(frozen=True)
class Plan:
    """A chunk, and the condition it was made on."""

    chunk: ActionChunk
    condition: VideoCondition | None
    """None for a policy that does not report it"""


@dataclass(frozen=True)
class Committed:
    """What the robot will do from the moment of an observation on, unless a new plan takes over: the rest of the
    running plan."""

    actions: Float[np.ndarray, "n a"]
    """raw units; the first one is meant for the moment of the observation"""
    num_frozen: int
    """number of them that are executed before the new plan can take over"""


@dataclass(frozen=True)
class Batch:
    """One training batch."""

    videos: dict[str, Video]
    """stream -> its clip, asked for at `staleness` seconds before the present, processed up to `stage`; empty without
    System 2"""
    images: dict[str, Float[Tensor, "b 3 _h _w"]]
    """camera -> the newest frame, in [-1, 1]"""
    state: Float[Tensor, "b s"]
    """raw units; the policy normalises"""
    instruction: list[str]
    actions: Float[Tensor, "b horizon a"]
    """raw units; the policy normalises"""
    action_is_pad: Bool[Tensor, "b horizon"]
    """True where the episode had already ended"""
    staleness: Float[Tensor, "b"]
    """age of the frame that the clip was asked for at, seconds; a stream's newest frame is up to `every` - 1 control
    steps older"""
    stage: Stage = "pixels"
    clip_instruction: tuple[str, ...] = ()
    """what System 2 reads with the clip, or has read; empty: same as `instruction`"""
    dimension_mask: Float[Tensor, "b s"] | None = None
    """in the unified vector: 1 at the dimensions that a sample's robot has, 0 elsewhere; None: it has all"""

    def to(self, device: "torch.device | str") -> "Batch":
        return replace(
            self,
            videos={name: video.to(device) for name, video in self.videos.items()},
            images={camera: image.to(device) for camera, image in self.images.items()},
            state=self.state.to(device),
            actions=self.actions.to(device),
            action_is_pad=self.action_is_pad.to(device),
            staleness=self.staleness.to(device),
            dimension_mask=None if self.dimension_mask is None else self.dimension_mask.to(device),
        )
