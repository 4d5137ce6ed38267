"""The denoiser: a diffusion transformer over an action chunk (RDT-1B's block, arXiv 2410.07864).

The sequence is a prefix of three tokens (diffusion timestep, a clock, state) and the noisy actions. Each block has
self-attention, cross-attention and an MLP, all pre-normed. Even blocks attend to the text, odd ones to image and video,
so that many image tokens cannot outweigh a short sentence. The mean of the text's tokens is also added to the state
token, so that the task is known from the first block on.

`project` computes each block's keys and values once per chunk; `forward` runs at every denoising step.

`DitConfig` has the differences of RDT-1B. Its clock is the control rate; ours is the age of the video condition. In its
form the age is added to the video tokens, by a zero-initialised layer, so pretrained behaviour is unchanged.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from video2act.config import DitConfig, NormForm
from video2act.layers import CrossAttention, KeyValue, Mlp, RmsNorm, SelfAttention, make_adaptor, sinusoidal_embedding
from video2act.types import Conditions, Tokens, concatenate

NUM_PREFIX = 3
OUR_FORM = DitConfig()


class Block(nn.Module):
    """Self-attention, cross-attention to one of the conditions, MLP."""

    def __init__(self, width: int, num_heads: int, *, norm: NormForm):
        super().__init__()
        self.norm_self = RmsNorm(width, norm)
        self.attention = SelfAttention(width, num_heads, norm=norm)
        self.norm_cross = RmsNorm(width, norm)
        self.cross = CrossAttention(width, num_heads, norm=norm)
        self.norm_mlp = RmsNorm(width, norm)
        self.mlp = Mlp(width)

    def forward(self, x: Float[Tensor, "b n d"], condition: KeyValue) -> Float[Tensor, "b n d"]:
        x = x + self.attention(self.norm_self(x))
        x = x + self.cross(self.norm_cross(x), condition)
        return x + self.mlp(self.norm_mlp(x))


@dataclass(frozen=True)
class ProjectedText:
    """All that the transformer reads of an instruction. It depends on nothing else, so one serves many chunks."""

    key_values: tuple[KeyValue, ...]
    """of the even blocks"""
    pooled: Float[Tensor, "b d"] | None
    """what is added to the state token"""


@dataclass(frozen=True)
class ProjectedConditions:
    """Keys and values of the conditions, one entry per block, and the tokens of the prefix that stay the same."""

    key_values: tuple[KeyValue, ...]
    clock: Float[Tensor, "b 1 d"]
    state: Float[Tensor, "b 1 d"]
    has_action: Float[Tensor, "b 1 a"] | None
    """which entries of an action mean something; None where all do"""


class ActionDiT(nn.Module):
    """Noisy actions `[b*r horizon a]` and the conditions of `b` samples -> the prediction, of the same shape.

    Args:
        form: norm, clock, adaptors, positions of conditions.
        num_images: images of a sample, for their learned positions.
        is_unified: a robot uses some entries of state and actions; a mask beside them says which.
        marks_committed: some actions may come clean, and a learned mark says which (training-time real-time chunking).
    """

    def __init__(
        self,
        *,
        state_dim: int,
        action_dim: int,
        horizon: int,
        width: int,
        depth: int,
        num_heads: int,
        form: DitConfig = OUR_FORM,
        num_images: int = 0,
        is_unified: bool = False,
        marks_committed: bool = False,
    ):
        super().__init__()
        self.width = width
        self.form = form
        self.is_unified = is_unified
        self.sinusoids = form.sinusoids or width
        # the entries beside the state say whether it is hidden, or zero
        action_width, state_width = (2 * action_dim, 2 * state_dim) if is_unified else (action_dim, state_dim + 1)
        self.action_in = make_adaptor(form.action_adaptor, action_width, width_out=width)
        self.state_in = make_adaptor(form.state_adaptor, state_width, width_out=width)
        self.timestep_in = Mlp(self.sinusoids, width, out=width, activation=form.sinusoid_activation)
        self.staleness_in = Mlp(self.sinusoids, width, out=width, activation=form.sinusoid_activation)
        self.position = nn.Parameter(0.02 * torch.randn(NUM_PREFIX + horizon, width))
        self.image_type = nn.Parameter(0.02 * torch.randn(width))
        self.video_type = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, num_heads, norm=form.norm) for _ in range(depth))
        self.norm_out = RmsNorm(width, form.norm)
        self.action_out = Mlp(width, width, out=action_dim)
        if form.clock == "frequency":
            self.frequency_in = Mlp(self.sinusoids, width, out=width, activation=form.sinusoid_activation)
            nn.init.zeros_(self.staleness_in.down.weight)
            nn.init.zeros_(self.staleness_in.down.bias)
        if form.pools_text:
            self.norm_pooled = RmsNorm(width, form.norm)
            self.pooled_text_in = nn.Linear(width, width)
        # zero-initialised, so the behaviour of weights trained without it is unchanged
        self.committed_mark = nn.Parameter(torch.zeros(width)) if marks_committed else None
        if form.num_text_positions:
            self.text_position = nn.Parameter(0.02 * torch.randn(form.num_text_positions, width))
        if form.positions_per_image:
            self.image_position = nn.Parameter(0.02 * torch.randn(num_images * form.positions_per_image, width))

    def project(
        self,
        conditions: Conditions,
        state: Float[Tensor, "b s"],
        *,
        has_state: Float[Tensor, "b s_or_1"],
        staleness: Float[Tensor, "b"],
        fps: Float[Tensor, "b"] | None = None,
        has_action: Float[Tensor, "b a"] | None = None,
        text: ProjectedText | None = None,
    ) -> ProjectedConditions:
        """What does not depend on the noisy actions, computed once per chunk.

        Args:
            has_state: 1 where the state is known; for a unified vector, entry by entry.
            staleness: age of the video condition, seconds.
            fps: control steps per second; needed if it is the clock.
            has_action: which entries of an action the robot has; needed for a unified vector.
            text: of `project_text`, from an earlier chunk; that of the conditions, if None.
        Raises:
            ValueError: a condition has more tokens than there are learned positions; fps or has_action is missing.
        """
        text = text or self.project_text(conditions.text)
        # milliseconds: the sinusoid's finest period is then 6 ms
        age = self.staleness_in(sinusoidal_embedding(1000 * staleness, self.sinusoids))[:, None]
        image, video = conditions.image.data + self.image_type, conditions.video.data + self.video_type
        # a blind policy has none
        if self.form.positions_per_image and image.shape[1]:
            image = image + _positions(self.image_position, image.shape[1], name="image", field="positions_per_image")
        if self.form.clock == "frequency":
            if fps is None:
                raise ValueError("this transformer's clock is the control rate; pass fps")
            clock = self.frequency_in(sinusoidal_embedding(fps, self.sinusoids))[:, None]
            video = video + age
        else:
            clock = age
        seen = concatenate(Tokens(image, conditions.image.mask), Tokens(video, conditions.video.mask))
        known = self.state_in(torch.cat([state * has_state, has_state], dim=1))
        if text.pooled is not None:
            known = known + text.pooled
        of_seen = self._key_values(seen, first=1)
        return ProjectedConditions(
            key_values=tuple((text.key_values, of_seen)[i % 2][i // 2] for i in range(len(self.blocks))),
            clock=clock,
            state=known[:, None],
            has_action=self._entries(has_action),
        )

    def project_text(self, text: Tokens) -> ProjectedText:
        """Raises ValueError: there are more tokens than learned positions."""
        if self.form.num_text_positions:
            num_tokens = text.data.shape[1]
            position = _positions(self.text_position, num_tokens, name="text", field="num_text_positions")
            text = Tokens(text.data + position, text.mask)
        pooled = self.pooled_text_in(self.norm_pooled(_mean(text))) if self.form.pools_text else None
        return ProjectedText(self._key_values(text, first=0), pooled)

    def _key_values(self, tokens: Tokens, *, first: int) -> tuple[KeyValue, ...]:
        """Of every other block."""
        mask = _unless_all(tokens.mask)
        crosses: list[CrossAttention] = [block.cross for block in self.blocks[first::2]]  # type: ignore[misc]
        return tuple(cross.project(tokens.data, mask) for cross in crosses)

    def forward(
        self,
        noisy: Float[Tensor, "br horizon a"],
        timestep: Float[Tensor, "br"],
        conditions: ProjectedConditions,
        is_committed: Bool[Tensor, "#br horizon"] | None = None,
    ) -> Float[Tensor, "br horizon a"]:
        """Consecutive items of `noisy` share a condition if there are more of them. `timestep` in [0, 1000].

        Args:
            is_committed: actions that are clean, in a transformer that marks them.
        """
        if conditions.has_action is not None:
            repeats = len(noisy) // len(conditions.has_action)
            has_action = conditions.has_action.repeat_interleave(repeats, dim=0).expand_as(noisy)
            noisy = torch.cat([noisy, has_action], dim=2)
        actions = self.action_in(noisy)
        if is_committed is not None:
            if self.committed_mark is None:
                raise ValueError("this transformer was not built to mark committed actions (marks_committed)")
            actions = actions + is_committed[..., None] * self.committed_mark
        return self.denoise(actions, timestep, conditions=conditions)

    def denoise(
        self, actions: Float[Tensor, "br horizon d"], timestep: Float[Tensor, "br"], *, conditions: ProjectedConditions
    ) -> Float[Tensor, "br horizon a"]:
        """`forward`, with the noisy actions already as tokens."""
        repeats = len(actions) // len(conditions.state)
        prefix = [
            self.timestep_in(sinusoidal_embedding(timestep, self.sinusoids))[:, None],
            conditions.clock.repeat_interleave(repeats, dim=0),
            conditions.state.repeat_interleave(repeats, dim=0),
        ]
        x = torch.cat([*prefix, actions], dim=1) + self.position
        for block, key_value in zip(self.blocks, conditions.key_values, strict=True):
            x = block(x, key_value)
        return self.action_out(self.norm_out(x[:, NUM_PREFIX:]))

    def _entries(self, has_action: Float[Tensor, "b a"] | None) -> Float[Tensor, "b 1 a"] | None:
        if self.is_unified and has_action is None:
            raise ValueError("a unified vector needs has_action: which of its entries the robot has")
        return None if has_action is None or not self.is_unified else has_action[:, None]


def _unless_all(mask: Bool[Tensor, "b m"]) -> Bool[Tensor, "b m"] | None:
    """None for a mask that hides nothing: attention without one is faster. On a GPU, asking would cost more."""
    return None if mask.device.type == "cpu" and bool(mask.all()) else mask


def _mean(tokens: Tokens) -> Float[Tensor, "b d"]:
    """Over the visible ones; zero where there are none."""
    visible = tokens.mask[..., None].to(tokens.data)
    return (tokens.data * visible).sum(dim=1) / visible.sum(dim=1).clamp(min=1)


def _positions(table: Float[Tensor, "n d"], num_tokens: int, *, name: str, field: str) -> Float[Tensor, "m d"]:
    if num_tokens > len(table):
        raise ValueError(
            f"{num_tokens} {name} tokens, but the transformer has only {len(table)} learned positions for them; "
            f"raise system1.dit.{field}, or use a shorter text or smaller images"
        )
    return table[:num_tokens]
