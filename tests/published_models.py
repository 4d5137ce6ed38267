"""Tiny instances of published video models, random weights, written as their authors publish them: same files, names,
configs.

Each writer fills a folder and returns it. Weights are drawn wide enough that features differ visibly between blocks.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXTransformer3DModel,
    CosmosTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

TEXT_WIDTH = 16
DEPTH = 3

T5 = {
    "d_model": TEXT_WIDTH,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 384,
    "dropout_rate": 0.0,
}
WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "ffn_dim": 32,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 16,
    "num_layers": DEPTH,
}


def stir(network: Any, seed: int = 0) -> Any:
    """Random weights that keep signals alive: matrices of about unit gain, norms near one, small biases and offsets."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2 or "gamma" in name:
                parameter.copy_(0.1 * noise + ("bias" not in name))
            elif "table" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return network.eval()


def write_text_encoder(
    root: Path, kind: Any = UMT5EncoderModel, config: Any = UMT5Config, width: int = TEXT_WIDTH
) -> None:
    torch.manual_seed(1)
    encoder = kind(config(**(T5 | {"d_model": width, "feed_forward_proj": "gated-gelu"})))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(3)
    encoder.save_pretrained(root / "text_encoder")
    ByT5Tokenizer().save_pretrained(root / "tokenizer")


def write_index(root: Path, pipeline: str) -> None:
    (root / "model_index.json").write_text(json.dumps({"_class_name": pipeline, "_diffusers_version": "0.35.0"}))


def write_wan21(root: Path, text: bool = True, **changes: Any) -> Path:
    stir(WanTransformer3DModel(**{**WAN, "in_channels": 16, "out_channels": 16, **changes})).save_pretrained(
        root / "transformer"
    )
    stir(AutoencoderKLWan(base_dim=4, z_dim=16), seed=1).save_pretrained(root / "vae")
    return _finish(root, "WanPipeline", text)


def wan22_vae(base: int = 4, decoder: int = 4) -> AutoencoderKLWan:
    statistics: dict[str, Any] = {"latents_mean": [0.1] * 48, "latents_std": [0.8] * 48}
    shape: dict[str, Any] = {
        "base_dim": base,
        "decoder_base_dim": decoder,
        "z_dim": 48,
        "in_channels": 12,
        "out_channels": 12,
    }
    shape |= {"is_residual": True, "patch_size": 2, "scale_factor_spatial": 16}
    return stir(AutoencoderKLWan(**shape, **statistics), seed=1)


def write_wan22(root: Path, text: bool = True, **changes: Any) -> Path:
    transformer = stir(WanTransformer3DModel(**{**WAN, "in_channels": 48, "out_channels": 48, **changes}))
    transformer.save_pretrained(root / "transformer", max_shard_size="20KB")  # the real one comes in shards
    wan22_vae().save_pretrained(root / "vae")
    return _finish(root, "WanPipeline", text)


def _finish(root: Path, pipeline: str, text: bool) -> Path:
    if text:
        write_text_encoder(root)
    write_index(root, pipeline)
    return root


# the other families


def write_hunyuan(root: Path) -> Path:
    shape: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "rope_axes_dim": (4, 6, 6),
        "in_channels": 4,
    }
    shape |= {"out_channels": 4, "num_layers": 1, "num_single_layers": DEPTH - 1, "num_refiner_layers": 1}
    shape |= {"text_embed_dim": TEXT_WIDTH, "pooled_projection_dim": 12}
    stir(HunyuanVideoTransformer3DModel(**shape)).save_pretrained(root / "transformer")
    widths: Any = (8, 8, 8, 8)
    codec = AutoencoderKLHunyuanVideo(
        block_out_channels=widths, norm_num_groups=4, layers_per_block=1, latent_channels=4
    )
    stir(codec, seed=1).save_pretrained(root / "vae")
    words, clip_words = character_tokenizer(), character_tokenizer("<bos> $A <eos>")
    size: dict[str, Any] = {"vocab_size": len(words), "intermediate_size": 24, "num_attention_heads": 2}
    torch.manual_seed(1)
    llama = LlamaModel(LlamaConfig(hidden_size=TEXT_WIDTH, num_hidden_layers=3, num_key_value_heads=2, **size))
    ids: dict[str, Any] = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    clip = CLIPTextModel(CLIPTextConfig(hidden_size=12, num_hidden_layers=1, projection_dim=12, **size, **ids))
    for number, encoder, tokenizer in (("", llama, words), ("_2", clip, clip_words)):
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.mul_(5)
        encoder.save_pretrained(root / f"text_encoder{number}")
        tokenizer.save_pretrained(root / f"tokenizer{number}")
    return _finish(root, "HunyuanVideoPipeline", text=False)


