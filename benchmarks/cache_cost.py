"""What it costs to let System 2's encoder see an episode: a window per control step, as the released code does,
against a stream.

    python benchmarks/cache_cost.py [--length 200]

Counted, not timed: operations of the encoder of Wan 2.2 as published (built without weights), by torch's own counter,
and bytes of the latents that are stored, for the two streams of the preset `official`. The same episode, stage and
dtype on both sides.
"""

from dataclasses import dataclass, replace

import torch
import tyro
from diffusers import AutoencoderKLWan
from torch.utils.flop_counter import FlopCounterMode

from video2act.config import StreamConfig
from video2act.presets import DataSpec, official

WAN22_VAE = {
    "base_dim": 160,
    "z_dim": 48,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "temperal_downsample": [False, True, True],
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "is_residual": True,
    "scale_factor_spatial": 16,
    "decoder_base_dim": 256,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
"""Wan 2.2's, as published; the mean and deviation of latents do not change what it costs"""

GROUP, PATCH, CHANNELS = 4, 16, 48


@dataclass(frozen=True)
class Cost:
    """Of one stream over an episode."""

    flops: float
    num_bytes: int


def encoder_flops(vae: AutoencoderKLWan, num_frames: int, height: int, width: int) -> tuple[float, float]:
    """Operations of a clip, and of four more frames that continue it."""

    def count(frames: int) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            vae.encode(torch.empty(1, 3, frames, height, width, device="meta"))
        return float(counter.get_total_flops())

    whole = count(num_frames)
    return whole, count(9) - count(5) if num_frames > 1 else whole


def window_cost(vae: AutoencoderKLWan, stream: StreamConfig, length: int) -> Cost:
    """Every control step encodes its clip, and stores its latents (float16)."""
    whole, _ = encoder_flops(vae, stream.num_frames, *stream.frame_px)
    looks = -(-length // stream.every)
    latents = 1 + (stream.num_frames - 1) // GROUP
    return Cost(looks * whole, looks * latents * _latent_bytes(stream))


def stream_cost(vae: AutoencoderKLWan, stream: StreamConfig, length: int) -> Cost:
    """The encoder goes through the episode once; every latent is stored once."""
    if stream.encoding == "window":
        return window_cost(vae, stream, length)
    first, _ = encoder_flops(vae, 1, *stream.frame_px)
    _, more = encoder_flops(vae, stream.num_frames, *stream.frame_px)
    groups = (length - 1) // (stream.stride * GROUP)
    return Cost(first + groups * more, (1 + groups) * _latent_bytes(stream))


def _latent_bytes(stream: StreamConfig) -> int:
    height, width = stream.frame_px
    return 2 * CHANNELS * (height // PATCH) * (width // PATCH)


def main(length: int = 200) -> None:
    """Print the comparison as markdown.

    Args:
        length: control steps of the episode.
    """
    with torch.device("meta"):
        vae = AutoencoderKLWan(**WAN22_VAE)
    system2 = official(DataSpec(14, 14, 25.0, ("head",))).system2
    assert system2 is not None
    windows = replace(system2, filter_on="features").streams
    motion = replace(windows[1], encoding="stream")
    streams = replace(system2, filter_on="features", streams=(windows[0], motion)).streams
    print(f"An episode of {length} control steps, Wan 2.2's encoder, latents in float16.\n")
    print(
        "| stream | windows: TFLOP | stream: TFLOP | less | windows: MB | stream: MB | less "
        "|\n|---|---|---|---|---|---|---|"
    )
    total = [Cost(0, 0), Cost(0, 0)]
    for old, new in zip(windows, streams, strict=True):
        costs = [window_cost(vae, old, length), stream_cost(vae, new, length)]
        total = [Cost(a.flops + b.flops, a.num_bytes + b.num_bytes) for a, b in zip(total, costs, strict=True)]
        _print(old.name, *costs)
    _print("both", *total)


def _print(name: str, old: Cost, new: Cost) -> None:
    flops = f"{old.flops / 1e12:.0f} | {new.flops / 1e12:.1f} | {old.flops / new.flops:.0f} x"
    print(
        f"| {name} | {flops} | {old.num_bytes / 1e6:.1f} | {new.num_bytes / 1e6:.1f} | "
        f"{old.num_bytes / new.num_bytes:.0f} x |"
    )


if __name__ == "__main__":
    tyro.cli(main)
