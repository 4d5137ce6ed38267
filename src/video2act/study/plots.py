"""The plots of a study, as png and svg: success of each arm, and the differences of the contrasts."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from video2act.evaluation.comparison import ArmRate, Difference
from video2act.extras import extra
from video2act.files.atomic import write_bytes

BLUE, GREY = "#1f5fa8", "#888888"


def draw(
    folder: Path, titles: Mapping[str, str], *, rates: Mapping[str, ArmRate], differences: Sequence[Difference]
) -> list[Path]:
    """Write the plots; returns the png files. A dot is a training seed, a bar the interval of the mean."""
    arms = [(titles[arm], 100 * each.share, each.per_seed.values(), each.low, each.high) for arm, each in rates.items()]
    contrasts = [
        (f"{each.first}\n- {each.second}", 100 * each.difference, each.per_seed.values(), each.low, each.high)
        for each in differences
    ]
    made = [_draw(folder / "success", arms, axis="success, %", zero=False)]
    if contrasts:
        made.append(_draw(folder / "contrasts", contrasts, axis="difference, points", zero=True))
    return made


def _draw(path: Path, rows: Sequence[tuple[Any, ...]], *, axis: str, zero: bool) -> Path:
    with extra("study", "the plots of a study"):
        from matplotlib import rc_context  # type: ignore[import-not-found]
        from matplotlib.figure import Figure  # type: ignore[import-not-found]
    figure = Figure(figsize=(7, 0.9 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, mean, seeds, low, high) in enumerate(rows):
        axes.plot([100 * each for each in seeds], [place] * len(seeds), "o", color=GREY, alpha=0.5, markersize=4)
        if low is not None and high is not None:
            axes.plot([100 * low, 100 * high], [place, place], color=BLUE, linewidth=3, alpha=0.5)
        axes.plot(mean, place, "D", color=BLUE)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], parse_math=False)  # a dollar is a dollar
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.grid(axis="x", alpha=0.3)
    if zero:
        axes.axvline(0, color="black", linewidth=0.8)
    else:
        axes.set_xlim(-2, 102)
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "svg"):
        content = io.BytesIO()
        # without a date and with names that are not drawn by chance, the same results make the same file
        with rc_context({"svg.hashsalt": "video2act"}):
            figure.savefig(content, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
        write_bytes(path.with_suffix(f".{kind}"), content.getvalue())
    return path.with_suffix(".png")
