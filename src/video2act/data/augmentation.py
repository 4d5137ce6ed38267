"""Random shifts and colour changes of training images and clips. Draws come from a generator, so a step can be repeated
exactly."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from video2act.config import camera_and_lag
from video2act.types import Video


def shift(image: Float[Tensor, "b c h w"], max_px: int, *, generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Move each image by up to `max_px` pixels either way; the border is repeated."""
    if max_px == 0:
        return image
    offsets = torch.randint(0, 2 * max_px + 1, (len(image), 2), generator=generator) - max_px
    # chosen, not cut out of a padded image: a large shift would pad to gigabytes
    sides = zip(image.shape[2:], offsets.T, strict=True)
    rows, columns = ((torch.arange(side) + by[:, None]).clamp(0, side - 1) for side, by in sides)
    return torch.stack([item[:, y][..., x] for item, y, x in zip(image, rows, columns, strict=True)])


def jitter(
    image: Float[Tensor, "b 3 h w"], amount: float, *, generator: torch.Generator, num_alike: int = 1
) -> Float[Tensor, "b 3 h w"]:
    """Scale brightness, contrast and saturation of each image in [-1, 1] by factors in `1 - amount .. 1 + amount`.

    Args:
        num_alike: so many images, one after another, share their factors.
    """
    if amount == 0:
        return image
    factors = 1 + amount * (2 * torch.rand(3, len(image) // num_alike, 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.repeat_interleave(num_alike, dim=1).to(image)
    unit = (image + 1) / 2 * brightness
    mean = unit.mean(dim=(1, 2, 3)).view(-1, num_alike).mean(dim=1).repeat_interleave(num_alike)[:, None, None, None]
    unit = mean + contrast * (unit - mean)
    grey = unit.mean(dim=1, keepdim=True)
    unit = grey + saturation * (unit - grey)
    return unit.clamp(0, 1) * 2 - 1


def vary_images(
    images: dict[str, Float[Tensor, "b 3 h w"]], *, shift_px: int, amount: float, generator: torch.Generator
) -> dict[str, Float[Tensor, "b 3 h w"]]:
    """`shift` and `jitter` each camera's images. Those of one camera at several lags (`head`, `head@8`) vary alike, as
    the frames of a clip do, so that what moved between them is what moved in the scene."""
    lags: dict[str, list[str]] = {}
    for name in images:
        lags.setdefault(camera_and_lag(name)[0], []).append(name)
    varied = {}
    for names in lags.values():
        frames = torch.stack([images[name] for name in names], dim=2)
        frames = _vary(frames, shift_px=shift_px, amount=amount, generator=generator)
        varied |= zip(names, frames.unbind(dim=2), strict=True)
    return varied


def vary_clips(clips: Video, *, shift_px: int, amount: float, generator: torch.Generator) -> Video:
    """Shift and recolour clips `[b 3 t h w]`, all frames of a clip alike: nothing moves that did not move."""
    return Video(_vary(clips.grid, shift_px=shift_px, amount=amount, generator=generator), clips.fps)


def _vary(
    frames: Float[Tensor, "b 3 t h w"], *, shift_px: int, amount: float, generator: torch.Generator
) -> Float[Tensor, "b 3 t h w"]:
    t = frames.shape[2]
    flat = shift(rearrange(frames, "b c t h w -> b (c t) h w"), shift_px, generator=generator)
    images = jitter(rearrange(flat, "b (c t) h w -> (b t) c h w", t=t), amount, generator=generator, num_alike=t)
    return rearrange(images, "(b t) c h w -> b c t h w", t=t)
