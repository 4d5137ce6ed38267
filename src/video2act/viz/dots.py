"""Several measurements of each of several things, as dots in rows with their mean, as a png.

Drawn with Pillow: the core needs no plotting library.
"""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from video2act.files.atomic import write_bytes
from video2act.viz.curves import COLOUR, GRID, INK

ROW_PX, LEFT_MARGIN, RIGHT, TOP, BOTTOM, PLOT_PX = 26, 16, 24, 12, 52, 420


@dataclass(frozen=True)
class Dots:
    """A row."""

    name: str
    values: list[float]


def draw_dots(path: Path, rows: list[Dots], *, x_title: str) -> None:
    """Write the rows, the first on top. Raises ValueError: there is no row, or one without a value."""
    if not rows or not all(row.values for row in rows):
        raise ValueError("there is nothing to draw: no row, or one without a value")
    font = ImageFont.load_default(13)
    left = LEFT_MARGIN + int(max(font.getlength(row.name) for row in rows))
    image = Image.new("RGB", (left + PLOT_PX + RIGHT, TOP + ROW_PX * len(rows) + BOTTOM), "white")
    draw = ImageDraw.Draw(image)
    low, high = min(min(row.values) for row in rows), max(max(row.values) for row in rows)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return left + PLOT_PX * (value - low) / (high - low)

    bottom = TOP + ROW_PX * len(rows)
    for number in range(6):
        value = low + (high - low) * number / 5
        draw.line((x(value), TOP, x(value), bottom), GRID)
        draw.text((x(value), bottom + 6), f"{value:.3g}", INK, font, anchor="mt")
    for number, row in enumerate(rows):
        y, mean = TOP + ROW_PX * (number + 0.5), sum(row.values) / len(row.values)
        draw.text((left - 10, y), row.name, INK, font, anchor="rm")
        draw.line((x(mean), y - 9, x(mean), y + 9), COLOUR, 3)
        for value in row.values:
            draw.ellipse((x(value) - 4, y - 4, x(value) + 4, y + 4), outline=COLOUR, width=2)
    draw.text((left + PLOT_PX / 2, bottom + 40), x_title, INK, font, anchor="mb")
    png = io.BytesIO()
    image.save(png, format="png")
    write_bytes(path, png.getvalue())
