"""Wan's files as its authors publish them, read as diffusers' networks.

    config.json                                    may be absent: shapes say everything but the number of heads
    diffusion_pytorch_model*.safetensors           the transformer (or a .pth of the same names)
    Wan2.1_VAE.pth or Wan2.2_VAE.pth
    models_t5_umt5-xxl-enc-bf16.pth, google/umt5-xxl/     UMT5's encoder and its tokenizer

Only names differ from diffusers', so only names are translated; an unknown one stays, and the strict comparison with
the config reports it. Configs are derived from shapes: diffusers mistakes the 5B for another model.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from video2act.files.tensor_files import read_json, shards
from video2act.files.video_model import WAN_VAE_FILES
from video2act.files.weights import check_fit
from video2act.system2.backbones.checkpoint import Checkpoint, fill
from video2act.system2.backbones.sources import Component
from video2act.system2.backbones.text_encoders import identity
from video2act.text.t5 import T5Text

T5_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
HEAD_DIM = 128
"""of every published Wan"""

# per channel, of the latents that Wan 2.2 was trained on (Wan2.2, wan/modules/vae2_2.py); those of 2.1 are diffusers'
# defaults
VAE22_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
VAE22_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip


Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""regular expressions over a tensor's name, applied in turn, and what stands in their place"""


# the transformer

TRANSFORMER_NAMES = (
    (r"^(text|time)_embedding\.0\.", r"condition_embedder.\1_embedder.linear_1."),
    (r"^(text|time)_embedding\.2\.", r"condition_embedder.\1_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^head\.head\.", "proj_out."),
    (r"^(head|blocks\.\d+)\.modulation$", lambda found: f"{found[1]}.scale_shift_table".removeprefix("head.")),
    # the norm before cross-attention is the third in the original and the second in diffusers
    (r"^(blocks\.\d+)\.norm3\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.ffn\.0\.", r"\1.ffn.net.0.proj."),
    (r"^(blocks\.\d+)\.ffn\.2\.", r"\1.ffn.net.2."),
    (r"^(blocks\.\d+)\.self_attn\.", r"\1.attn1."),
    (r"^(blocks\.\d+)\.cross_attn\.", r"\1.attn2."),
    (r"\.(attn[12])\.([qkv])\.", r".\1.to_\2."),
    (r"\.(attn[12])\.o\.", r".\1.to_out.0."),
)


def transformer_name(name: str) -> str:
    """`blocks.0.self_attn.q.weight` -> `blocks.0.attn1.to_q.weight`, and so on."""
    return _renamed(name, TRANSFORMER_NAMES)


def _renamed(name: str, rules: Rules) -> str:
    """The name after all rules, each a regular expression and what stands in its place."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def transformer(root: Path) -> Component:
    """Raises FileNotFoundError without weights, ValueError for a file that is not Wan's transformer."""
    checkpoint = Checkpoint(_transformer_files(root), transformer_name)
    inner, channels, *patch = _shape(checkpoint, "patch_embedding.weight", num_axes=5)
    path = root / "config.json"
    said = read_json(path) if path.is_file() else {}
    num_heads = _num_heads(path, said.get("num_heads"), inner=inner, weights=checkpoint.where)
    sizes = {
        "dim": inner,
        "in_dim": channels,
        "out_dim": _shape(checkpoint, "proj_out.weight")[0] // math.prod(patch),
        "ffn_dim": _shape(checkpoint, "blocks.0.ffn.net.0.proj.weight")[0],
        "num_layers": _num_blocks(checkpoint, r"blocks\.(\d+)\."),
    }
    for name, found in sizes.items():
        if said.get(name, found) != found:
            raise ValueError(
                f"{path} says {name}={said[name]}, but the weights in {checkpoint.where} have {found}: they belong to "
                "models of different size; download both again from one place"
            )
    config = {
        "patch_size": tuple(patch),
        "num_attention_heads": num_heads,
        "attention_head_dim": inner // num_heads,
        "in_channels": channels,
        "out_channels": sizes["out_dim"],
        "text_dim": _shape(checkpoint, "condition_embedder.text_embedder.linear_1.weight")[1],
        "freq_dim": _shape(checkpoint, "condition_embedder.time_embedder.linear_1.weight")[1],
        "ffn_dim": sizes["ffn_dim"],
        "num_layers": sizes["num_layers"],
    }
    return Component(checkpoint.where, config, checkpoint)


def _num_heads(path: Path, said: Any, *, inner: int, weights: Path) -> int:
    """As config.json says; without it, of heads as wide as every published Wan's."""
    if said is None:
        if inner % HEAD_DIM:
            raise ValueError(
                f"{weights} is {inner} wide, which is no number of heads of {HEAD_DIM}, and {path} does not say how "
                "many there are; put the config.json beside the weights that came with them, with num_heads"
            )
        return inner // HEAD_DIM
    if not isinstance(said, int) or isinstance(said, bool) or said < 1 or inner % said:
        raise ValueError(
            f"{path} says num_heads={said!r}, expected a whole number that divides {inner}, the width of the weights "
            f"in {weights}; download both again from one place"
        )
    return said


def _transformer_files(root: Path) -> list[Path]:
    single = "diffusion_pytorch_model.safetensors"
    if (root / single).is_file() or (root / f"{single}.index.json").is_file():
        return shards(root, single)
    others = {root / name for name in (*WAN_VAE_FILES, T5_FILE)}
    files = sorted(root.glob("*.safetensors")) or sorted(set(root.glob("*.pth")) - others)
    if not files:
        raise FileNotFoundError(
            f"{root} has a Wan VAE but no transformer (diffusion_pytorch_model*.safetensors); download it again"
        )
    return files


