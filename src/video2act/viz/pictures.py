"""Pure functions that draw filtered features: numbers in, uint8 RGB out. Text is drawn with Pillow.

- A map is the root mean square of a grid over its channels and frames.
- Maps of one episode share one scale, cut at percentiles, so that a still scene looks still despite outliers.
- The colour ramp gets steadily lighter, so that it also orders values in grey print and for colour-blind readers.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from video2act.types import Video

RAMP = np.array(
    [(10, 10, 30), (52, 24, 98), (128, 38, 110), (202, 66, 74), (238, 132, 40), (246, 204, 90), (255, 250, 220)]
)
"""from nothing to much: night blue, violet, red, orange, pale yellow"""

BACKGROUND, INK, FAINT = (24, 24, 28), (235, 235, 235), (110, 110, 118)
PLAN_COLOUR, REFRESH_COLOUR, STALENESS_COLOUR = (120, 190, 255), (246, 170, 60), (190, 120, 220)
CAPTION_PX = 24
SCALE_PX = 52
"""width of a colour bar with its numbers"""
TEMPORAL = ("temporal_bandpass", "moft")
"""filters that find motion"""
ROW_PX = 24
NAME_PX = 176
"""width at the left of the tick strip that holds the names of its rows"""


def magnitude(video: Video) -> Float[np.ndarray, "h w"]:
    """How much of the signal is at each place of the first clip of a batch."""
    grid = video.grid[0].detach().float()  # [c t h w]
    return grid.square().mean(dim=(0, 1)).sqrt().cpu().numpy()


def pixel_map(clip: Video, filter_name: str, *, size: tuple[int, int]) -> Float[np.ndarray, "{size[0]} {size[1]}"]:
    """What a filter should find, from the pixels of the first clip of a batch, on the grid of the stream's map.

    The newest frame's Sobel gradients; for a filter over time, how far pixels deviate from their mean over the clip.
    """
    import torch  # here: films of recorded frames alone need none
    from torch.nn import functional

    grey = clip.grid[0].detach().float().cpu().mean(dim=0)  # [t h w]
    if filter_name in TEMPORAL:
        strength = (grey - grey.mean(dim=0)).square().mean(dim=0)
    else:
        newest = functional.pad(grey[-1][None, None], (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
        kernels = torch.stack([across, across.T])[:, None]
        strength = functional.conv2d(newest, kernels).square().sum(dim=1)[0]
    return functional.adaptive_avg_pool2d(strength[None], size)[0].sqrt().numpy()


def correlation(first: Float[np.ndarray, "*s"], second: Float[np.ndarray, "*s"]) -> float:
    """Pearson's, over all places; NaN where one of the two is the same everywhere."""
    if first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def robust_range(maps: Sequence[Float[np.ndarray, "h w"]]) -> tuple[float, float]:
    """The values drawn as nothing and as full, for maps that share a scale: their 40th and 99.5th percentile."""
    # a good part of every picture is background: below the 40th percentile there is nothing to point at
    low, high = np.percentile(np.stack(maps), [40, 99.5])
    return float(low), float(high)


