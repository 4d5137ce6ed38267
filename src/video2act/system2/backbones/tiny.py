"""The CPU-sized video backbone: a linear causal codec and a small video diffusion transformer. No download.

What makes it learn in a minute:

* Each latent frame has its own noise level, so that a clean past and a noisy future share one model.
* Clean frames attend to clean frames only, and frames are numbered from the newest clean one. So features of real
  frames are what they were in training, whatever is imagined behind them, and however long the clip is.
* It predicts the clean latents as a *change* from the last clean frame. Untrained, it repeats that frame, which is the
  baseline to beat.
* Noise level and instruction modulate every block (Wan's scheme: one projection, plus a learned offset per block).
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from video2act.config import BackboneConfig, TuningConfig
from video2act.layers import Mlp, Rotation, SelfAttention, frames_embedding, grid_rotation, sinusoidal_embedding
from video2act.system2.backbones.tiny_codec import LinearCodec
from video2act.system2.objectives import is_one_level, latents_error, shifted_uniform
from video2act.text.encoder import ByteTextEncoder
from video2act.types import Video
from video2act.video_backbone import Objective, VideoBackbone


class TinyBlock(nn.Module):
    """Self-attention over all positions of all frames, then an MLP; both modulated per frame."""

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = Mlp(width, 4 * width)
        # shift, scale, gate of either branch; gates start open
        self.offset = nn.Parameter(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 1.0])[:, None].repeat(1, width))

    def forward(
        self,
        x: Float[Tensor, "b t n d"],
        modulation: Float[Tensor, "b t 1 6 d"],
        *,
        mask: Bool[Tensor, "b m m"] | None,
        num_closed: int,
        rotation: Rotation,
    ) -> Float[Tensor, "b t n d"]:
        _, _, gate1, shift2, scale2, gate2 = (modulation + self.offset).unbind(dim=3)
        read = self.modulated(x, modulation).flatten(1, 2)
        x = x + gate1 * self.attention(read, mask, rotation=rotation, num_closed=num_closed).view_as(x)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def modulated(self, x: Float[Tensor, "b t n d"], modulation: Tensor) -> Float[Tensor, "b t n d"]:
        """What the attention reads."""
        shift, scale = (modulation + self.offset).unbind(dim=3)[:2]
        return self.norm1(x) * (1 + scale) + shift


class TinyBackbone(VideoBackbone):
    """A `VideoBackbone` of about a million parameters."""

    config: BackboneConfig
    objective = Objective(shifted_uniform(3.0), latents_error, min_given=1, max_given=None, is_near_first=True)

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.config = config
        self.codec = LinearCodec(config.latent_channels, config.patch_px, frames_per_latent=config.frames_per_latent)
        self.text = ByteTextEncoder(config.text_dim)
        self.text_in = nn.Linear(config.text_dim, config.hidden)
        self.noise_in = Mlp(config.hidden)
        self.modulation = nn.Linear(config.hidden, 6 * config.hidden)
        self.latent_in = nn.Linear(config.latent_channels, config.hidden)
        self.blocks = nn.ModuleList(TinyBlock(config.hidden, config.num_heads) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.hidden)
        self.latent_out = nn.Linear(config.hidden, config.latent_channels)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)
        # untrained, the model predicts no change
        nn.init.zeros_(self.latent_out.weight)
        nn.init.zeros_(self.latent_out.bias)

    @property
    def width(self) -> int:
        return self.config.hidden

    def learn(self, tuning: TuningConfig) -> None:
        """Train all weights or none; the codec has none that could be."""
        self.requires_grad_(tuning.method == "full")

    @torch.no_grad()
    def check_instruction(self, instruction: str) -> None:
        self.text([instruction])

    def encode(self, pixels: Video) -> Video:
        return self.codec.encode(pixels)

    def stream(self) -> "CodecStream":
        """The codec at the beginning of an episode."""
        return CodecStream(self.codec)

    def decode(self, latents: Video) -> Video:
        return self.codec.decode(latents)

    def hold(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.codec.hold(latents)

    def features(
        self, latents: Video, instruction: list[str], *, noise_level: Float[Tensor, "b t"] | None = None
    ) -> Video:
        b, _, t, h, w = latents.grid.shape
        level = latents.grid.new_zeros(b, t) if noise_level is None else noise_level
        layers, norm = self.config.feature_layers, self.config.feature_norm
        hidden, modulation = self._hidden(latents.grid, level, instruction=instruction, num_blocks=layers[-1])
        tapped = [hidden[layer] for layer in layers]
        if norm == "modulated":
            pairs = zip(layers, tapped, strict=True)
            tapped = [self.blocks[layer].modulated(x, modulation) for layer, x in pairs]  # type: ignore[operator]
        elif norm == "layer":
            tapped = [nn.functional.layer_norm(x, (self.width,)) for x in tapped]
        grids = [rearrange(x, "b t (h w) d -> b d t h w", h=h, w=w) for x in tapped]
        return Video(torch.cat(grids, dim=1), latents.fps)

    def velocity(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, instruction: list[str]) -> Video:
        """`noise - latents`; zero on frames of level 0, which carry no noise."""
        h, w = noisy.grid.shape[3:]
        hidden, _ = self._hidden(noisy.grid, noise_level, instruction=instruction, num_blocks=self.config.depth)
        change = rearrange(self.latent_out(self.norm_out(hidden[-1])), "b t (h w) c -> b c t h w", h=h, w=w)
        clean = self._still(noisy.grid, noise_level) + change
        level = noise_level[:, None, :, None, None]
        return Video(torch.where(level > 0, (noisy.grid - clean) / level.clamp(min=1e-3), 0.0), noisy.fps)

    def _still(self, grid: Float[Tensor, "b c t h w"], noise_level: Float[Tensor, "b t"]) -> Float[Tensor, "b c 1 h w"]:
        """The latents of a world that stands still after each clip's newest clean frame; zeros where there is none."""
        newest = newest_clean(noise_level)
        frames = grid[torch.arange(len(grid), device=grid.device), :, newest.clamp(min=0)]
        return (self.codec.hold(frames) * (newest >= 0)[:, None, None, None])[:, :, None]

    def _hidden(
        self,
        grid: Float[Tensor, "b c t h w"],
        noise_level: Float[Tensor, "b t"],
        *,
        instruction: list[str],
        num_blocks: int,
    ) -> tuple[list[Float[Tensor, "b t n d"]], Float[Tensor, "b t 1 6 d"]]:
        """Tokens before the first block and after each of `num_blocks`, and what modulates every block."""
        _, _, t, h, w = grid.shape
        text = self.text(instruction)
        sentence = (text.data * text.mask[..., None]).sum(dim=1) / text.mask.sum(dim=1, keepdim=True)
        noise = self.noise_in(sinusoidal_embedding(1000.0 * noise_level, self.config.hidden))
        per_frame = self.modulation(nn.functional.silu(noise + self.text_in(sentence)[:, None]))
        modulation = rearrange(per_frame, "b t (six d) -> b t 1 six d", six=6)
        number = torch.arange(t, device=grid.device) - newest_clean(noise_level)[:, None]
        position = frames_embedding(number.float(), h, w, width=self.config.hidden)
        rotation = grid_rotation(number.float(), h, w, head_dim=self.config.hidden // self.config.num_heads)
        x = self.latent_in(rearrange(grid, "b c t h w -> b t (h w) c")) + position
        # a clean frame does not look at noise
        mask, num_closed = None, h * w * first_clean(noise_level)
        if not num_closed and not is_one_level(noise_level):
            is_clean = repeat(noise_level == 0, "b t -> b (t n)", n=h * w)
            mask = is_clean[:, None] | ~is_clean[:, :, None]
        hidden = [x]
        for block in self.blocks[:num_blocks]:
            hidden.append(block(hidden[-1], modulation, mask=mask, num_closed=num_closed, rotation=rotation))
        return hidden, modulation


def newest_clean(noise_level: Float[Tensor, "b t"]) -> Int[Tensor, "b"]:
    """The number of the newest frame without noise; -1: there is none."""
    number = torch.arange(1, noise_level.shape[1] + 1, device=noise_level.device) * (noise_level == 0)
    return number.amax(dim=1) - 1


def first_clean(noise_level: Float[Tensor, "b t"]) -> int:
    """How many frames at the beginning of every clip are clean, where all others are noised; 0: the clips differ."""
    is_clean = noise_level[0] == 0
    count = int(is_clean.sum())
    is_beginning = torch.arange(len(is_clean), device=is_clean.device) < count
    is_same = bool((is_clean == is_beginning).all() and ((noise_level == 0) == is_clean).all())
    return count if is_same and count < len(is_clean) else 0


class CodecStream:
    """A `LatentStream`. The codec's blocks are independent: only the last frame is kept, in place of a first block."""

    def __init__(self, codec: LinearCodec):
        self._codec = codec
        self._last: Tensor | None = None

    def push(self, pixels: Video) -> Video:
        past = [] if self._last is None else [self._last]
        whole = self._codec.encode(Video(torch.cat([*past, pixels.grid], dim=2), pixels.fps))
        self._last = pixels.grid[:, :, -1:]
        return Video(whole.grid[:, :, len(past) :], whole.fps)
