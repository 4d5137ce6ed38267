"""Charts for a page, as SVG: lines over a number, shares with intervals, stacked shares, marks on timelines.

Drawn 360 px wide, so that the text stays readable on a phone. Colours are those of the page (`page.py`), so that charts
follow dark mode. Every chart draws all values that it gets; nothing is smoothed or cut off.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360.0, 210.0, 48.0, 10.0, 10.0, 38.0
NUM_COLOURS = 6
NAME_CHARACTERS, LINE = 44, 14.0
"""of a share's name in one line, beside its counts; the height of one"""
Number = float | int


@dataclass(frozen=True)
class Line:
    """Points that belong together. A point that is not finite interrupts the line."""

    x: Sequence[Number]
    y: Sequence[Number]
    name: str = ""
    """in the legend; lines with one name have one colour; empty: no entry"""
    is_faint: bool = False


@dataclass(frozen=True)
class Share:
    """A share between 0 and 1, with the bounds of its interval."""

    name: str
    share: Number
    low: Number
    high: Number
    text: str = ""
    """beside it, such as the counts"""


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment, or lasted until `end`."""

    row: str
    at: Number
    kind: str
    text: str = ""
    """shown when the pointer rests on it"""
    end: Number | None = None


def line_chart(
    lines: Sequence[Line], *, x_title: str, y_title: str, is_log: bool = False, floor: Number | None = None
) -> str:
    """Lines over one axis.

    Args:
        is_log: the vertical axis is logarithmic.
        floor: the vertical axis begins at this value or below.
    Raises:
        ValueError: there is nothing to draw.
    """
    points = [
        (x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)
    ]
    if is_log:
        points = [(x, y) for x, y in points if y > 0]
    if not points:
        raise ValueError(f"there is nothing to draw for {y_title!r}: no line has a finite point")
    scale = math.log10 if is_log else float
    ys = [scale(y) for _, y in points] + ([] if floor is None else [scale(floor)])
    (x_low, x_high), (y_low, y_high) = _range([x for x, _ in points]), _range(ys, margin=0.04)

    def place(x: Number, y: Number) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return LEFT + across, HEIGHT - BOTTOM - (scale(y) - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP)

    drawn = []
    ticks = _log_ticks(y_low, y_high) if is_log else _ticks(y_low, y_high)
    for value in ticks:
        _, y = place(x_low, value)
        drawn.append(f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        drawn.append(_text(f"{value:.4g}", LEFT - 5, y + 4, anchor="end"))
    for value in _ticks(x_low, x_high):
        x, _ = place(value, ticks[0])
        drawn.append(_text(f"{value:.6g}", x, HEIGHT - BOTTOM + 15, anchor="middle"))
    names = list(dict.fromkeys(line.name for line in lines if line.name))
    for line in lines:
        colour = names.index(line.name) % NUM_COLOURS if line.name else 0
        faint = ' opacity="0.6"' if line.is_faint else ""
        width = 1.2 if line.is_faint else 1.6
        for run in _runs(line, is_log):
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in run))
            end = "h0.1" if len(run) == 1 else ""
            drawn.append(
                f'<path d="M{path}{end}" fill="none" stroke="var(--c{colour})" stroke-width="{width}" '
                f'stroke-linejoin="round" stroke-linecap="round"{faint}/>'
            )
    drawn.append(_text(x_title, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, anchor="middle", is_soft=True))
    legend, height = _legend(names, HEIGHT + 4)
    return _svg(drawn + legend, height, title=f"{y_title} over {x_title}")


def share_chart(shares: Sequence[Share]) -> str:
    """Shares below one another, each as a dot with its interval, between 0 and 100 %. Raises ValueError for none."""
    if not shares:
        raise ValueError("there is nothing to draw: no share was measured")
    names = [textwrap.wrap(each.name, NAME_CHARACTERS) or [""] for each in shares]
    height = 24 + sum(map(_share_height, names))

    def x(share: Number) -> float:
        return 8 + share * (WIDTH - 24)

    drawn = []
    for percent in range(0, 101, 25):
        drawn.append(f'<path class="axis" d="M{x(percent / 100):.1f} 4V{height - 18}"/>')
        anchor = "start" if percent == 0 else "end" if percent == 100 else "middle"
        drawn.append(_text(f"{percent} %", x(percent / 100), height - 4, anchor=anchor, is_soft=True))
    top = 0.0
    for each, name in zip(shares, names, strict=True):
        y = top + _share_height(name) - 12
        drawn += [_text(line, 8, top + 18 + LINE * number) for number, line in enumerate(name)]
        drawn.append(_text(each.text, WIDTH - 16, y - 12, anchor="end", is_soft=True))
        bar = f"M{x(each.low):.1f} {y}H{x(each.high):.1f}"
        drawn.append(f'<path d="{bar}" stroke="var(--c0)" stroke-width="5" opacity="0.35"/>')
        drawn.append(f'<circle cx="{x(each.share):.1f}" cy="{y}" r="5" fill="var(--c0)" stroke="var(--c0)"/>')
        top += _share_height(name)
    return _svg(drawn, height, title="shares with their intervals")


def _share_height(name: Sequence[str]) -> float:
    """The height of a row; its name is broken into these lines."""
    return 42 + LINE * (len(name) - 1)


def stacked_chart(rows: Sequence[tuple[str, dict[str, float]]], *, unit: str = "%") -> str:
    """Rows of parts that add up to 1: name -> share. Raises ValueError: no row, or parts that do not add up."""
    if not rows:
        raise ValueError("there is nothing to draw: no row was measured")
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    row, drawn, colours = 24.0, [], {name: f"var(--c{number % NUM_COLOURS})" for number, name in enumerate(names)}
    for number, (title, parts) in enumerate(rows):
        if abs(sum(parts.values()) - 1) > 1e-3:
            raise ValueError(f"the parts of {title!r} add up to {sum(parts.values()):.4f}, not to 1")
        y, begin = 6 + row * number, 96.0
        drawn.append(_text(title, 88, y + 13, anchor="end"))
        for name, share in parts.items():
            width = share * (WIDTH - RIGHT - 96)
            drawn.append(
                f'<rect x="{begin:.1f}" y="{y}" width="{width:.1f}" height="17" fill="{colours[name]}">'
                f"<title>{escape(f'{title}, {name}: {100 * share:.1f} {unit}')}</title></rect>"
            )
            if width > 30:
                drawn.append(
                    f'<text x="{begin + width / 2:.1f}" y="{y + 13}" text-anchor="middle" '
                    f'style="fill:var(--card)">{100 * share:.0f}</text>'
                )
            begin += width
    legend, height = _legend(names, 10 + row * len(rows))
    return _svg(drawn + legend, height, title=f"shares in {unit}")


def timeline_chart(marks: Sequence[Mark], rows: Sequence[tuple[str, Number]], *, x_title: str) -> str:
    """What happened when: one row for each name and its length, one colour for each kind.

    Raises:
        ValueError: there is no row, or a mark has a row that is not among them.
    """
    if not rows:
        raise ValueError("there is nothing to draw: no episode was recorded")
    if unknown := {mark.row for mark in marks} - {name for name, _ in rows}:
        raise ValueError(f"marks of unknown rows: {', '.join(sorted(unknown))}")
    longest, row, left = max(length for _, length in rows) or 1.0, 20.0, 110.0
    height = 8 + row * len(rows)

    def x(at: Number) -> float:
        return left + min(max(at / longest, 0.0), 1.0) * (WIDTH - RIGHT - left)

    place = {name: 8 + row * number for number, (name, _) in enumerate(rows)}
    drawn = []
    for name, length in rows:
        drawn.append(_text(name, left - 6, place[name] + 9, anchor="end"))
        drawn.append(f'<path class="axis" stroke-width="2" d="M{left} {place[name] + 5}H{x(length):.1f}"/>')
    kinds = list(dict.fromkeys(mark.kind for mark in marks))
    for mark in marks:
        colour, begin = kinds.index(mark.kind) % NUM_COLOURS, x(mark.at)
        width = max(2.0, x(mark.end if mark.end is not None else mark.at) - begin)
        drawn.append(
            f'<rect x="{begin:.1f}" y="{place[mark.row] - 2}" width="{width:.1f}" height="14" fill="var(--c{colour})">'
            f"<title>{escape(f'{mark.at:.2f} s, {mark.kind}: {mark.text}')}</title></rect>"
        )
    for value in _ticks(0.0, longest):
        drawn.append(_text(f"{value:g}", x(value), height + 10, anchor="middle", is_soft=True))
    drawn.append(_text(x_title, (left + WIDTH) / 2, height + 26, anchor="middle", is_soft=True))
    legend, height = _legend(kinds, height + 32)
    return _svg(drawn + legend, height, title=f"{len(marks)} marks over {x_title}")


def _svg(parts: Sequence[str], height: Number, *, title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img"><title>{escape(title)}</title>{"".join(parts)}</svg>'


def _text(text: str, x: Number, y: Number, *, anchor: str = "start", is_soft: bool = False) -> str:
    kind = ' class="soft"' if is_soft else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _legend(names: Sequence[str], top: Number) -> tuple[list[str], Number]:
    """The colours' names, in as many rows as they need, and the height of the picture with them."""
    drawn, x, y = [], 8.0, top + 12
    for number, name in enumerate(names):
        width = 22 + 6.6 * len(name)
        if x + width > WIDTH and x > 8:
            x, y = 8.0, y + 18
        drawn.append(
            f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" fill="var(--c{number % NUM_COLOURS})"/>'
        )
        drawn.append(_text(name, x + 14, y))
        x += width + 8
    return drawn, y + 8 if names else top


def _range(values: Sequence[Number], margin: float = 0.0) -> tuple[float, float]:
    low, high = float(min(values)), float(max(values))
    if high == low:
        return low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return low - margin * (high - low), high + margin * (high - low)


def _ticks(low: Number, high: Number) -> list[float]:
    """Three to six round numbers between two values."""
    rough = (high - low) / 5.5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    factors = (1.0,) if high - low > 2 else (1.0, 2.0, 5.0)
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [factor * 10.0**power for power in powers for factor in factors]
    inside = [value for value in found if low <= math.log10(value) <= high]
    return inside if len(inside) > 1 else [10.0**low, 10.0**high]


def _runs(line: Line, is_log: bool) -> list[list[tuple[Number, Number]]]:
    """The points that can be drawn, as pieces without a gap."""
    runs: list[list[tuple[Number, Number]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y) and (y > 0 or not is_log):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
