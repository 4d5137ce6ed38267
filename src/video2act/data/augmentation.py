"""Random shifts and colour changes of training images. Draws come from a generator, so a step can be repeated
exactly."""

import torch
from jaxtyping import Float
from torch import Tensor


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
    if amount == 0:
        return image
    factors = 1 + amount * (2 * torch.rand(3, len(image), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = factors.to(image)
    unit = (image + 1) / 2 * brightness
    mean = unit.mean(dim=(1, 2, 3), keepdim=True)
    unit = mean + contrast * (unit - mean)
    grey = unit.mean(dim=1, keepdim=True)
    unit = grey + saturation * (unit - grey)
    return unit.clamp(0, 1) * 2 - 1
