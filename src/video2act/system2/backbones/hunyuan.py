"""HunyuanVideo: blocks of two streams (video and text side by side), then blocks of one; text from LLaMA and CLIP.

Flow matching with one noise level per clip, so it can imagine a clip but not continue a clean past. The published
model is distilled with guidance and takes its strength as an input; 1 is the distribution of its training. Its VAE
convolves causally, but through its group norms, and its tiles in time (clips of more than 16 frames), a latent depends
a little on later frames.
"""

from typing import Any

import torch
from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from jaxtyping import Float
from torch import Tensor

from video2act.files.tensor_files import read_json
from video2act.system2.backbones.pretrained import Embedding, PretrainedBackbone
from video2act.system2.backbones.text_encoders import HunyuanText
from video2act.system2.objectives import flow_error, logit_normal, one_level
from video2act.text.cache import TextEncoder
from video2act.types import Video
from video2act.video_backbone import Objective

TIMESTEPS = 1000
GUIDANCE = 1.0


class HunyuanBackbone(PretrainedBackbone):
    """`VideoBackbone` over `HunyuanVideoTransformer3DModel`."""

    TRANSFORMER = HunyuanVideoTransformer3DModel
    VAE = AutoencoderKLHunyuanVideo
    BLOCKS = ("transformer_blocks", "single_transformer_blocks")
    RETURNS_PAIR = True
    MAX_TOKENS = 256
    OF_THE_TEXT = ("context_embedder", "time_text_embed")

    objective = Objective(logit_normal(), flow_error, sampling_shift=7.0)

    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        return vae["spatial_compression_ratio"], vae["temporal_compression_ratio"]

    def num_latents(self, transformer: dict[str, Any], vae: dict[str, Any]) -> tuple[int, int]:
        """Raises ValueError for an image-to-video model, which may take as many channels."""
        if kind := transformer.get("image_condition_type"):
            raise ValueError(f"image_condition_type={kind!r} is that of an image-to-video model; choose HunyuanVideo")
        return super().num_latents(transformer, vae)

    def text_encoder(self) -> TextEncoder:
        """Raises ValueError if CLIP's vector has another width than the transformer expects."""
        expected = self.transformer.config.pooled_projection_dim
        path = self.root / "text_encoder_2" / "config.json"
        found = read_json(path).get("hidden_size")
        if found != expected:
            raise ValueError(
                f"{path} gives vectors of width {found}, the transformer expects {expected}; they do not fit"
            )
        return HunyuanText(
            self.root, self.dtype, template=DEFAULT_PROMPT_TEMPLATE["template"], max_tokens=self.max_tokens
        )

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        level = one_level(noise_level, "HunyuanVideo")
        guidance = torch.full_like(level, TIMESTEPS * GUIDANCE) if self.transformer.config.guidance_embeds else None
        return self.transformer(
            noisy.grid.to(self.dtype),
            TIMESTEPS * level,
            text["tokens"],
            text["mask"].long(),
            text["pooled"],
            None if guidance is None else guidance.to(self.dtype),
        ).sample
