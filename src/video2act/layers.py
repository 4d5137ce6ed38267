"""The layers that both systems share.

* Masks are boolean: True may be attended to. A float mask would be *added*, and padding would keep weight.
* A query that may attend to nothing gets zeros, not NaN: a policy without images still acts.
* Cross-attention projects its keys and values in a separate step (`project`), once for all denoising steps.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from video2act.config import NormForm, adaptor_depth

Activation = Literal["gelu", "silu"]


def attention(
    query: Float[Tensor, "b heads n d"],
    key: Float[Tensor, "b heads m d"],
    *,
    value: Float[Tensor, "b heads m d"],
    mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
) -> Float[Tensor, "b heads n d"]:
    """Scaled dot-product attention with a boolean mask over the keys, for all queries or for each."""
    if key.shape[2] == 0:
        # zeros that keep the graph: DDP needs a gradient for every parameter
        return (query @ key.transpose(-1, -2)) @ value
    any_visible = None
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 2 else mask  # b n m
        any_visible = mask.any(dim=2, keepdim=True)
        # where nothing is visible, attend to everything and drop the result: no NaN on any device
        mask = (mask | ~any_visible)[:, None]
        any_visible = any_visible[:, None]
    if query.device.type == "cpu" and query.requires_grad:
        # for short sequences, the flash kernel's backward costs more than it saves; forward, it is up to 3 times faster
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        out = scores.softmax(dim=-1) @ value
    else:
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out if any_visible is None else out * any_visible


class RmsNorm(nn.Module):
    """Root-mean-square norm with a learned scale (arXiv 1910.07467), in the precision of its input.

    Args:
        width: of the last axis.
        form: `rms`; or `variance`: divide by the standard deviation (n - 1) without subtracting the mean, as timm
            1.0.3 does under the name RmsNorm. RDT-1B and its finetuned versions were trained with it.
    """

    def __init__(self, width: int, form: NormForm = "rms"):
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if self.form == "variance":
            return x * torch.rsqrt(x.float().var(dim=-1, keepdim=True) + 1e-6).to(x.dtype) * self.weight.to(x.dtype)
        # x / sqrt(norm ** 2 / d + eps), with sqrt(d) at the weight. On a CPU, torch's own rms_norm takes longer
        d, norm = x.shape[-1], torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return x * torch.rsqrt(norm * norm + 1e-6 * d).to(x.dtype) * (self.weight * math.sqrt(d)).to(x.dtype)


Rotation = tuple[Float[Tensor, "_b 1 _n _half"], Float[Tensor, "_b 1 _n _half"]]
"""cosines and sines of the angles of each token"""


def rotate(x: Float[Tensor, "b heads n d"], rotation: Rotation) -> Float[Tensor, "b heads n d"]:
    """Turn pairs of channels by the tokens' angles: attention then depends on distances (arXiv 2104.09864)."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def grid_rotation(numbers: Float[Tensor, "b t"], h: int, w: int, *, head_dim: int) -> Rotation:
    """Angles of grids whose frames have these numbers: the pairs of channels are shared between time, rows and columns.

    Distances are in frames and cells, so what moves looks the same everywhere in the picture.
    """
    pairs = head_dim // 2
    spatial, (b, t), device = pairs // 3, numbers.shape, numbers.device

    def angles(position: Tensor, count: int) -> Tensor:
        # from a radian a step down to a sixteenth of that
        return position[..., None] * torch.exp(-math.log(16.0) * torch.arange(count, device=device) / max(1, count))

    frame = angles(numbers, pairs - 2 * spatial)[:, :, None, None]
    row = angles(torch.arange(h, device=device).float(), spatial)[:, None]
    column = angles(torch.arange(w, device=device).float(), spatial)
    angle = torch.cat([axis.expand(b, t, h, w, -1) for axis in (frame, row, column)], dim=-1).flatten(1, 3)[:, None]
    return angle.cos(), angle.sin()