# the VAE

STAGE = 4
"""entries of a stage of Wan 2.1's decoder, which is one flat list: three residual blocks and an upsampler"""


def _decoder_stage(found: re.Match[str]) -> str:
    stage, place = divmod(int(found[1]), STAGE)
    return f".up_blocks.{stage}." + ("upsamplers.0." if place == STAGE - 1 else f"resnets.{place}.")


VAE_NAMES = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(\w+)\.conv1\.", r"\1.conv_in."),
    (r"^(\w+)\.head\.0\.", r"\1.norm_out."),
    (r"^(\w+)\.head\.2\.", r"\1.conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
    # 2.2: stages of residual blocks, each with a sampler behind
    (r"\.(down|up)samples\.(\d+)\.\1samples\.\d+\.(resample|time_conv)\.", r".\1_blocks.\2.\1sampler.\3."),
    (r"\.(down|up)samples\.(\d+)\.\1samples\.(\d+)\.", r".\1_blocks.\2.resnets.\3."),
    # 2.1: diffusers keeps the encoder's flat list, and gives the decoder stages
    (r"\.downsamples\.(\d+)\.", r".down_blocks.\1."),
    (r"\.upsamples\.(\d+)\.", _decoder_stage),
)


def vae_name(name: str) -> str:
    """`encoder.downsamples.0.residual.2.weight` -> `encoder.down_blocks.0.conv1.weight`, and so on, for both."""
    return _renamed(name, VAE_NAMES)


def vae(root: Path) -> Component:
    """Raises ValueError for a file that is not Wan's VAE."""
    path = next(root / name for name in WAN_VAE_FILES if (root / name).is_file())
    checkpoint = Checkpoint([path], vae_name)
    base, channels = _shape(checkpoint, "encoder.conv_in.weight", num_axes=5)[:2]
    latent = _shape(checkpoint, "post_quant_conv.weight", num_axes=5)[0]
    decoder = _shape(checkpoint, "decoder.conv_in.weight", num_axes=5)[0]
    config: dict[str, Any] = {"base_dim": base, "z_dim": latent}
    if path.name == WAN_VAE_FILES[0]:
        config |= {
            "decoder_base_dim": decoder // 4,  # its widest stage is four times as wide
            "in_channels": channels,
            "out_channels": channels,
            "is_residual": True,
            "patch_size": 2,
            "scale_factor_spatial": 16,
            "latents_mean": list(VAE22_MEAN),
            "latents_std": list(VAE22_STD),
        }
    return Component(path, config, checkpoint)


# the text encoder

TEXT_NAMES = (
    (r"^token_embedding\.", "shared."),
    (r"^norm\.", "encoder.final_layer_norm."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.block.\1.layer.0.SelfAttention."),
    (r"^blocks\.(\d+)\.pos_embedding\.embedding\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
)


def text_name(name: str) -> str:
    """`blocks.0.attn.q.weight` -> `encoder.block.0.layer.0.SelfAttention.q.weight`, and so on."""
    return _renamed(name, TEXT_NAMES)


def text_width(root: Path) -> int | None:
    """Width of its tokens; None without the file."""
    path = root / T5_FILE
    if not path.is_file():
        return None
    return _shape(Checkpoint([path], text_name), "shared.weight")[1]


def text_encoder(root: Path, dtype: torch.dtype, *, max_tokens: int, clean: Callable[[str], str]) -> T5Text:
    """UMT5's encoder, in `dtype` on the CPU."""
    checkpoint = Checkpoint([root / T5_FILE], text_name)
    fingerprint = identity(checkpoint.fingerprint(), dtype)
    form = {"tokenizer": root / "google" / "umt5-xxl", "max_tokens": max_tokens, "clean": clean}
    return T5Text(lambda _: load_text_encoder(checkpoint, dtype), lambda: fingerprint, **form)


def load_text_encoder(checkpoint: Checkpoint, dtype: torch.dtype) -> nn.Module:
    """Raises ValueError for a file that is not UMT5's encoder."""
    words, width = _shape(checkpoint, "shared.weight")
    attention, block = "encoder.block.0.layer.0.SelfAttention", r"encoder\.block\.(\d+)\."
    inner = _shape(checkpoint, f"{attention}.q.weight")[0]
    buckets, heads = _shape(checkpoint, f"{attention}.relative_attention_bias.weight")
    config = UMT5Config(
        vocab_size=words,
        d_model=width,
        d_kv=inner // heads,
        d_ff=_shape(checkpoint, "encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
        num_layers=_num_blocks(checkpoint, block),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    with init_empty_weights(include_buffers=False):
        encoder: Any = UMT5EncoderModel(config).eval()
    tied = "encoder.embed_tokens.weight"  # the same table as `shared`
    own = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items() if name != tied}
    check_fit(own, checkpoint.shapes, source=checkpoint.where)
    encoder.encoder.embed_tokens = nn.Identity()
    fill(encoder, checkpoint, dtype=dtype)
    encoder.set_input_embeddings(encoder.shared)
    return encoder


def _shape(checkpoint: Checkpoint, name: str, *, num_axes: int = 2) -> tuple[int, ...]:
    shape = checkpoint.shapes.get(name)
    if shape is None or len(shape) != num_axes:
        raise ValueError(
            f"{checkpoint.where} is not Wan's file of that name: expected {name} with {num_axes} axes, found "
            f"{'none' if shape is None else list(shape)}"
        )
    return shape


def _num_blocks(checkpoint: Checkpoint, pattern: str) -> int:
    return 1 + max(int(found[1]) for name in checkpoint.shapes if (found := re.match(pattern, name)))
