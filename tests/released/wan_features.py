"""The video branch of the released policies, by diffusers' own Wan transformer: latents and text embeddings -> features.

`load_wan` is all that these tests need to know of original Wan checkpoints.
"""

import re
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from einops import rearrange
from torch import Tensor

from video2act.system2.backbones.wan import use_exact_timesteps
from video2act.types import Video

_MODULES = {
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "norm3": "norm2",  # diffusers numbers them in order of use
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    "modulation": "scale_shift_table",
}


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
    model.load_state_dict({_name(name): tensor for name, tensor in weights.items()})
    use_exact_timesteps(model)
    return model.eval().requires_grad_(False)


def _name(original: str) -> str:
    for theirs, ours in _MODULES.items():
        original, count = re.subn(rf"(^|\.){re.escape(theirs)}(\.|$)", rf"\g<1>{ours}\g<2>", original)
        if count:
            break
    original = re.sub(r"(attn[12])\.([qkv])\.", r"\1.to_\2.", original)
    return re.sub(r"(attn[12])\.o\.", r"\1.to_out.0.", original)


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


class WanFeatures(torch.nn.Module):
    """A `VideoBackbone` for latents at diffusion time 0, whose text is given as embeddings."""

    def __init__(self, model: WanTransformer3DModel, num_layers: int):
        super().__init__()
        self.model, self.num_layers = model, num_layers
        self.feature_dim = model.patch_embedding.out_channels
        self.patch_size = model.patch_embedding.kernel_size
        self.context = torch.zeros(0)

    @torch.no_grad()
    def features(self, latents: Video, instruction: list[str]) -> Video:
        _, _, t, h, w = latents.grid.shape
        p_t, p_h, p_w = self.patch_size
        zero = torch.zeros(len(latents.grid))
        tokens = wan_tokens(self.model, latents.grid, self.context, self.num_layers, zero)
        return Video(rearrange(tokens, "b (t h w) d -> b d t h w", t=t // p_t, h=h // p_h, w=w // p_w), latents.fps)

    def encode(self, pixels: Video) -> Video:
        raise NotImplementedError("these fixtures begin with latents")

    decode = velocity = encode
