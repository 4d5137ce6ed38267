"""LTX-Video: a VAE that merges 32 x 32 pixels and 8 frames; each latent position is a token.

Flow matching with a noise level per token. Positions are in seconds and pixels, so the clip's rate matters. The text
encoder sees the padding, the transformer does not. Decoders of later versions take a noise level; here it is 0.
"""

from typing import Any

from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from video2act.system2.backbones.pretrained import Embedding, PretrainedBackbone
from video2act.system2.backbones.tap import fold
from video2act.system2.objectives import flow_error, is_one_level, logit_normal
from video2act.types import Video
from video2act.video_backbone import Objective

TIMESTEPS = 1000


class LTXBackbone(PretrainedBackbone):
    """`VideoBackbone` over `LTXVideoTransformer3DModel`."""

    TRANSFORMER = LTXVideoTransformer3DModel
    VAE = AutoencoderKLLTXVideo
    MAX_TOKENS = 128
    SEES_PADDING = True
    TEXT_DIM = "caption_channels"
    OF_THE_TEXT = ("caption_projection", "transformer_blocks.*.attn2.to_[kv]", "transformer_blocks.*.attn2.norm_k")

    # given frames are tokens of level 0, any number of them
    objective = Objective(logit_normal(3.0), flow_error, max_given=None)

    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        halvings = 2 ** sum(vae["spatio_temporal_scaling"])
        side = vae["spatial_compression_ratio"] or vae["patch_size"] * halvings
        return side, vae["temporal_compression_ratio"] or vae["patch_size_t"] * halvings

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        _, _, t, h, w = noisy.grid.shape
        level = noise_level[:, :1] if is_one_level(noise_level) else repeat(noise_level, "b t -> b (t n)", n=h * w)
        output = self.transformer(
            rearrange(noisy.grid.to(self.dtype), "b c t h w -> b (t h w) c"),
            text["tokens"],
            TIMESTEPS * level,
            text["mask"],
            num_frames=t,
            height=h,
            width=w,
            # seconds and pixels of one latent
            rope_interpolation_scale=(1 / noisy.fps, self.config.grid.latent_px, self.config.grid.latent_px),
        ).sample
        return fold(output, t, h=h, w=w)

    def _decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 frames height width"]:
        level = latents.new_zeros(len(latents)) if self.vae.config.timestep_conditioning else None
        return self.vae.decode(latents, level).sample
