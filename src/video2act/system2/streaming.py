"""Causal video encoding that continues where it stopped, instead of encoding every clip anew.

A causal encoder gives a long video the same latents whether it gets all of it at once or in pieces, if it keeps its
memory (arXiv 2503.20314). A clip is then the newest latents of the episode: four frames are encoded where a window has
61. These latents differ from a window's, because the memory reaches back before it (`tests/system2/test_streaming.py`
measures by how much). So a policy is trained on one of the two, and its config says which.
"""

from typing import Protocol, runtime_checkable

import torch

from video2act.types import EncoderMemory, EpisodeFrames, Video
from video2act.video_backbone import VideoBackbone


@runtime_checkable
class LatentStream(Protocol):
    """An encoder in the middle of an episode."""

    def push(self, pixels: Video) -> Video:
        """The next frames -> their latents: first 1 + a multiple of the group, then multiples."""
        ...


@runtime_checkable
class StreamingBackbone(Protocol):
    """A video model whose encoder can go on."""

    def stream(self) -> LatentStream:
        """At the beginning of an episode."""
        ...


def open_stream(backbone: VideoBackbone) -> LatentStream:
    """Raises ValueError for a video model whose encoder sees later frames or cannot be continued."""
    if not isinstance(backbone, StreamingBackbone):
        raise ValueError(
            f"the encoder of {type(backbone).__name__} cannot go on where it stopped; use encoding='window'"
        )
    return backbone.stream()


def newest_latents(backbone: VideoBackbone, pixels: Video, *, num_latents: int) -> Video:
    """The newest latents of an episode; before its beginning, the first one is repeated. An error changes no memory.

    Args:
        pixels: a whole episode; or `EpisodeFrames`, of which only those that the memory lacks are encoded.
    Raises:
        RuntimeError: frames between the memory and the clip are missing.
    """
    if isinstance(pixels, EpisodeFrames):
        memory, first = pixels.memory, pixels.first
    else:
        memory, first = EncoderMemory(), 0
    if memory.num_frames < first:
        raise RuntimeError(
            f"the encoder has seen {memory.num_frames} frames of the episode and the clip begins with frame {first}: "
            "frames are missing; begin a new episode (reset)"
        )
    new = pixels.grid[:, :, memory.num_frames - first :]
    if new.shape[2]:
        encoder = memory.encoder or open_stream(backbone)
        found = encoder.push(Video(new, pixels.fps))
        past = [] if memory.latents is None else [memory.latents.grid]
        memory.latents = Video(torch.cat([*past, found.grid], dim=2)[:, :, -num_latents:], found.fps)
        memory.encoder = encoder
        memory.num_frames += new.shape[2]
    if memory.latents is None:
        raise ValueError("a clip needs at least one frame of the episode, got none")
    return Video(last_latents(memory.latents.grid, num_latents), memory.latents.fps)


def last_latents(latents: torch.Tensor, count: int) -> torch.Tensor:
    """The newest `count` of `[b c t h w]`; where there are fewer, the first stands in for what was before."""
    missing = count - latents.shape[2]
    if missing > 0:
        return torch.cat([latents[:, :, :1].expand(-1, -1, missing, -1, -1), latents], dim=2)
    return latents[:, :, -count:]
