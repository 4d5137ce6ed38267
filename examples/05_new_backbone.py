"""Another video model for System 2: Mochi (Genmo), in a few lines, with few and random weights.

The class holds only what differs from other models: diffusers' classes, the grid, the call of the transformer for a
noisy clip with its text, and the training objective. Loading, cutting, caching text, LoRA and training are shared.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLMochi, MochiTransformer3DModel
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from video2act.config import GRIDS, Grid, PretrainedBackboneConfig
from video2act.system2.backbones import make_backbone
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.system2.backbones.published import FAMILIES
from video2act.system2.objectives import flow_error, logit_normal, one_level
from video2act.types import Video
from video2act.video_backbone import Objective


class MochiBackbone(PretrainedBackbone):
    TRANSFORMER, VAE = MochiTransformer3DModel, AutoencoderKLMochi
    RETURNS_PAIR, MAX_TOKENS = True, 256
    objective = Objective(logit_normal(), flow_error)  # one noise level per clip: it cannot continue a clean past

    def compression(self, vae: dict[str, Any]) -> tuple[int, int]:
        return 8, 6  # of every Mochi; its config does not say

    def run(self, noisy: Video, noise_level: torch.Tensor, text: dict[str, torch.Tensor]) -> torch.Tensor:
        clean = 1 - one_level(noise_level, "Mochi")  # its time, and its prediction, run from noise to video
        return -self.transformer(noisy.grid.to(self.dtype), text["tokens"], 1000 * clean, text["mask"]).sample


GRIDS["mochi"], FAMILIES["mochi"] = Grid(latent_px=8, patch=2, frames_per_latent=6), MochiBackbone


def write_tiny(root: Path) -> Path:
    shape: Any = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 3,
        "text_embed_dim": 16,
        "in_channels": 4,
    }
    widths: Any = {
        "encoder_block_out_channels": (32,) * 4,
        "decoder_block_out_channels": (32,) * 4,
        "layers_per_block": (1,) * 5,
    }
    MochiTransformer3DModel(**shape, pooled_projection_dim=16).save_pretrained(root / "transformer")
    AutoencoderKLMochi(**widths, latent_channels=4, latents_mean=(0.1,) * 4, latents_std=(0.8,) * 4).save_pretrained(
        root / "vae"
    )
    text: Any = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    T5EncoderModel(T5Config(**text)).save_pretrained(root / "text_encoder")
    ByT5Tokenizer().save_pretrained(root / "tokenizer")
    return root


if __name__ == "__main__":
    root = write_tiny(Path(tempfile.mkdtemp()))
    config = PretrainedBackboneConfig(
        "mochi", str(root), feature_layers=(2,), dtype="float32", text_cache=str(root / "text")
    )
    backbone = make_backbone(config)
    latents = backbone.encode(Video(2 * torch.rand(1, 3, 13, 32, 32) - 1, fps=24.0))
    features = backbone.features(latents, ["push the block"])
    print(f"latents {list(latents.grid.shape)} at {latents.fps:g} Hz, features {list(features.grid.shape)}")
