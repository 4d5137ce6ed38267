"""Curves with an interval around each point, side by side, as a png.

Drawn with Pillow: the core needs no plotting library.
"""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from video2act.files.atomic import write_bytes

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 420, 70, 20, 20, 60
INK, GRID, COLOUR, BAND = "#222222", "#dddddd", "#1f5fa8", "#c9dcf2"


@dataclass(frozen=True)
class Curve:
    """Shares between 0 and 1, each with the bounds of its interval."""

    x_title: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def draw_curves(path: Path, curves: list[Curve], *, y_title: str) -> None:
    """Write the curves side by side. The x axis names the values that were measured, evenly spaced: they often double.

    Raises:
        ValueError: there is no curve, or one without a point.
    """
    if not curves or not all(curve.x for curve in curves):
        raise ValueError("there is nothing to draw: no curve, or one without a point")
    image = Image.new("RGB", (WIDTH * len(curves), HEIGHT), "white")
    for number, curve in enumerate(curves):
        _draw(ImageDraw.Draw(image), number * WIDTH, curve=curve, y_title=y_title)
    png = io.BytesIO()
    image.save(png, format="png")
    write_bytes(path, png.getvalue())


def _draw(draw: ImageDraw.ImageDraw, offset: int, *, curve: Curve, y_title: str) -> None:
    font = ImageFont.load_default(14)
    left, right, bottom = offset + LEFT, offset + WIDTH - RIGHT, HEIGHT - BOTTOM
    gap = (right - left) / max(1, len(curve.x) - 1)

    def place(number: int, share: float) -> tuple[float, float]:
        return left + number * gap, bottom - share * (bottom - TOP)

    for percent in range(0, 101, 20):
        _, y = place(0, percent / 100)
        draw.line((left, y, right, y), GRID)
        draw.text((left - 8, y), f"{percent} %", INK, font, anchor="rm")
    numbers = range(len(curve.x))
    band = [place(i, curve.high[i]) for i in numbers] + [place(i, curve.low[i]) for i in reversed(numbers)]
    if len(numbers) > 1:
        draw.polygon(band, BAND)
        draw.line([place(i, curve.y[i]) for i in numbers], COLOUR, 3)
    for i in numbers:
        x, y = place(i, curve.y[i])
        draw.line((*place(i, curve.low[i]), *place(i, curve.high[i])), COLOUR)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), COLOUR)
        draw.text((x, bottom + 8), f"{curve.x[i]:g}", INK, font, anchor="mt")
    draw.text(((left + right) / 2, HEIGHT - 12), curve.x_title, INK, font, anchor="mb")
    draw.text((left + 6, TOP - 4), y_title, INK, font, anchor="lb")
