"""Looking ahead: future latents are appended as noise, and the video model runs over past and future in one pass.

What its blocks make of the noise is what it expects to happen (arXiv 2412.14803, 2512.15692). The noise is always the
same, so features are a function of the past alone, in training, caches and on the robot. No frame after the newest one
is read.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from video2act.config import ImagineConfig, StreamConfig
from video2act.types import Video
from video2act.video_backbone import VideoBackbone


def features_of(imagine: ImagineConfig, latents: Video, *, instruction: list[str], backbone: VideoBackbone) -> Video:
    """A video model's features of latents and of the future that a stream imagines."""
    if not imagine.num_frames:
        return backbone.features(latents, instruction)
    whole, level = append_future(latents, imagine, backbone=backbone)
    features = backbone.features(whole, instruction, noise_level=level)
    return kept_positions(features, imagine, num_past=latents.grid.shape[2])


def foreseen(stream: StreamConfig, latents: Video, *, instruction: list[str], backbone: VideoBackbone) -> Video:
    """The frames `[b 3 num_frames h w]`, in RGB, that a video model imagines after a stream's clip, in one step.

    That is the mean of all futures: blurred where several are possible.

    Raises:
        ValueError: a published model that was loaded without the blocks and the decoder that this needs.
    """
    whole, level = append_future(latents, stream.imagine, backbone=backbone)
    flow = backbone.velocity(whole, level, instruction=instruction).grid
    clean = replace(whole, grid=whole.grid - level[:, None, :, None, None] * flow)
    pixels = backbone.decode(clean)
    grid = pixels.grid[:, :, -stream.imagine.num_frames :].clamp(-1, 1)
    return replace(pixels, grid=grid.flip(1) if stream.channel_order == "bgr" else grid)


def append_future(
    latents: Video, config: ImagineConfig, *, backbone: VideoBackbone
) -> tuple[Video, Float[Tensor, "b t"]]:
    """The latents with those that are to be imagined behind them, and the noise level of each.

    Levels below 1 mix the next latent of a world that stands still with the noise.
    """
    b, _, t, _, _ = latents.grid.shape
    num_future = config.num_frames // backbone.config.frames_per_latent
    still = backbone.hold(latents.grid[:, :, -1])[:, :, None]
    noise = seeded_noise(still.expand(-1, -1, num_future, -1, -1), seed=1)
    future = (1 - config.level) * still + config.level * noise
    level = torch.cat([latents.grid.new_zeros(b, t), latents.grid.new_full((b, num_future), config.level)], dim=1)
    return Video(torch.cat([latents.grid, future], dim=2), latents.fps), level


def kept_positions(features: Video, config: ImagineConfig, *, num_past: int) -> Video:
    """The features of the past, of the future or of both."""
    first, last = {"past": (0, num_past), "future": (num_past, None), "all": (0, None)}[config.keep]
    return Video(features.grid[:, :, first:last], features.fps)


def seeded_noise(like: Float[Tensor, "b c t h w"], *, seed: int) -> Float[Tensor, "c t h w"]:
    """Normal noise for one item of a batch: the same on every device and at every call."""
    # by numpy: a generator of torch's cannot be exported to another engine
    drawn = np.random.default_rng(seed).standard_normal(like.shape[1:], dtype=np.float32)
    return torch.from_numpy(drawn).to(like)