class SelfAttention(nn.Module):
    """Multi-head self-attention with RMS-normalised queries and keys."""

    def __init__(self, width: int, num_heads: int, *, norm: NormForm = "rms"):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = RmsNorm(width // num_heads, norm)
        self.key_norm = RmsNorm(width // num_heads, norm)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n n"] | None = None,
        *,
        rotation: Rotation | None = None,
        num_closed: int = 0,
    ) -> Float[Tensor, "b n d"]:
        """Attend.

        Args:
            mask: which tokens (last axis) each token may attend to.
            rotation: where the tokens stand.
            num_closed: the first tokens that attend to one another only, in every sample. Two attentions without a
                mask cost less than one with it.
        """
        # einops' patterns cost as much as a small operation, and a plan has a hundred of these
        query, key, value = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if num_closed:
            closed = [part[:, :, :num_closed] for part in (query, key, value)]
            first = attention(closed[0], closed[1], value=closed[2])
            mixed = torch.cat([first, attention(query[:, :, num_closed:], key, value=value, mask=mask)], dim=2)
        else:
            mixed = attention(query, key, value=value, mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


@dataclass(frozen=True)
class KeyValue:
    """Conditions, projected once for one cross-attention layer."""

    key: Float[Tensor, "b heads m d"]
    value: Float[Tensor, "b heads m d"]
    mask: Bool[Tensor, "b m"] | None
    """None: all are visible"""


class CrossAttention(nn.Module):
    """Multi-head cross-attention with reusable keys and values, and RMS-normalised queries and keys."""

    def __init__(self, width: int, num_heads: int, *, condition_width: int | None = None, norm: NormForm = "rms"):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(condition_width or width, 2 * width)
        self.query_norm = RmsNorm(width // num_heads, norm)
        self.key_norm = RmsNorm(width // num_heads, norm)
        self.out = nn.Linear(width, width)

    def project(self, condition: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None) -> KeyValue:
        """The keys and values of a condition. No mask: everything is visible."""
        key, value = self.key_value(condition).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return KeyValue(self.key_norm(key), value, mask)

    def forward(self, x: Float[Tensor, "bq n d"], condition: KeyValue) -> Float[Tensor, "bq n d"]:
        """Attend from `x`. Consecutive items of `x` may share a condition: their batch is a multiple of its."""
        shape = x.shape
        together = self.query(x).reshape(len(condition.key), -1, shape[2])  # items that share a condition
        query = together.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        mixed = attention(self.query_norm(query), condition.key, value=condition.value, mask=condition.mask)
        return self.out(mixed.transpose(1, 2).reshape(shape))


class Mlp(nn.Module):
    """Two linear layers with an activation between them: GELU (its tanh form) or SiLU."""

    def __init__(
        self, width: int, hidden: int | None = None, *, out: int | None = None, activation: Activation = "gelu"
    ):
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, hidden or width)
        self.down = nn.Linear(hidden or width, out or width)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        is_silu = self.activation == "silu"
        return self.down(nn.functional.silu(up) if is_silu else nn.functional.gelu(up, approximate="tanh"))


def make_adaptor(word: str, width_in: int, *, width_out: int) -> nn.Module:
    """`mlpNx_gelu`: N linear layers with GELUs between them, all but the first `width_out` wide."""
    num_layers = adaptor_depth(word)
    if num_layers == 1:
        return nn.Linear(width_in, width_out)
    if num_layers == 2:
        return Mlp(width_in, width_out, out=width_out)
    layers: list[nn.Module] = [nn.Linear(width_in, width_out)]
    for _ in range(num_layers - 1):
        layers += [nn.GELU(approximate="tanh"), nn.Linear(width_out, width_out)]
    return nn.Sequential(*layers)


@cache
def _frequencies(count: int, max_period: float, *, device: torch.device) -> Float[Tensor, "{count}"]:
    with torch.inference_mode(False):
        return torch.exp(-math.log(max_period) * torch.arange(count, device=device) / count)


def sinusoidal_embedding(
    position: Float[Tensor, "*b"], width: int, *, max_period: float = 10_000.0
) -> Float[Tensor, "*b {width}"]:
    """Cosines, then sines, of geometrically spaced frequencies (arXiv 1706.03762). `width` must be even."""
    angle = position[..., None].float() * _frequencies(width // 2, max_period, device=position.device)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def grid_embedding(t: int, h: int, w: int, *, width: int, device: torch.device) -> Float[Tensor, "n {width}"]:
    """Fixed sinusoidal positions of a `t h w` grid in raster order, with frames numbered from 0."""
    return frames_embedding(torch.arange(t, device=device)[None].float(), h, w, width=width)[0].flatten(0, 1)


def frames_embedding(numbers: Float[Tensor, "b t"], h: int, w: int, *, width: int) -> Float[Tensor, "b t n {width}"]:
    """Fixed sinusoidal positions of grids whose frames have these numbers; the width is shared between the three axes.

    Heights and widths are measured from 0 to 1 across the picture, so that one model reads grids of several sizes.
    """
    spatial, (b, t), device = 2 * (width // 6), numbers.shape, numbers.device
    temporal = width - 2 * spatial
    frame = sinusoidal_embedding(numbers, temporal, max_period=100.0)
    # the fastest has ten periods across the picture
    row, column = (
        sinusoidal_embedding(64.0 * (torch.arange(side, device=device) + 0.5) / side, spatial, max_period=100.0)
        for side in (h, w)
    )
    axes = (frame[:, :, None, None], row[:, None], column)
    return torch.cat([axis.expand(b, t, h, w, -1) for axis in axes], dim=-1).flatten(2, 3)
