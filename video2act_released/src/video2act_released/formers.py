"""Formers of the released code, which its checkpoints hold. `video2act` finds them here by `FormerConfig.kind`.

* `frame_resampler`: a perceiver whose queries are divided among the frames. The queries of a frame read that frame
  alone, and, if it is temporal, the same query of the other frames.
* `constant`: what that code computes where its former has no layers: tokens that do not depend on the video.

Both end with an adaptor to the width of System 1.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import FormerConfig
from video2act.layers import attention, make_adaptor
from video2act.types import Tokens, Video


def make_former(config: FormerConfig, feature_dim: int, *, token_dim: int) -> nn.Module:
    """The former of a config: `Video` of features -> `Tokens`."""
    if config.kind == "constant":
        return ConstantTokens(config, token_dim)
    return FrameFormer(config, feature_dim, token_dim=token_dim)


class ConstantTokens(nn.Module):
    """Learned tokens; the video is ignored. Such a checkpoint can be loaded; training another one makes no sense."""

    def __init__(self, config: FormerConfig, token_dim: int):
        super().__init__()
        width = config.width or token_dim
        self.queries = nn.Parameter(0.02 * torch.randn(config.num_tokens, width))
        self.norm_out = nn.LayerNorm(width)
        self.adaptor = make_adaptor(config.adaptor, width, width_out=token_dim)

    def forward(self, video: Video) -> Tokens:
        tokens = self.adaptor(self.norm_out(self.queries))
        return Tokens.all_visible(repeat(tokens, "n d -> b n d", b=len(video.grid)))


class FrameAttention(nn.Module):
    """Queries of a frame read its features and each other; no biases."""

    def __init__(self, width: int, num_heads: int, *, head_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm_features = nn.LayerNorm(width)
        self.norm_queries = nn.LayerNorm(width)
        self.query = nn.Linear(width, num_heads * head_dim, bias=False)
        self.key = nn.Linear(width, num_heads * head_dim, bias=False)
        self.value = nn.Linear(width, num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, width, bias=False)

    def forward(self, queries: Float[Tensor, "bt n d"], features: Float[Tensor, "bt m d"]) -> Float[Tensor, "bt n d"]:
        queries = self.norm_queries(queries)
        read = torch.cat([self.norm_features(features), queries], dim=1)
        query, key, value = (
            rearrange(layer(x), "b n (heads d) -> b heads n d", heads=self.num_heads)
            for layer, x in ((self.query, queries), (self.key, read), (self.value, read))
        )
        return self.out(rearrange(attention(query, key, value=value), "b heads n d -> b n (heads d)"))


class TimeAttention(nn.Module):
    """A query reads its namesakes of the other frames."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "bn t d"]) -> Float[Tensor, "bn t d"]:
        query, key, value = rearrange(
            self.qkv(x), "b t (three heads d) -> three b heads t d", three=3, heads=self.num_heads
        )
        return self.out(rearrange(attention(query, key, value=value), "b heads t d -> b t (heads d)"))


class FrameFormerBlock(nn.Module):
    """Read the frame, then (temporal) the other frames' queries, then an MLP."""

    def __init__(self, width: int, config: FormerConfig):
        super().__init__()
        self.cross = FrameAttention(width, config.num_heads, head_dim=config.head_dim)
        self.time = TimeAttention(width, config.num_heads) if config.is_temporal else None
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, queries: Float[Tensor, "b t n d"], features: Float[Tensor, "b t m d"]
    ) -> Float[Tensor, "b t n d"]:
        b = len(queries)
        queries = queries + rearrange(
            self.cross(queries.flatten(0, 1), features.flatten(0, 1)), "(b t) n d -> b t n d", b=b
        )
        if self.time is not None:
            mixed = self.time(rearrange(queries, "b t n d -> (b n) t d"))
            queries = queries + rearrange(mixed, "(b n) t d -> b t n d", b=b)
        return queries + self.mlp(queries)


class FrameFormer(nn.Module):
    """Features `[b feature_dim t h w]` -> `num_tokens` tokens, `num_tokens / num_frames` of each frame in turn."""

    def __init__(self, config: FormerConfig, feature_dim: int, *, token_dim: int):
        super().__init__()
        width = config.width or token_dim
        self.num_frames = config.num_frames
        self.norm_in = nn.LayerNorm(feature_dim)
        self.features_in = nn.Sequential(nn.Linear(feature_dim, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.frame_position = nn.Parameter(0.02 * torch.randn(config.num_frames, 1, width))
        self.queries = nn.Parameter(
            0.02 * torch.randn(config.num_frames, config.num_tokens // config.num_frames, width)
        )
        self.blocks = nn.ModuleList(FrameFormerBlock(width, config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width)
        self.adaptor = make_adaptor(config.adaptor, width, width_out=token_dim)

    def forward(self, video: Video) -> Tokens:
        """Raises ValueError where the features cannot be shared out among the frames."""
        b, _, t, h, w = video.grid.shape
        if t * h * w % self.num_frames:
            raise ValueError(f"{t} x {h} x {w} features cannot be shared out among num_frames={self.num_frames}")
        flat = rearrange(video.grid, "b d t h w -> b (t h w) d")
        features = rearrange(self.features_in(self.norm_in(flat)), "b (t m) d -> b t m d", t=self.num_frames)
        features = features + self.frame_position
        queries = repeat(self.queries, "t n d -> b t n d", b=b)
        for block in self.blocks:
            queries = block(queries, features)
        return Tokens.all_visible(self.adaptor(self.norm_out(queries.flatten(1, 2))))
