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
    h, w = image.shape[2:]
    padded = torch.nn.functional.pad(image, (max_px,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * max_px + 1, (len(image), 2), generator=generator).tolist()
    return torch.stack([item[:, y : y + h, x : x + w] for item, (y, x) in zip(padded, offsets, strict=True)])


def jitter(image: Float[Tensor, "b 3 h w"], amount: float, *, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Scale brightness, contrast and saturation of each image in [-1, 1] by factors in `1 - amount .. 1 + amount`."""
    return image if amount == 0 else _recolour(image, _factors(len(image), amount, generator=generator))


def vary_images(
    images: dict[str, Float[Tensor, "b 3 h w"]], *, shift_px: int, amount: float, generator: torch.Generator
) -> dict[str, Float[Tensor, "b 3 h w"]]:
    """`shift` and `jitter` each camera's images. Those of one camera at several lags (`head`, `head@8`) vary alike, so
    that what moved between them is what moved in the scene."""
    varied, before = {}, dict[str, Tensor]()
    for name, image in images.items():
        camera, _ = camera_and_lag(name)
        after = generator.get_state()
        generator.set_state(before.setdefault(camera, after))
        varied[name] = jitter(shift(image, shift_px, generator=generator), amount, generator=generator)
        if before[camera] is not after:
            generator.set_state(after)
    return varied


def vary_clips(clips: Video, *, shift_px: int, amount: float, generator: torch.Generator) -> Video:
    """Shift and recolour clips `[b 3 t h w]` as `shift` and `jitter` do images, all frames of a clip alike: nothing
    moves that did not move."""
    b, _, t = clips.grid.shape[:3]
    grid = rearrange(clips.grid, "b c t h w -> b (c t) h w")
    frames = rearrange(shift(grid, shift_px, generator=generator), "b (c t) h w -> (b t) c h w", t=t)
    if amount:
        frames = _recolour(frames, _factors(b, amount, generator=generator).repeat_interleave(t, dim=1))
    return Video(rearrange(frames, "(b t) c h w -> b c t h w", t=t), clips.fps)


def _factors(count: int, amount: float, *, generator: torch.Generator) -> Float[Tensor, "3 b 1 1 1"]:
    return 1 + amount * (2 * torch.rand(3, count, 1, 1, 1, generator=generator) - 1)


def _recolour(image: Float[Tensor, "b 3 h w"], factors: Float[Tensor, "3 b 1 1 1"]) -> Float[Tensor, "b 3 h w"]:
    brightness, contrast, saturation = factors.to(image)
    unit = (image + 1) / 2 * brightness
    mean = unit.mean(dim=(1, 2, 3), keepdim=True)
    unit = mean + contrast * (unit - mean)
    grey = unit.mean(dim=1, keepdim=True)
    unit = grey + saturation * (unit - grey)
    return unit.clamp(0, 1) * 2 - 1
