"""The features of a plain grey clip of a stream's size.

A video transformer reacts to positions and a video VAE to the picture's border, whatever the clip shows, and filters
take that for boundaries and motion. Subtracting it leaves what the clip adds.
"""

from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from video2act.config import StreamConfig
from video2act.config.system2 import chosen_rate
from video2act.precision import autocast_now
from video2act.system2.imagination import features_of
from video2act.system2.latents import show
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

MAX_BYTES = 256 * 2**20
"""of kept features; the least recently used are dropped"""


class GreyReference:
    """A backbone's features of grey clips, kept per stream, instruction and precision while its weights stay."""

    def __init__(self, backbone: VideoBackbone):
        self._backbone = backbone
        self._weights: tuple[int, ...] = ()
        self._kept: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    @torch.no_grad()
    def features(
        self, stream: StreamConfig, instruction: list[str], *, fps: float, keep: bool
    ) -> Float[Tensor, "b d t h w"]:
        """Features of a grey clip of this stream, for each instruction.

        Args:
            fps: of the features.
            keep: cache them. While weights are trained they are computed at each call: processes that share weights
                must run the backbone equally often.
        """
        first = next(self._backbone.parameters())
        weights = (first.data_ptr(), *(parameter._version for parameter in self._backbone.parameters()))
        if weights != self._weights or not keep:
            self._kept.clear()
            self._weights = weights
        keys = {text: (stream, text, fps, *autocast_now()) for text in instruction}
        found = {text: self._kept[key] for text, key in keys.items() if key in self._kept}
        missing = [text for text in dict.fromkeys(instruction) if text not in found]
        if missing:
            latents = self._latents(stream, fps, len(missing), first.device)
            grids = features_of(stream.imagine, latents, instruction=missing, backbone=self._backbone).grid
            found |= dict(zip(missing, grids, strict=True))
        if keep:
            for text, grid in found.items():
                self._kept[keys[text]] = grid
                self._kept.move_to_end(keys[text])
            while len(self._kept) > 1 and sum(grid.nbytes for grid in self._kept.values()) > MAX_BYTES:
                self._kept.popitem(last=False)
        return torch.stack([found[text] for text in instruction])

    def _latents(self, stream: StreamConfig, fps: float, b: int, device: torch.device) -> Video:
        chosen = stream.latent_frames
        pixel_fps = fps * self._backbone.config.frames_per_feature / chosen_rate(1.0, chosen)
        pixels = torch.zeros(1, 3, stream.num_frames, *stream.frame_px, device=device)
        latents = show(self._backbone.encode(Video(pixels, pixel_fps)), chosen, size=stream.latent_size)
        return Video(latents.grid.expand(b, -1, -1, -1, -1), latents.fps)
