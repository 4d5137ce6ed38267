"""Cosmos-Predict2 (2B, 14B; Text2Image and Video2World) over the VAE of Wan 2.1.

Its denoiser is written for noise added to the latents. In terms of a mixture `(1 - level) * latents + level * noise`,
which is the same scaled by `1 - level`, its input is the mixture, its timestep the level, and its output the flow; one
level per frame. A Video2World model also has a channel that marks the given frames, those of level 0. The channel for
padding is zero; it is joined here, because diffusers resizes it with torchvision.
"""

from typing import Any

import torch
from diffusers import CosmosTransformer3DModel
from jaxtyping import Float
from torch import Tensor

from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones.pretrained import Embedding, Parts
from video2act.system2.backbones.wan_vae import OverWanVae
from video2act.system2.objectives import circle_error, is_one_level, logit_normal
from video2act.types import Video
from video2act.video_backbone import Objective


class CosmosBackbone(OverWanVae):
    """`VideoBackbone` over `CosmosTransformer3DModel`."""

    TRANSFORMER = CosmosTransformer3DModel
    MAX_TOKENS = 512
    OF_THE_TEXT = ("transformer_blocks.*.attn2.to_[kv]", "transformer_blocks.*.attn2.norm_k")

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, *, whole: bool = False):
        super().__init__(config, parts, whole=whole)
        self.takes_padding = self.transformer.config.concat_padding_mask
        self.takes_given = self.transformer.config.in_channels > self.vae.config.z_dim
        # one or two given frames, as its authors train it
        few, many = (1, 2) if self.takes_given else (0, 0)
        levels = logit_normal(grows_with_frames=True)
        self.objective = Objective(levels, circle_error, min_given=few, max_given=many, sampling_shift=5.0)
        # its weights stay as they were; `run` joins the channel instead
        self.transformer.register_to_config(concat_padding_mask=False)

    def num_latents(self, transformer: dict[str, Any], vae: dict[str, Any]) -> tuple[int, int]:
        channels, latents = super().num_latents(transformer, vae)
        # one channel more says which frames are given
        return channels - (channels == latents + 1), latents

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
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
