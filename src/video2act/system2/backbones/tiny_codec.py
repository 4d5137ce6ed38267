"""A causal video codec that is one matrix: the principal components of small blocks of video.

The first frame stands alone (repeated to fill its block), then every `frames_per_latent` frames merge into one latent
frame, as in the large causal VAEs: a latent never depends on a later pixel. It is fitted in seconds without gradients.
Latents are whitened, each channel to unit variance, because a puck or a goal marker is in weak components. What the
components cannot represent bounds every prediction.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from video2act.types import Video


class LinearCodec(nn.Module):
    """Pixels `[b 3 1+g*k h w]` <-> latents `[b c 1+k h/p w/p]`."""

    mean: Tensor
    components: Tensor
    std: Tensor
    """of each component over the clips that the codec was fitted to"""

    def __init__(self, latent_channels: int, patch_px: int, *, frames_per_latent: int):
        super().__init__()
        self.patch_px = patch_px
        self.frames_per_latent = frames_per_latent
        size = 3 * frames_per_latent * patch_px**2
        if latent_channels > size:
            raise ValueError(
                f"latent_channels={latent_channels} is more than the {size} values of a block (3 x {frames_per_latent} "
                f"frames x {patch_px} x {patch_px} px); lower it"
            )
        # random until fitted: an orthonormal basis, so that encode and decode are meaningful from the start
        basis, _ = torch.linalg.qr(torch.randn(size, latent_channels))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", basis)
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, pixels: Video) -> Video:
        """Raises ValueError for a frame count or size that does not fill blocks."""
        self._check(pixels)
        g, p = self.frames_per_latent, self.patch_px
        # the matrix product over blocks is a convolution that never overlaps, and needs no rearranged copy of the
        # pixels
        kernel = rearrange(self.components / self.std, "(c g p q) k -> k c g p q", c=3, g=g, p=p, q=p)
        bias = -(self.mean @ self.components) / self.std
        # a frame that is repeated through its block meets the sum of the kernel over time
        first = nn.functional.conv2d(pixels.grid[:, :, 0], kernel.sum(dim=2), bias, stride=p)[:, :, None]
        if pixels.grid.shape[2] == 1:
            return Video(first, pixels.fps / g)
        later = nn.functional.conv3d(pixels.grid[:, :, 1:], kernel, bias, stride=(g, p, p))
        return Video(torch.cat([first, later], dim=2), pixels.fps / g)

    def decode(self, latents: Video) -> Video:
        """The nearest pixels; the first latent frame gives one frame, the mean of its block."""
        scaled = rearrange(latents.grid, "b c k h w -> b k h w c") * self.std
        blocks = scaled @ self.components.T + self.mean
        g, p = self.frames_per_latent, self.patch_px
        pixels = rearrange(blocks, "b k h w (c g p q) -> b c (k g) (h p) (w q)", c=3, g=g, p=p, q=p)
        first = pixels[:, :, :g].mean(dim=2, keepdim=True)
        return Video(torch.cat([first, pixels[:, :, g:]], dim=2), latents.fps * g)

    def hold(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latents of the next block if nothing moved: the last frame of this block, repeated."""
        pixels = self.decode(Video(torch.stack([latents, latents], dim=2), fps=1.0))
        still = repeat(pixels.grid[:, :, -1], "b c h w -> b c t h w", t=1 + self.frames_per_latent)
        return self.encode(Video(still, fps=1.0)).grid[:, :, -1]

    @torch.no_grad()
    def fit(self, clips: list[Video]) -> None:
        """Take the principal components of the clips' blocks. Deterministic."""
        blocks = torch.cat([self._blocks(clip) for clip in clips])
        mean = blocks.mean(dim=0)
        centred = blocks - mean
        covariance = centred.T @ centred / len(blocks)
        values, vectors = torch.linalg.eigh(covariance.double())  # ascending
        count = self.components.shape[1]
        components = vectors[:, -count:].flip(1)
        # a sign convention, so that a refit on the same clips gives the same codec
        components = components * torch.sign(components.gather(0, components.abs().argmax(dim=0, keepdim=True)))
        variance = values[-count:].flip(0).clamp(min=1e-8)
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.std.copy_(variance.sqrt())

    def _blocks(self, pixels: Video) -> Float[Tensor, "n d"]:
        self._check(pixels)
        g, p = self.frames_per_latent, self.patch_px
        first = repeat(pixels.grid[:, :, :1], "b c 1 h w -> b c g h w", g=g)
        grouped = torch.cat([first, pixels.grid[:, :, 1:]], dim=2)
        return rearrange(grouped, "b c (k g) (h p) (w q) -> (b k h w) (c g p q)", g=g, p=p, q=p)

    def _check(self, pixels: Video) -> None:
        t, h, w = pixels.grid.shape[2:]
        g, p = self.frames_per_latent, self.patch_px
        if (t - 1) % g or h % p or w % p:
            raise ValueError(
                f"the codec takes 1 + a multiple of {g} frames of a multiple of {p} px, got {t} frames of {h} x {w} px"
            )
