"""A video model of the middle size, trained from nothing: Wan's networks, smaller, in a folder like a published one.

30 to 100 million parameters: Wan 2.1's causal VAE, trained first, to reconstruct, and then its transformer, by flow
matching. The text encoder is a small UMT5 of random weights over bytes and is never trained: that is enough to tell a
robot's few sentences apart. The same code reads the result and the 5B's files.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from video2act.config import ScratchConfig
from video2act.files.atomic import write_text
from video2act.types import Video

KL_WEIGHT = 1e-4
"""keeps latents near unit scale; the reconstruction decides the rest"""


def vae_config(config: ScratchConfig) -> dict[str, Any]:
    """Of `AutoencoderKLWan`."""
    return {"base_dim": config.vae_width, "z_dim": 16}


def transformer_config(config: ScratchConfig) -> dict[str, Any]:
    """Of `WanTransformer3DModel`."""
    return {
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.hidden // config.num_heads,
        "ffn_dim": 4 * config.hidden,
        "num_layers": config.depth,
        "text_dim": config.text_dim,
        "in_channels": 16,
        "out_channels": 16,
    }


class Reconstruction(nn.Module):
    """A VAE and its loss: absolute error of the pixels, and a weak pull of the latents to a normal."""

    def __init__(self, config: ScratchConfig):
        super().__init__()
        self.vae: Any = AutoencoderKLWan(**vae_config(config))

    def forward(self, pixels: Video, generator: torch.Generator) -> Float[Tensor, ""]:
        posterior = self.vae.encode(pixels.grid).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(posterior.mean)
        # diffusers clamps what it decodes, and a clamped pixel would not learn
        chunks: list[Tensor] = []
        handle = self.vae.decoder.register_forward_hook(lambda module, given, out: chunks.append(out))
        try:
            self.vae.decode(posterior.mean + posterior.std * noise)
        finally:
            handle.remove()
        error = (torch.cat(chunks, dim=2).float() - pixels.grid).abs().mean()
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()
        return error + KL_WEIGHT * kl


@torch.no_grad()
def latent_statistics(vae: Any, clips: list[Video]) -> tuple[list[float], list[float]]:
    """Mean and deviation of each latent channel over clips: what the transformer's input is normalised by."""
    device = next(vae.parameters()).device
    latents = (vae.encode(clip.grid.to(device)).latent_dist.mode() for clip in clips)
    together = torch.cat([each.movedim(1, -1).flatten(0, -2).double() for each in latents])
    return together.mean(dim=0).tolist(), together.std(dim=0).clamp(min=1e-6).tolist()


def write_base(
    folder: Path, config: ScratchConfig, *, vae: dict[str, Tensor], statistics: tuple[list[float], list[float]]
) -> None:
    """A folder in diffusers' layout: a trained VAE, a transformer and a text encoder of random weights."""
    mean, std = statistics
    codec = AutoencoderKLWan(**vae_config(config), latents_mean=mean, latents_std=std)
    codec.load_state_dict(vae)
    codec.save_pretrained(folder / "vae")
    width = config.text_dim
    shape: dict[str, Any] = {"vocab_size": 384, "d_model": width, "d_kv": width // 4, "d_ff": 2 * width}
    encoder = UMT5EncoderModel(UMT5Config(**shape, num_layers=2, num_heads=4, dropout_rate=0.0))
    encoder.save_pretrained(folder / "text_encoder")
    ByT5Tokenizer().save_pretrained(folder / "tokenizer")
    write_text(folder / "model_index.json", json.dumps({"_class_name": "WanPipeline"}) + "\n")
    WanTransformer3DModel(**transformer_config(config)).save_pretrained(folder / "transformer")
