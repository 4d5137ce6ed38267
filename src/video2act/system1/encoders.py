"""Image -> Tokens: a small convolutional encoder, trained with the policy.

Each camera becomes a 4 x 4 map of tokens, plus one token of key points: the expected position of every channel's activation
(spatial softmax, arXiv 1504.00702), which tells where a small thing is more finely than a pooled map can.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from video2act.types import Tokens

MAP_SIZE = 4


class ImageEncoder(nn.Module):
    """One camera's images `[b 3 h w]` in [-1, 1] -> `MAP_SIZE ** 2 + 1` tokens."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        sizes = (3, channels, 2 * channels, 4 * channels)
        self.convolutions = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU())
                for before, after in zip(sizes[:-1], sizes[1:], strict=True)
            )
        )
        self.map_out = nn.Linear(sizes[-1], width)
        self.point_out = nn.Linear(2 * sizes[-1], width)
        self.position = nn.Parameter(0.02 * torch.randn(MAP_SIZE**2 + 1, width))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Tokens:
        features = self.convolutions(image)
        pooled = nn.functional.adaptive_avg_pool2d(features, MAP_SIZE)
        map_tokens = self.map_out(rearrange(pooled, "b c h w -> b (h w) c"))
        point_token = self.point_out(key_points(features))[:, None]
        return Tokens.all_visible(torch.cat([map_tokens, point_token], dim=1) + self.position)


def key_points(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b two_c"]:
    """The expected row and column of each channel under a softmax over its map, in [-1, 1]."""
    h, w = features.shape[2:]
    weight = features.flatten(2).float().softmax(dim=2).view_as(features)
    rows = torch.linspace(-1, 1, h, device=features.device)
    columns = torch.linspace(-1, 1, w, device=features.device)
    row = (weight.sum(dim=3) * rows).sum(dim=2)
    column = (weight.sum(dim=2) * columns).sum(dim=2)
    return torch.cat([row, column], dim=1)
