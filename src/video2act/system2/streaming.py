"""Causal video encoding that goes on where it stopped, instead of starting over with every clip.

An encoder that never looks ahead gives a long video the same latents whether it is shown all of it at once or piece by
piece, if it is allowed to remember. A clip is then the newest latents of the episode: four frames are encoded where a
window of 61 was. These latents are not those of a window: the encoder remembers what lies before it (arXiv 2503.20314
describes the memory; how far the two differ is measured in `tests/system2/test_streaming.py`). So a policy is trained
on one of them, and says which.
"""

from typing import Protocol, runtime_checkable

import torch

from video2act.interfaces import VideoBackbone
from video2act.types import EncoderMemory, EpisodeFrames, Video


@runtime_checkable
class LatentStream(Protocol):
    """An encoder in the middle of an episode."""

    def push(self, pixels: Video) -> Video:
        """The next frames -> their latents: first 1 frame and a multiple of the group, then multiples of the group.

        If it raises, the encoder stays where it was.
        """
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
    """The newest latents of an episode; before its beginning, the first one is repeated.

    Args:
        pixels: `EpisodeFrames`, of which only those that the memory lacks are encoded; any other video is a whole
            episode. If the encoding fails, the memory stays as it was.
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
