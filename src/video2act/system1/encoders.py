"""Image -> Tokens: a small convolutional encoder, trained with the policy.

Each camera becomes a coarse map of tokens (what is roughly where), plus one token of key points: where, to a fraction
of a cell, each of `NUM_POINTS` learned heat maps is warm (spatial softmax, arXiv 1504.00702). Manipulation is decided
by the latter.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from video2act.types import Tokens

MAP_SIZE = 4
NUM_POINTS = 32


class ConvBlock(nn.Sequential):
    """Convolution, norm, activation."""

    def __init__(self, before: int, after: int, *, stride: int):
        super().__init__(nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.SiLU())


class ImageEncoder(nn.Module):
    """One camera's images `[b 3 h w]` in [-1, 1] -> `MAP_SIZE ** 2 + 1` tokens."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        # a quarter of the image's size: key points need a fine grid, the map does not
        self.fine = nn.Sequential(
            ConvBlock(3, channels, stride=2),
            ConvBlock(channels, 2 * channels, stride=2),
            ConvBlock(2 * channels, 2 * channels, stride=1),
        )
        self.coarse = ConvBlock(2 * channels, 4 * channels, stride=2)
        self.heat = nn.Conv2d(2 * channels, NUM_POINTS, 1)
        # a softmax over a few hundred cells is nearly flat at first; a sharper one finds small things sooner
        self.sharpness = nn.Parameter(torch.full((1,), 6.0))  # FSDP divides no number without an axis
        self.pool = nn.AdaptiveAvgPool2d(MAP_SIZE)
        self.map_out = nn.Linear(4 * channels, width)
        self.point_out = nn.Linear(2 * NUM_POINTS, width)
        self.position = nn.Parameter(0.02 * torch.randn(MAP_SIZE**2 + 1, width))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Tokens:
        fine = self.fine(image)
        pooled = self.pool(self.coarse(fine))
        map_tokens = self.map_out(rearrange(pooled, "b c h w -> b (h w) c"))
        point_token = self.point_out(key_points(self.sharpness * self.heat(fine)))[:, None]
        return Tokens.all_visible(torch.cat([map_tokens, point_token], dim=1) + self.position)


def key_points(heat: Float[Tensor, "b c h w"]) -> Float[Tensor, "b two_c"]:
    """The expected row and column of each map under a softmax over its cells, in [-1, 1]."""
    h, w = heat.shape[2:]
    weight = heat.flatten(2).float().softmax(dim=2).view_as(heat)
    rows = torch.linspace(-1, 1, h, device=heat.device)
    columns = torch.linspace(-1, 1, w, device=heat.device)
    row = (weight.sum(dim=3) * rows).sum(dim=2)
    column = (weight.sum(dim=2) * columns).sum(dim=2)
    return torch.cat([row, column], dim=1)
