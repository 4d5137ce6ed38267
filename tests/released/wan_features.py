"""The video branch of the released policies, by diffusers' own Wan transformer: latents and text -> features."""

from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from einops import rearrange
from torch import Tensor

from video2act.config import TuningConfig
from video2act.system2.backbones.wan import use_exact_timesteps
from video2act.system2.backbones.wan_original import transformer_name
from video2act.types import Video
from video2act.video_backbone import VideoBackbone


def load_wan(weights: dict[str, Tensor], config: dict[str, Any]) -> WanTransformer3DModel:
    """A model of an original config, with original weights."""
    model = WanTransformer3DModel(
        patch_size=tuple(config["patch_size"]),
        num_attention_heads=config["num_heads"],
        attention_head_dim=config["dim"] // config["num_heads"],
        in_channels=config["in_dim"],
        out_channels=config["out_dim"],
        text_dim=config["text_dim"],
        freq_dim=config["freq_dim"],
        ffn_dim=config["ffn_dim"],
        num_layers=config["num_layers"],
        eps=config["eps"],
    )
    model.load_state_dict({transformer_name(name): tensor for name, tensor in weights.items()})
    use_exact_timesteps(model)
    return model.eval().requires_grad_(False)


def with_lora(weights: dict[str, Tensor], lora: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Low-rank changes added to the weights they change."""
    merged = dict(weights)
    for name, down in lora.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            merged[f"{layer}.weight"] = weights[f"{layer}.weight"] + scale * lora[f"{layer}.lora_B.weight"] @ down
    return merged


def wan_tokens(
    model: WanTransformer3DModel, latents: Tensor, context: Tensor, num_layers: int, timestep: Tensor
) -> Tensor:
    """Hidden states `[b n d]` after `num_layers` blocks, tokens in the order frame, row, column."""
    rotary = model.rope(latents)
    hidden = model.patch_embedding(latents).flatten(2).transpose(1, 2)
    _, modulation, text, _ = model.condition_embedder(timestep, context, None)
    for block in list(model.blocks)[:num_layers]:
        hidden = block(hidden, text, modulation.unflatten(1, (6, -1)), rotary)
    return hidden


class WanFeatures(VideoBackbone):
    """A `VideoBackbone` for latents at diffusion time 0, whose text is given as embeddings."""

    def __init__(self, model: WanTransformer3DModel, num_layers: int):
        super().__init__()
        self.model, self.num_layers = model, num_layers
        self.patch_size = model.patch_embedding.kernel_size
        self.context = torch.zeros(0)

    @property
    def width(self) -> int:
        return self.model.patch_embedding.out_channels

    @property
    def feature_dim(self) -> int:
        return self.width

    @torch.no_grad()
    def features(self, latents: Video, instruction: list[str], *, noise_level: torch.Tensor | None = None) -> Video:
        _, _, t, h, w = latents.grid.shape
        p_t, p_h, p_w = self.patch_size
        zero = torch.zeros(len(latents.grid))
        tokens = wan_tokens(self.model, latents.grid, self.context, self.num_layers, zero)
        return Video(rearrange(tokens, "b (t h w) d -> b d t h w", t=t // p_t, h=h // p_h, w=w // p_w), latents.fps)

    def encode(self, pixels: Video) -> Video:
        raise NotImplementedError("these fixtures begin with latents")

    def decode(self, latents: Video) -> Video:
        raise NotImplementedError("these fixtures end with features")

    def velocity(self, noisy: Video, noise_level: torch.Tensor, *, instruction: list[str]) -> Video:
        raise NotImplementedError("these fixtures are not trained")

    def learn(self, tuning: TuningConfig) -> None:
        raise NotImplementedError("these fixtures are not trained")
