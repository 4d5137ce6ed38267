"""How large a published video model is, from configs alone: no weight is read, and no memory taken.

The configs of the models that presets name are here, so that they can be compared before a download. They are as their
authors publish them; what is left out is the default of diffusers' class.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from video2act.config import PretrainedBackboneConfig, ScratchConfig
from video2act.presets import SMALL_SOURCE
from video2act.system2.backbones.published import family
from video2act.system2.backbones.scratch import transformer_config, vae_config
from video2act.system2.backbones.sources import locate
from video2act.system2.backbones.tap import count_blocks, described, empty

Configs = tuple[dict[str, Any], dict[str, Any]]
"""of the transformer and of the VAE"""

_WAN = {"attention_head_dim": 128, "in_channels": 16, "out_channels": 16}
_VAE22 = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True}
_VAE22 |= {"in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16}
_COGVIDEOX = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
_COGVIDEOX15 = {"patch_size_t": 2, "patch_bias": False, "sample_height": 300, "sample_width": 300, "sample_frames": 81}

PUBLISHED: dict[str, Configs] = {
    SMALL_SOURCE: (transformer_config(ScratchConfig()), vae_config(ScratchConfig())),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": (_WAN | {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, {}),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": (_WAN | {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}, {}),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": (
        {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
        _VAE22,
    ),
    "hunyuanvideo-community/HunyuanVideo": ({"guidance_embeds": True}, {}),
    "zai-org/CogVideoX-5b": (_COGVIDEOX, {"scaling_factor": 0.7}),
    "zai-org/CogVideoX1.5-5B": (_COGVIDEOX | _COGVIDEOX15, {"scaling_factor": 0.7}),
    "Lightricks/LTX-Video": ({}, {}),
    "nvidia/Cosmos-Predict2-2B-Video2World": (
        {"num_attention_heads": 16, "in_channels": 17, "rope_scale": (1.0, 3.0, 3.0), "extra_pos_embed_type": None},
        {},
    ),
}


@dataclass(frozen=True)
class Size:
    """A video model's, whole and as System 2 loads it."""

    num_blocks: int
    whole: int
    """parameters of the transformer"""
    kept: int
    """loaded parameters of the transformer: its first blocks, and what stands before and behind them"""
    encoder: int
    """parameters of the VAE's encoder"""
    bytes: int
    """memory of what is loaded, in the config's dtype, the VAE in float32"""
    feature_dim: int


def size_of(config: PretrainedBackboneConfig) -> Size:
    """
    Raises:
        FileNotFoundError: the source is neither a folder, nor known here, nor can be fetched.
        ValueError: its configs are damaged.
    """
    kind = family(config.name)
    if config.source in PUBLISHED:
        of_transformer, of_vae = PUBLISHED[config.source]
        transformer: Any = empty(kind.TRANSFORMER, of_transformer)
        vae: Any = empty(kind.VAE, of_vae)
    else:
        parts = kind.find(locate(config.source))
        transformer, vae = described(kind.TRANSFORMER, parts.transformer), described(kind.VAE, parts.vae)
    num_blocks, whole = count_blocks(transformer, kind.BLOCKS), _count(transformer)
    kind.cut(config).apply(transformer)
    kept = _count(transformer)
    vae.decoder = None
    encoder = _count(vae)
    width = 2 if config.dtype == "bfloat16" else 4
    feature_dim = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    return Size(num_blocks, whole, kept, encoder, width * kept + 4 * encoder, feature_dim)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
