"""What Wan and Cosmos-Predict2 share: Wan's causal VAE, its normalisation, and what a model over it must look like."""

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from jaxtyping import Float
from torch import Tensor

from video2act.system2.backbones.pretrained import PretrainedBackbone


class OverWanVae(PretrainedBackbone):
    """A backbone whose latents are those of `AutoencoderKLWan`."""

    VAE = AutoencoderKLWan

    def latent_channels(self, transformer: dict[str, Any], vae: dict[str, Any]) -> int:
        """Channels of the transformer's input that are latents; all of them, if a family says nothing else."""
        return transformer["in_channels"]

    def geometry(self, transformer: dict[str, Any], vae: dict[str, Any]) -> dict[str, tuple[int, int]]:
        grid = self.config.grid
        return {
            "the VAE merges pixels a side:": (vae["scale_factor_spatial"], grid.latent_px),
            "the VAE merges frames:": (vae["scale_factor_temporal"], grid.frames_per_latent),
            "the transformer's patch is": (transformer["patch_size"][1], grid.patch),
            # more of them would be an image-to-video model
            "the transformer's in_channels is": (self.latent_channels(transformer, vae), vae["z_dim"]),
        }

    def normalise(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def restore(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation `[c 1 1 1]` of the latents that a model over this VAE was trained on."""
        config = self.vae.config
        mean, std = (torch.tensor(values).to(like)[:, None, None, None] for values in (config.latents_mean, config.latents_std))
        return mean, std