def character_tokenizer(template: str = "<bos> $A") -> PreTrainedTokenizerFast:
    """One token per printable character, and marks: one in front, as LLaMA's tokenizer sets it, or also one at the end
    (CLIP)."""
    marks = ["<pad>", "<bos>", "<eos>", "<unk>"]
    words = {word: number for number, word in enumerate([*marks, "\n", *map(chr, range(32, 127))])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=[(mark, words[mark]) for mark in marks]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def write_cogvideox(root: Path, **changes: Any) -> Path:
    shape: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4}
    shape |= {
        "time_embed_dim": 16,
        "text_embed_dim": TEXT_WIDTH,
        "num_layers": DEPTH,
        "sample_width": 8,
        "sample_height": 8,
    }
    shape |= {"sample_frames": 9, "use_rotary_positional_embeddings": True} | changes
    stir(CogVideoXTransformer3DModel(**shape)).save_pretrained(root / "transformer")
    widths: Any = (8, 8, 8, 8)
    codec = AutoencoderKLCogVideoX(block_out_channels=widths, norm_num_groups=2, layers_per_block=1, latent_channels=4)
    stir(codec, seed=1).save_pretrained(root / "vae")
    schedule = CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=1.0)
    schedule.save_pretrained(root / "scheduler")
    write_text_encoder(root, T5EncoderModel, T5Config)
    return _finish(root, "CogVideoXPipeline", text=False)


def write_cogvideox15(root: Path) -> Path:
    return write_cogvideox(root, patch_size_t=2)


def write_ltx(root: Path) -> Path:
    shape: dict[str, Any] = {"in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 12}
    shape |= {"cross_attention_dim": 24, "caption_channels": TEXT_WIDTH, "num_layers": DEPTH}
    stir(LTXVideoTransformer3DModel(**shape)).save_pretrained(root / "transformer")
    widths, layers = (8, 8, 8, 8), (1, 1, 1, 1, 1)
    codec = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=widths,
        decoder_block_out_channels=widths,
        layers_per_block=layers,
        decoder_layers_per_block=layers,
    )
    stir(codec, seed=1)
    codec.latents_mean.fill_(0.1)
    codec.latents_std.fill_(0.8)
    codec.save_pretrained(root / "vae")
    write_text_encoder(root, T5EncoderModel, T5Config)
    return _finish(root, "LTXPipeline", text=False)


def write_cosmos(root: Path, in_channels: int = 17) -> Path:
    shape: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": 16,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
    }
    shape |= {
        "num_layers": DEPTH,
        "mlp_ratio": 2.0,
        "text_embed_dim": TEXT_WIDTH,
        "adaln_lora_dim": 4,
        "max_size": (8, 16, 16),
    }
    shape |= {"rope_scale": (1.0, 3.0, 3.0), "extra_pos_embed_type": None}
    stir(CosmosTransformer3DModel(**shape)).save_pretrained(root / "transformer")
    stir(AutoencoderKLWan(base_dim=4, z_dim=16), seed=1).save_pretrained(root / "vae")
    write_text_encoder(root, T5EncoderModel, T5Config)
    return _finish(root, "Cosmos2VideoToWorldPipeline", text=False)


# Wan's original files

RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}


