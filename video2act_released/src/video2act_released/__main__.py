"""`video2act-convert-released CHECKPOINT --out ...`, or `python -m video2act_released`."""

import sys
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

PROGRAM = "video2act-convert-released"


def convert(
    checkpoint: Positional[Path],
    out: Path,
    *,
    settings: Path,
    video_model: Path,
    ema: bool = False,
    norm: Literal["variance", "rms"] = "variance",
    rgb_latents: bool = False,
    feature_layer: int = 20,
    text_encoder: str = "google/t5-v1_1-xxl",
    text_cache: str = "",
    image_encoder: str = "google/siglip-so400m-patch14-384",
    cameras: tuple[str, ...] = ("cam_high", "cam_right_wrist", "cam_left_wrist"),
    fps: float = 25.0,
) -> None:
    """Turn a checkpoint of the released Video2Act code into a run folder of video2act.

    Args:
        checkpoint: pytorch_model.bin, DeepSpeed's mp_rank_00_model_states.pt, or a folder with one of them.
        out: run folder to write; it must be new or empty.
        settings: the yaml it was trained with.
        video_model: folder of the video model it was trained on; the checkpoint does not hold it, but its LoRA, if it
            has one.
        ema: the moving average instead of the weights.
        norm: variance, as timm 1.0.3 computes it; rms, if it was trained where NVIDIA's APEX was installed.
        rgb_latents: its latents were made of RGB frames; its own scripts swap red and blue.
        feature_layer: blocks of the video model that run.
        text_encoder: folder or repo id of its T5.
        text_cache: folder of text embeddings.
        image_encoder: folder or repo id of its SigLIP.
        cameras: names of the head, right and left camera.
        fps: control steps per second.
    """
    from video2act_released.config import Robot, Sources
    from video2act_released.convert import constant_notes, convert_released

    config = convert_released(
        checkpoint,
        out,
        settings=settings,
        video_model=video_model,
        ema=ema,
        norm=norm,
        bgr_latents=not rgb_latents,
        feature_layer=feature_layer,
        sources=Sources(text_encoder, text_cache, image_encoder),
        robot=Robot(fps, cameras),
    )
    streams = config.system2.streams if config.system2 else ()
    described = ", ".join(f"{stream.name} ({stream.former.kind})" for stream in streams)
    print(f"policy: {out}   streams: {described}   horizon: {config.horizon}")
    for line in constant_notes(config):
        print(f"note: {line}")


def main() -> None:
    """Errors that a user can correct are printed as one line."""
    try:
        tyro.cli(convert, prog=PROGRAM)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{PROGRAM}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
