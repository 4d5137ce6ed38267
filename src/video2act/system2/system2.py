"""The slow system: clips -> tokens.

Per stream, in the paper's order: encode -> transformer blocks -> filter -> former; then the streams' tokens are joined. Which
side of the transformer blocks the filter stands on is one word of the config (`filter_on`).

The way is split where gradients start. `see` is everything without a trained parameter: the frozen video diffusion model and the
filters; what it returns can be cached and looked at. `compress` is what training learns. `perceive` is both. A video model that
is tuned together with the policy (`learn`) moves the start of gradients to its latents, and then nothing can be cached.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from video2act.config import FormerConfig, System2Config
from video2act.interfaces import VideoBackbone
from video2act.precision import fast_precision
from video2act.system2.filters import make_filter
from video2act.system2.former import Former
from video2act.system2.released_formers import ConstantTokens, FrameFormer, Projection
from video2act.types import Tokens, Video, concatenate


class System2(nn.Module):
    """Streams through one frozen backbone."""

    def __init__(self, config: System2Config, backbone: VideoBackbone):
        super().__init__()
        self.config = config
        assert isinstance(backbone, nn.Module)
        self.backbone: Any = backbone.requires_grad_(False).eval()
        self.is_learning = False
        self.filters = {stream.name: make_filter(stream.filter) for stream in config.streams}
        self.formers = nn.ModuleDict(
            {stream.name: make_former(stream.former, backbone.feature_dim, config.token_dim) for stream in config.streams}
        )
        # which stream a token comes from
        self.stream_embedding = nn.Parameter(0.02 * torch.randn(len(config.streams), config.token_dim))

    def train(self, mode: bool = True) -> "System2":
        """The backbone stays as it is: frozen, in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def learn(self) -> None:
        """Let the video model learn with the rest, as the config's `tuning` says. Raises ImportError where peft is needed."""
        self.is_learning = self.config.tuning.method != "frozen"
        if self.is_learning:
            self.backbone.learn(self.config.tuning)

    def see(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        """Stream -> filtered features, boundaries and motion. No randomness, and unless the video model learns no gradient.

        Raises:
            ValueError: a stream of the config has no clip, or one of another shape.
        """
        seen = {}
        for stream in self.config.streams:
            keep = self.filters[stream.name]
            pixels = self._clip(clips, stream.name)
            if stream.channel_order == "bgr":
                pixels = replace(pixels, grid=pixels.grid.flip(1))
            with fast_precision(pixels.grid.device), torch.set_grad_enabled(self.is_learning and torch.is_grad_enabled()):
                with torch.no_grad():
                    latents = self.backbone.encode(pixels)
                if self.config.filter_on == "latents":
                    grid = self.backbone.features(keep(latents), instruction)
                else:
                    grid = keep(self.backbone.features(latents, instruction))
            seen[stream.name] = replace(grid, grid=grid.grid.float())
        return seen

    def compress(self, seen: dict[str, Video]) -> Tokens:
        """Trained: what was seen -> tokens, the streams one after another."""
        joined = []
        for number, stream in enumerate(self.config.streams):
            tokens = self.formers[stream.name](seen[stream.name])
            joined.append(Tokens(tokens.data + self.stream_embedding[number], tokens.mask))
        return concatenate(*joined)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Slow: clips -> tokens `[b n token_dim]`."""
        return self.compress(self.see(clips, instruction))

    def _clip(self, clips: dict[str, Video], name: str) -> Video:
        stream = next(stream for stream in self.config.streams if stream.name == name)
        if name not in clips:
            raise ValueError(f"stream {name!r} has no clip; got {', '.join(clips) or 'none'}")
        expected = (3, stream.num_frames, *stream.frame_px)
        if tuple(clips[name].grid.shape[1:]) != expected:
            raise ValueError(
                f"stream {name!r} takes clips of [channels, frames, height, width] = {list(expected)}, "
                f"got {list(clips[name].grid.shape[1:])}"
            )
        return clips[name]


def make_former(config: FormerConfig, feature_dim: int, token_dim: int) -> nn.Module:
    """The former a config names: `Video` of features -> `Tokens`."""
    if config.kind == "projection":
        return Projection(config, feature_dim, token_dim)
    if config.kind == "frame_resampler":
        return FrameFormer(config, feature_dim, token_dim)
    if config.kind == "constant":
        return ConstantTokens(config, token_dim)
    return Former(config, feature_dim, token_dim)
