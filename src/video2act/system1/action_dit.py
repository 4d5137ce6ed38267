"""The denoiser: a diffusion transformer over an action chunk (RDT-1B's block, arXiv 2410.07864).

The sequence is a prefix of three tokens (diffusion timestep, age of the video condition, state) and the noisy actions. Each
block: self-attention, cross-attention, MLP, all pre-normed. Blocks take turns: even ones read the text, odd ones image and
video, so that many image tokens cannot drown a short sentence.

Conditions do not change while a chunk is denoised. `project` turns them into each block's keys and values once; `forward`, called
at every denoising step, only asks.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from video2act.layers import CrossAttention, KeyValue, Mlp, RmsNorm, SelfAttention, sinusoidal_embedding
from video2act.types import Conditions, Tokens, concatenate

NUM_PREFIX = 3


class Block(nn.Module):
    """Self-attention, cross-attention to one of the conditions, MLP."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm_self = RmsNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.norm_cross = RmsNorm(width)
        self.cross = CrossAttention(width, num_heads)
        self.norm_mlp = RmsNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Float[Tensor, "b n d"], condition: KeyValue) -> Float[Tensor, "b n d"]:
        x = x + self.attention(self.norm_self(x))
        x = x + self.cross(self.norm_cross(x), condition)
        return x + self.mlp(self.norm_mlp(x))


@dataclass(frozen=True)
class ProjectedConditions:
    """Keys and values of the conditions, one entry per block, and the tokens of the prefix that stay the same."""

    key_values: tuple[KeyValue, ...]
    state: Float[Tensor, "b 1 d"]
    staleness: Float[Tensor, "b 1 d"]


class ActionDiT(nn.Module):
    """Noisy actions `[b*r horizon a]` and the conditions of `b` samples -> the prediction, of the same shape."""

    def __init__(self, action_dim: int, state_dim: int, horizon: int, width: int, depth: int, num_heads: int):
        super().__init__()
        self.width = width
        self.action_in = nn.Linear(action_dim, width)
        # a hidden state is told apart from a state of zeros by its last entry
        self.state_in = Mlp(state_dim + 1, width, width)
        self.timestep_in = Mlp(width)
        self.staleness_in = Mlp(width)
        self.position = nn.Parameter(0.02 * torch.randn(NUM_PREFIX + horizon, width))
        self.image_type = nn.Parameter(0.02 * torch.randn(width))
        self.video_type = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.norm_out = RmsNorm(width)
        self.action_out = Mlp(width, width, action_dim)

    def project(
        self, conditions: Conditions, state: Float[Tensor, "b s"], has_state: Float[Tensor, "b 1"], staleness: Float[Tensor, "b"]
    ) -> ProjectedConditions:
        """What does not depend on the noisy actions, computed once per chunk. `staleness` in seconds."""
        seen = concatenate(
            Tokens(conditions.image.data + self.image_type, conditions.image.mask),
            Tokens(conditions.video.data + self.video_type, conditions.video.mask),
        )
        read = (conditions.text, seen)
        crosses: list[CrossAttention] = [block.cross for block in self.blocks]  # type: ignore[misc]
        return ProjectedConditions(
            key_values=tuple(cross.project(read[i % 2].data, read[i % 2].mask) for i, cross in enumerate(crosses)),
            state=self.state_in(torch.cat([state * has_state, has_state], dim=1))[:, None],
            # milliseconds: the sinusoid's finest period is then 6 ms
            staleness=self.staleness_in(sinusoidal_embedding(1000 * staleness, self.width))[:, None],
        )

    def forward(
        self, noisy: Float[Tensor, "br horizon a"], timestep: Float[Tensor, "br"], conditions: ProjectedConditions
    ) -> Float[Tensor, "br horizon a"]:
        """Consecutive items of `noisy` share a condition if there are more of them. `timestep` in [0, 1000]."""
        repeats = len(noisy) // len(conditions.state)
        prefix = [
            self.timestep_in(sinusoidal_embedding(timestep, self.width))[:, None],
            conditions.staleness.repeat_interleave(repeats, dim=0),
            conditions.state.repeat_interleave(repeats, dim=0),
        ]
        x = torch.cat([*prefix, self.action_in(noisy)], dim=1) + self.position
        for block, key_value in zip(self.blocks, conditions.key_values, strict=True):
            x = block(x, key_value)
        return self.action_out(self.norm_out(x[:, NUM_PREFIX:]))
