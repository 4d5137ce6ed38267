"""Checkpoints in the released code's layouts, small and random."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from rdt_checkpoint import DEPTH, HEADS, HIDDEN, HORIZON, random_tensors, rdt_shapes
from video2act_released.convert import convert_released
from video2act_released.settings import Model, VideoSettings, read

FEATURES = 48


def former_shapes(
    stream: str, num_frames: int, per_frame: int, depth: int, is_temporal: bool
) -> dict[str, tuple[int, ...]]:
    """What one of its formers holds; 2 heads of 64, 24 wide."""
    width, inner, prefix = 24, 128, f"{stream}_token_compressor."
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}latents": (num_frames, per_frame, width),
        f"{prefix}time_pos_emb": (num_frames, 1, width),
        f"{prefix}goal_emb.0.weight": (2 * width, FEATURES),
        f"{prefix}goal_emb.0.bias": (2 * width,),
        f"{prefix}goal_emb.2.weight": (width, 2 * width),
        f"{prefix}goal_emb.2.bias": (width,),
        f"{prefix}norm.weight": (width,),
        f"{prefix}norm.bias": (width,),
    }
    for number in range(depth):
        layer = f"{prefix}layers.{number}."
        for norm in ("norm_media", "norm_latents"):
            shapes |= {f"{layer}0.{norm}.weight": (width,), f"{layer}0.{norm}.bias": (width,)}
        shapes |= {f"{layer}0.{name}.weight": (inner, width) for name in ("to_q", "to_k", "to_v")}
        shapes[f"{layer}0.to_out.weight"] = (width, inner)
        if is_temporal:
            shapes |= {f"{layer}1.qkv.weight": (3 * width, width), f"{layer}1.qkv.bias": (3 * width,)}
            shapes |= {f"{layer}1.proj.weight": (width, width), f"{layer}1.proj.bias": (width,)}
        mlp = f"{layer}{2 if is_temporal else 1}."
        shapes |= {f"{mlp}0.weight": (width,), f"{mlp}0.bias": (width,)}
        shapes |= {f"{mlp}1.weight": (4 * width, width), f"{mlp}1.bias": (4 * width,)}
        shapes |= {f"{mlp}3.weight": (width, 4 * width), f"{mlp}3.bias": (width,)}
    return shapes


def released_state(
    formers: str = "direct", streams: tuple[str, ...] = ("video", "motion"), seed: int = 0
) -> dict[str, Tensor]:
    """A checkpoint's tensors. `formers`: direct, formers or depth0."""
    shapes = rdt_shapes()
    shapes |= {"model.video_cond_pos_embed": (1, 10, HIDDEN), "model.video_encoder_pos_embed": (1, 14, HIDDEN)}
    for stream in streams:
        shapes |= {f"{stream}_layernorm.weight": (FEATURES,), f"{stream}_layernorm.bias": (FEATURES,)}
        if formers == "direct":
            shapes |= _adaptor(stream, FEATURES)
        else:
            frames, depth = (3 if stream == "motion" else 1), (0 if formers == "depth0" else 2)
            shapes |= former_shapes(stream, frames, 4, depth, is_temporal=stream == "motion")
    if formers != "direct":
        shapes |= _adaptor("video", 24)
    return random_tensors(shapes, seed)


def _adaptor(stream: str, before: int) -> dict[str, tuple[int, ...]]:
    name = f"{stream}_adaptor"
    return {
        f"{name}.0.weight": (HIDDEN, before),
        f"{name}.0.bias": (HIDDEN,),
        f"{name}.2.weight": (HIDDEN, HIDDEN),
        f"{name}.2.bias": (HIDDEN,),
    }


def write_layout(layout: str, folder: Path, state: dict[str, Tensor]) -> Path:
    """One of the ways in which such a checkpoint lies on disk; returns what a user would name."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "file":
        torch.save(state, folder / "pytorch_model.bin")
        return folder / "pytorch_model.bin"
    if layout == "folder":
        torch.save(state, folder / "pytorch_model.bin")
    elif layout == "deepspeed":
        (folder / "pytorch_model").mkdir()
        torch.save({"module": state}, folder / "pytorch_model" / "mp_rank_00_model_states.pt")
    elif layout == "with the video model":
        torch.save(
            state | {"wan_transformer.model.patch_embedding.weight": torch.zeros(3)}, folder / "pytorch_model.bin"
        )
    elif layout == "state_dict":
        torch.save({"state_dict": state}, folder / "pytorch_model.bin")
    elif layout == "ema":
        (folder / "ema").mkdir()
        torch.save(state, folder / "ema" / "pytorch_model.bin")
    return folder


def settings_yaml(
    extraction: tuple[str | None, str | None] = ("sobel", "fft"), is_dual: bool = True, formers: str = "direct"
) -> dict[str, Any]:
    """The released yaml, its frames shrunk."""
    raw, motion = extraction
    return {
        "common": {"action_chunk_size": HORIZON},
        "model": {
            "lang_adaptor": "mlp2x_gelu",
            "img_adaptor": "mlp2x_gelu",
            "state_adaptor": "mlp3x_gelu",
            "framepack_adaptor": "mlp2x_gelu",
            "core": {"hidden_size": HIDDEN, "depth": DEPTH, "num_heads": HEADS},
            "use_video_token_compressor": formers != "direct",
            "token_compressor_depth": 0 if formers == "depth0" else 2,
            "token_compressor_heads": 2,
            "use_dual_stream_framepack": is_dual,
            "dual_stream_framepack": {
                "raw_stream": {"num_frames": 1, "video_size": [16, 24], "extraction": raw},
                "motion_stream": {"num_frames": 9, "video_size": [16, 16], "extraction": motion},
            },
            "noise_scheduler": {"type": "ddpm", "num_inference_timesteps": 5, "prediction_type": "sample"},
            "video": {
                "video_size": [16, 24],
                "fps": 16,
                "motion_extraction": {"filter_type": "bandpass", "freq_low": 1.0, "freq_high": 7.0},
            },
        },
    }


def as_model(plain: dict[str, Any]) -> Model:
    """The yaml's model section, as it is read."""
    return read(Model, plain, where="task.yaml")


def as_video(plain: dict[str, Any]) -> VideoSettings:
    return read(VideoSettings, plain, where="task.yaml")


def write_yaml(folder: Path, settings: dict[str, Any]) -> Path:
    path = folder / "video2act.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def convert(checkpoint: Path, out: Path, settings: Path, video_model: Path, **options) -> Path:
    convert_released(checkpoint, out, settings=settings, video_model=video_model, feature_layer=1, **options)
    return out
