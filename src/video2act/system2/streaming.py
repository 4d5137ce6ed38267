"""Causal video encoding that goes on where it stopped, instead of starting over with every clip.

An encoder that never looks ahead gives a long video the same latents whether it is shown all of it at once or piece by piece, if
it is allowed to remember. A clip is then the newest latents of the episode: four frames are encoded where a window of 61 was.
These latents are not those of a window: the encoder remembers what lies before it (arXiv 2503.20314 describes the memory; how
far the two differ is measured in `tests/system2/test_streaming.py`). So a policy is trained on one of them, and says which.
"""

from typing import Protocol, runtime_checkable

import torch

from video2act.interfaces import VideoBackbone
from video2act.types import Video


@runtime_checkable
class LatentStream(Protocol):
    """An encoder in the middle of an episode."""

    def push(self, pixels: Video) -> Video:
        """The next frames -> their latents: first 1 frame and a multiple of the group, then multiples of the group."""
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


class LatentHistory:
    """The latents of an episode that grows: frames that were encoded are not encoded again.

    A clip that does not continue the last one (another episode, or a look back) starts over, so that the result is a function of
    the clip alone.
    """

    def __init__(self, backbone: VideoBackbone):
        self._backbone = backbone
        self._shown: torch.Tensor | None = None
        """the frames that were encoded, as bytes: what continues them is recognised by them"""
        self._latents: list[torch.Tensor] = []
        self._stream: LatentStream | None = None
        self._fps = 0.0

    def newest(self, pixels: Video, num_latents: int) -> Video:
        """The last latents of an episode that begins with the clip's first frame; before it began, the first one is repeated."""
        t = pixels.grid.shape[2]
        frames = ((pixels.grid + 1) * 127.5).round().to(torch.uint8)
        known = 0 if self._shown is None else self._shown.shape[2]
        continues = (
            self._shown is not None
            and known <= t
            and self._shown.shape[:2] == frames.shape[:2]
            and self._shown.shape[3:] == frames.shape[3:]
            and torch.equal(frames[:, :, :known], self._shown)
        )
        if not continues:
            self._stream, self._latents, known = open_stream(self._backbone), [], 0
        assert self._stream is not None
        if known < t:
            new = self._stream.push(Video(pixels.grid[:, :, known:], pixels.fps))
            self._latents.append(new.grid)
            self._fps = new.fps
        self._shown = frames
        return Video(last_latents(torch.cat(self._latents, dim=2), num_latents), self._fps)


def last_latents(latents: torch.Tensor, count: int) -> torch.Tensor:
    """The newest `count` of `[b c t h w]`; where there are fewer, the first stands in for what was before."""
    missing = count - latents.shape[2]
    if missing > 0:
        return torch.cat([latents[:, :, :1].expand(-1, -1, missing, -1, -1), latents], dim=2)
    return latents[:, :, -count:]
