"""Cosmos-Predict2 (2B, 14B; Text2Image and Video2World) over the VAE of Wan 2.1.

Its denoiser is written for noise added to the latents. In terms of a mixture `(1 - level) * latents + level * noise`, which is
the same scaled by `1 - level`, its input is the mixture, its timestep the level, and its output the flow; one level per frame. A
Video2World model also takes a channel that says which frames are given: those of level 0. The channel for padding in the picture
is empty; it is joined here, because diffusers resizes it with torchvision, and zeros have every size.
"""

from typing import Any

import torch
from diffusers import AutoencoderKLWan, CosmosTransformer3DModel
from jaxtyping import Float
from torch import Tensor

from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones.pretrained import Embedding, Parts, PretrainedBackbone, is_one_level
from video2act.system2.backbones.text_encoders import diffusers_t5
from video2act.system2.backbones.wan import wan_statistics
from video2act.text_cache import TextEncoder
from video2act.types import Video


class CosmosBackbone(PretrainedBackbone):
    """`VideoBackbone` over `CosmosTransformer3DModel`."""

    TRANSFORMER = CosmosTransformer3DModel
    VAE = AutoencoderKLWan
    MAX_TOKENS = 512

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, whole: bool = False):
        super().__init__(config, parts, whole)
        self.takes_padding = self.transformer.config.concat_padding_mask
        self.takes_given = self.transformer.config.in_channels > self.vae.config.z_dim
        # its weights stay as they were; `run` joins the channel instead
        self.transformer.register_to_config(concat_padding_mask=False)

    def geometry(self, transformer: dict[str, Any], vae: dict[str, Any]) -> dict[str, tuple[int, int]]:
        grid = self.config.grid
        # one channel more says which frames are given
        channels = transformer["in_channels"] - (transformer["in_channels"] == vae["z_dim"] + 1)
        return {
            "the VAE merges pixels a side:": (vae["scale_factor_spatial"], grid.latent_px),
            "the VAE merges frames:": (vae["scale_factor_temporal"], grid.frames_per_latent),
            "the transformer's patch is": (transformer["patch_size"][1], grid.patch),
            "the transformer's in_channels is": (channels, vae["z_dim"]),
        }

    def text_encoder(self) -> TextEncoder:
        return diffusers_t5(self.root, self.dtype, self.max_tokens, sees_padding=False)

    def normalise(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        mean, std = wan_statistics(self.vae, latents)
        return (latents - mean) / std

    def restore(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        mean, std = wan_statistics(self.vae, latents)
        return latents * std + mean

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], text: Embedding) -> Float[Tensor, "b c t h w"]:
        per_frame = noise_level[:, None, :, None, None]
        empty = noisy.grid[:, :1] * 0
        joined = [noisy.grid]
        if self.takes_given:
            joined.append(empty + (per_frame == 0))
        if self.takes_padding:
            joined.append(empty)
        timestep = noise_level[:, 0] if is_one_level(noise_level) else per_frame
        return self.transformer(
            torch.cat(joined, dim=1).to(self.dtype),
            timestep.to(self.dtype),
            text["tokens"],
            fps=noisy.fps * self.config.frames_per_latent,
        ).sample