def rescale(values: Float[np.ndarray, "h w"], value_range: tuple[float, float]) -> Float[np.ndarray, "h w"]:
    """Into [0, 1], clipped; a range of no extent has nothing to show and gives zeros."""
    low, high = value_range
    if high <= low:
        return np.zeros(values.shape, np.float32)
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def colour(strength: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Values in [0, 1] -> colours of the ramp."""
    stops = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(strength, stops, RAMP[:, i]) for i in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def enlarge(image: UInt8[np.ndarray, "_h _w 3"], size_px: int) -> UInt8[np.ndarray, "{size_px} {size_px} 3"]:
    """To a square of `size_px`, smoothly."""
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BILINEAR))


def overlay(
    frame: UInt8[np.ndarray, "size size 3"], strength: Float[np.ndarray, "_h _w"]
) -> UInt8[np.ndarray, "size size 3"]:
    """A map over its frame, which turns grey and dim, so that colour always means the map."""
    size = frame.shape[0]
    smooth = np.asarray(Image.fromarray(strength.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR))
    grey = frame.mean(axis=-1, keepdims=True) * 0.55
    opacity = 0.85 * smooth[..., None]
    return (grey * (1 - opacity) + colour(smooth) * opacity).round().astype(np.uint8)


def scale_bar(height: int, value_range: tuple[float, float]) -> UInt8[np.ndarray, "{height} _w 3"]:
    """The colour ramp, with the value drawn as full at its top and the one drawn as nothing at its bottom."""
    bar = Image.new("RGB", (SCALE_PX, height), BACKGROUND)
    ramp = colour(np.linspace(1, 0, height - 40)[:, None].repeat(10, axis=1))
    bar.paste(Image.fromarray(ramp), (6, 20))
    draw, font = ImageDraw.Draw(bar), ImageFont.load_default(13)
    draw.text((4, 3), f"{value_range[1]:.2g}", fill=INK, font=font)
    draw.text((4, height - 17), f"{value_range[0]:.2g}", fill=INK, font=font)
    return np.asarray(bar)


def caption(image: UInt8[np.ndarray, "_h w 3"], text: str) -> UInt8[np.ndarray, "_h2 w 3"]:
    """The image with a line of text above it."""
    width = image.shape[1]
    bar = Image.new("RGB", (width, CAPTION_PX), BACKGROUND)
    fonts = [ImageFont.load_default(size) for size in range(16, 9, -1)]
    font = next((font for font in fonts if font.getlength(text) <= width - 8), fonts[-1])
    ImageDraw.Draw(bar).text((6, CAPTION_PX / 2), text, fill=INK, font=font, anchor="lm")
    return np.concatenate([np.asarray(bar), image])


def arrange(panels: Sequence[UInt8[np.ndarray, "h _w 3"]], columns: int) -> UInt8[np.ndarray, "_h2 _w2 3"]:
    """Panels of one height in rows; the last row, and narrow panels below wide ones, are filled up."""
    rows = [np.concatenate(panels[begin : begin + columns], axis=1) for begin in range(0, len(panels), columns)]
    width = max(row.shape[1] for row in rows)
    filled = []
    for row in rows:
        h, w, _ = row.shape
        rest = np.broadcast_to(np.array(BACKGROUND, np.uint8), (h, width - w, 3))
        filled.append(np.concatenate([row, rest], axis=1))
    return np.concatenate(filled)


def tick_strip(
    width: int, plan_steps: Sequence[int], *, refresh_steps: Sequence[int], staleness: Sequence[int], now: int
) -> UInt8[np.ndarray, "_h {width} 3"]:
    """The timeline of an episode, with a cursor at control step `now`: plans, refreshes and staleness.

    Args:
        refresh_steps: control steps of the frames that new conditions saw.
        staleness: age of the condition in use, in control steps, for each control step.
    """
    num_steps = len(staleness)
    strip = Image.new("RGB", (width, 3 * ROW_PX + 4), BACKGROUND)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(15)

    def x(step: int) -> float:
        return NAME_PX + (width - NAME_PX - 8) * step / max(1, num_steps - 1)

    names = (
        f"System 1: {len(plan_steps)} plans",
        f"System 2: {len(refresh_steps)} refreshes",
        f"staleness: {staleness[now]} steps",
    )
    for row, (name, tint) in enumerate(zip(names, (PLAN_COLOUR, REFRESH_COLOUR, STALENESS_COLOUR), strict=True)):
        draw.text((6, 2 + row * ROW_PX + 3), name, fill=tint, font=font)
        draw.line([(NAME_PX, (row + 1) * ROW_PX), (width - 8, (row + 1) * ROW_PX)], fill=FAINT)
    for row, (steps, tint) in enumerate(((plan_steps, PLAN_COLOUR), (refresh_steps, REFRESH_COLOUR))):
        for step in steps:
            draw.line([(x(step), row * ROW_PX + 6), (x(step), (row + 1) * ROW_PX)], fill=tint)
    highest = max(1, *staleness)
    curve = [(x(step), 3 * ROW_PX - (ROW_PX - 6) * age / highest) for step, age in enumerate(staleness)]
    draw.line(curve if len(curve) > 1 else curve * 2, fill=STALENESS_COLOUR)
    draw.line([(x(now), 2), (x(now), 3 * ROW_PX)], fill=INK)
    return np.asarray(strip)
