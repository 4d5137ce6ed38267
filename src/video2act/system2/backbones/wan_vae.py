"""What Wan and Cosmos-Predict2 share: Wan's causal VAE."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify
from torch import Tensor

from video2act.system2.backbones.pretrained import PretrainedBackbone, as_configured
from video2act.types import Video


class OverWanVae(PretrainedBackbone):
    """A backbone whose latents are those of `AutoencoderKLWan`."""

    VAE = AutoencoderKLWan

    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        return vae["scale_factor_spatial"], vae["scale_factor_temporal"]

    def num_latents(self, transformer: dict[str, Any], vae: dict[str, Any]) -> tuple[int, int]:
        return transformer["in_channels"], vae["z_dim"]

    def stream(self) -> "WanStream":
        """The VAE's encoder at the beginning of an episode."""
        return WanStream(self)


class WanStream:
    """A `LatentStream` over Wan's encoder, whose convolutions remember the frames that their kernels reach back to.

    diffusers' `encode` forgets that memory after a call. Here each stream has its own.
    """

    def __init__(self, backbone: OverWanVae):
        self._backbone = backbone
        self._memory: list[Tensor | str | None] = [None] * backbone.vae._cached_conv_counts["encoder"]
        self._has_begun = False

    def push(self, pixels: Video) -> Video:
        """Raises ValueError for a number of frames that fills no latents."""
        vae, group = self._backbone.vae, self._backbone.config.frames_per_latent
        t = pixels.grid.shape[2]
        if (t - (not self._has_begun)) % group or not t:
            first = "" if self._has_begun else "1 + "
            raise ValueError(f"a stream takes {first}a multiple of {group} frames here, got {t}")
        memory, has_begun = list(self._memory), self._has_begun  # if it fails, the stream stays where it was
        with as_configured(pixels.grid):
            grid = pixels.grid.float()
            if vae.config.patch_size is not None:
                grid = patchify(grid, patch_size=vae.config.patch_size)
            encoded, begin = [], 0
            while begin < t:
                end = begin + (group if has_begun else 1)
                encoded.append(vae.encoder(grid[:, :, begin:end], feat_cache=memory, feat_idx=[0]))
                begin, has_begun = end, True
            mean = vae.quant_conv(torch.cat(encoded, dim=2)).chunk(2, dim=1)[0]
            latents = Video(self._backbone.normalise(mean.float()), pixels.fps / group)
        self._memory, self._has_begun = memory, has_begun
        return latents