def original_transformer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> Wan's, written down apart from the library's own translation."""
    pairs = [
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("proj_out", "head.head"),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        (".norm2.", ".norm3."),
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        ("to_out.0", "o"),
        *((f"to_{letter}.", f"{letter}.") for letter in "qkv"),
    ]
    renamed = {}
    for name, tensor in state.items():
        new = "head.modulation" if name == "scale_shift_table" else name.replace("scale_shift_table", "modulation")
        for ours, theirs in pairs:
            new = new.replace(ours, theirs)
        renamed[new] = tensor
    return renamed


def original_vae(vae: AutoencoderKLWan) -> dict[str, Tensor]:
    """diffusers' names -> those of Wan2.1_VAE.pth or Wan2.2_VAE.pth."""
    is_22 = vae.config["is_residual"]
    renamed = {}
    for name, tensor in vae.state_dict().items():
        half, *rest = name.split(".")
        if half in ("quant_conv", "post_quant_conv"):
            renamed[f"{'conv1' if half == 'quant_conv' else 'conv2'}.{rest[-1]}"] = tensor
            continue
        way = {"down_blocks": "downsamples", "up_blocks": "upsamples"}.get(rest[0])
        if rest[0] in ("conv_in", "norm_out", "conv_out"):
            new = [{"conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2"}[rest[0]], rest[1]]
        elif rest[0] == "mid_block":
            place = "1" if rest[1] == "attentions" else str(2 * int(rest[2]))
            new = ["middle", place, RESIDUAL.get(rest[3], rest[3]), *rest[4:]]
        elif way == "downsamples" and not is_22:
            new = [way, rest[1], RESIDUAL.get(rest[2], rest[2]), *rest[3:]]
        else:
            stage, part = rest[1], rest[2]
            num_residual = 2 if way == "downsamples" else 3
            place, tail = (
                (rest[3], rest[4:]) if part == "resnets" else (str(num_residual), rest[4:] if not is_22 else rest[3:])
            )
            tail = [RESIDUAL.get(tail[0], tail[0]), *tail[1:]]
            new = [way, stage, way, place, *tail] if is_22 else [way, str(4 * int(stage) + int(place)), *tail]
        renamed[".".join([half, *map(str, new)])] = tensor
    return renamed


def original_text(encoder: nn.Module) -> dict[str, Tensor]:
    """transformers' names -> those of models_t5_umt5-xxl-enc-bf16.pth."""
    pairs = [
        ("encoder.block.", "blocks."),
        ("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"),
        ("layer.0.SelfAttention", "attn"),
        ("layer.0.layer_norm", "norm1"),
        ("layer.1.layer_norm", "norm2"),
        ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"),
        ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
        ("layer.1.DenseReluDense.wo", "ffn.fc2"),
        ("encoder.final_layer_norm", "norm"),
        ("shared", "token_embedding"),
    ]
    renamed = {}
    for name, tensor in encoder.state_dict().items():
        if name == "encoder.embed_tokens.weight":
            continue
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        renamed[name] = tensor.clone()
    return renamed


def write_original(root: Path, diffusers_root: Path) -> Path:
    """The model of a diffusers folder in Wan's own files."""
    root.mkdir(parents=True, exist_ok=True)
    transformer = WanTransformer3DModel.from_pretrained(diffusers_root / "transformer")
    config = transformer.config
    said = {
        "_class_name": "WanModel",
        "dim": 24,
        "num_heads": config["num_attention_heads"],
        "num_layers": config["num_layers"],
    }
    (root / "config.json").write_text(json.dumps(said))
    state = original_transformer(transformer.state_dict())
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()}, root / "diffusion_pytorch_model.safetensors"
    )
    vae = AutoencoderKLWan.from_pretrained(diffusers_root / "vae")
    torch.save(original_vae(vae), root / f"Wan2.{2 if vae.config['is_residual'] else 1}_VAE.pth")
    encoder = UMT5EncoderModel.from_pretrained(diffusers_root / "text_encoder")
    torch.save(original_text(encoder), root / "models_t5_umt5-xxl-enc-bf16.pth")
    ByT5Tokenizer().save_pretrained(root / "google" / "umt5-xxl")
    return root
