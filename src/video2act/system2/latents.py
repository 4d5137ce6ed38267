"""Which latents of a clip the transformer gets, and how large: `StreamConfig.latent_frames` and `latent_size`.

By default all of them, as they are. Policies of the released code may have been trained on some of them, or on resized
ones.
"""

from dataclasses import replace

import torch
from einops import rearrange

from video2act.config.system2 import chosen_rate
from video2act.types import Video


def show(latents: Video, frames: tuple[int, ...], *, size: tuple[int, ...]) -> Video:
    """The latents of these numbers (none: all), resized to this height and width (none: as they are).

    Raises:
        ValueError: the clip has fewer latents.
    """
    t, h, w = latents.grid.shape[2:]
    if frames:
        if frames[-1] >= t:
            raise ValueError(f"latent_frames asks for latent {frames[-1]} of a clip that has {t}, numbered from 0")
        latents = Video(latents.grid[:, :, list(frames)], chosen_rate(latents.fps, frames))
    if size and size != (h, w):
        b, pictures = len(latents.grid), rearrange(latents.grid, "b c t h w -> (b t) c h w")
        resized = torch.nn.functional.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
        latents = replace(latents, grid=rearrange(resized, "(b t) c h w -> b c t h w", b=b))
    return latents
