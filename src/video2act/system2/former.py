"""Video -> Tokens: a perceiver resampler (arXiv 2204.14198). Learned queries read a grid of features of any size.

The grid carries no positions of its own after the backbone, so a fixed embedding of frame, row and column is added to
what the queries read: "where" survives the compression. A former without layers would return its queries, constants
that never saw the video (as the released configuration does); the config refuses depth 0.

`Projection` compresses nothing. The formers of the released code's checkpoints are in `video2act_released`.
"""

from dataclasses import replace
from importlib import import_module

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import FormerConfig
from video2act.layers import Mlp, SelfAttention, grid_embedding, make_adaptor
from video2act.types import Tokens, Video


def make_former(config: FormerConfig, feature_dim: int, *, token_dim: int) -> nn.Module:
    """The former of a config: `Video` of features -> `Tokens`.

    Raises:
        ImportError: its kind is one of `video2act_released`, which is not installed.
    """
    if config.kind == "resampler":
        return Former(config, feature_dim, token_dim=token_dim)
    if config.kind == "projection":
        return Projection(config, feature_dim, token_dim=token_dim)
    try:
        released = import_module("video2act_released.formers")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"a former of the kind {config.kind!r} is in the distribution video2act_released ({error}): "
            "pip install -e video2act_released, in a checkout of video2act"
        ) from error
    return released.make_former(config, feature_dim, token_dim=token_dim)


class ResamplerAttention(nn.Module):
    """Multi-head cross-attention of a few queries to very many features, without keys and values of the features.

    `(W_q q) . (W_k x)` is `(W_k^T W_q q) . x`, and a weighted sum of values is the value of a weighted sum. So the
    queries are projected into the width of the features. Keys need no bias: softmax ignores it.
    """

    def __init__(self, width: int, num_heads: int, *, feature_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(feature_dim, width, bias=False)
        self.value = nn.Linear(feature_dim, width)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Float[Tensor, "b n d"], features: Float[Tensor, "b m f"]) -> Float[Tensor, "b n d"]:
        heads, width = self.num_heads, queries.shape[-1]
        key = rearrange(self.key.weight, "(heads d) f -> heads d f", heads=heads)
        value = rearrange(self.value.weight, "(heads d) f -> heads f d", heads=heads)
        query = rearrange(self.query(queries), "b n (heads d) -> b heads n d", heads=heads) * (width // heads) ** -0.5
        asked = rearrange(query @ key, "b heads n f -> b (heads n) f")
        read = (asked @ features.transpose(1, 2)).softmax(dim=-1) @ features
        mixed = rearrange(read, "b (heads n) f -> b heads n f", heads=heads) @ value
        return self.out(rearrange(mixed, "b heads n d -> b n (heads d)") + self.value.bias)


class FormerBlock(nn.Module):
    """Queries read the video, then each other; then an MLP."""

    def __init__(self, width: int, num_heads: int, *, feature_dim: int):
        super().__init__()
        self.norm_cross = nn.LayerNorm(width)
        self.cross = ResamplerAttention(width, num_heads, feature_dim=feature_dim)
        self.norm_self = nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = Mlp(width, 2 * width)

    def forward(self, queries: Float[Tensor, "b n d"], features: Float[Tensor, "b m f"]) -> Float[Tensor, "b n d"]:
        queries = queries + self.cross(self.norm_cross(queries), features)
        queries = queries + self.attention(self.norm_self(queries))
        return queries + self.mlp(self.norm_mlp(queries))


class Former(nn.Module):
    """The Spatial Former and the Motion Former of the paper are two of these."""

    def __init__(self, config: FormerConfig, feature_dim: int, *, token_dim: int):
        super().__init__()
        # without weights: the features need no gradient, which halves the backward pass
        self.norm_in = ClipNorm() if config.norm == "clip" else nn.LayerNorm(feature_dim, elementwise_affine=False)
        self.queries = nn.Parameter(0.02 * torch.randn(config.num_tokens, token_dim))
        self.blocks = nn.ModuleList(
            FormerBlock(token_dim, config.num_heads, feature_dim=feature_dim) for _ in range(config.depth)
        )
        self.norm_out = nn.LayerNorm(token_dim)

    def forward(self, video: Video) -> Tokens:
        """Features `[b feature_dim t h w]` -> tokens `[b num_tokens token_dim]`."""
        b, d, t, h, w = video.grid.shape
        flat = rearrange(video.grid, "b d t h w -> b (t h w) d")
        read = self.norm_in(flat) + grid_embedding(t, h, w, width=d, device=flat.device)
        queries = repeat(self.queries, "n d -> b n d", b=b)
        for block in self.blocks:
            queries = block(queries, read)
        return Tokens.all_visible(self.norm_out(queries))


class ClipNorm(nn.Module):
    """Features `[b m f]` over their root mean square, one a clip: what is weak stays weak beside what is strong."""

    def forward(self, features: Float[Tensor, "b m f"]) -> Float[Tensor, "b m f"]:
        return features * features.square().mean(dim=(1, 2), keepdim=True).add(1e-5).rsqrt()


class LayerMixture(nn.Module):
    """Features of several layers `[b layers*d t h w]` -> their weighted sum `[b d t h w]` (arXiv 1802.05365).

    The weights add up to one and start equal; a learned factor scales the sum.
    """

    def __init__(self, num_layers: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_layers))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, video: Video) -> Video:
        layers = rearrange(video.grid, "b (layers d) t h w -> layers b d t h w", layers=len(self.weight))
        return replace(
            video, grid=self.scale * torch.einsum("l, l b d t h w -> b d t h w", self.weight.softmax(0), layers)
        )


class Projection(nn.Module):
    """Features `[b feature_dim t h w]` -> `t * h * w` tokens, in raster order, frame after frame."""

    def __init__(self, config: FormerConfig, feature_dim: int, *, token_dim: int):
        super().__init__()
        self.norm_in = nn.LayerNorm(feature_dim)
        self.adaptor = make_adaptor(config.adaptor, feature_dim, width_out=token_dim)

    def forward(self, video: Video) -> Tokens:
        flat = rearrange(video.grid, "b d t h w -> b (t h w) d")
        return Tokens.all_visible(self.adaptor(self.norm_in(flat)))
