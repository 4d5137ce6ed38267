"""The figures of docs/evidence.md, drawn from the tables of that page.

    python scripts/evidence_plots.py    # writes docs/images/evidence_*.svg

A table with columns `seed 0`, `seed 1`, ... has a row for each policy. The study's figure grows with its columns.
"""

import re
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

DOCS = Path(__file__).parents[1] / "docs"
BLUE, GREY, RED = "#1f5fa8", "#777777", "#b5442e"


def tables(page: str) -> list[list[list[str]]]:
    """Every table of a markdown page as rows of cells, the header first."""
    found = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)
    rows = [[line[1:-1].split("|") for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for row in (table[0], *table[2:])] for table in rows]


def seed_tables(page: str) -> dict[str, dict[str, list[float]]]:
    """First cell of the header -> first cell of a row -> percent (`44/50`) or points (`+8`) of each seed."""
    found = {}
    for header, *rows in tables(page):
        columns = [place for place, name in enumerate(header) if re.fullmatch(r"seed \d+", name)]
        if columns:
            found[header[0]] = {row[0]: [_number(row[place]) for place in columns if row[place]] for row in rows}
    return found


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and the 95 % interval of Student's t. Needs two values."""
    mean = sum(values) / len(values)
    if len(set(values)) == 1:
        return mean, mean, mean
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return mean, float(low), float(high)


def draw_seeds(arms: dict[str, dict[str, list[float]]]) -> Figure:
    """Success by training seed; one panel for each task."""
    figure = Figure(figsize=(8, 1.2 + 0.42 * sum(map(len, arms.values()))), layout="constrained")
    shares = {"height_ratios": [len(rows) + 0.6 for rows in arms.values()]}
    panels = figure.subplots(len(arms), 1, sharex=True, squeeze=False, gridspec_kw=shares)[:, 0]
    for axes, (task, rows) in zip(panels, arms.items(), strict=True):
        for place, values in enumerate(rows.values()):
            beside = [place + 0.3 * seed / len(values) for seed in range(len(values))]  # equal counts stay visible
            axes.plot(values, beside, "o", color=GREY, alpha=0.7, markersize=5)
            if len(values) > 1:
                mean, low, high = interval(values)
                axes.plot([max(low, 0), min(high, 100)], [place, place], color=BLUE, linewidth=4, alpha=0.35)
                axes.plot(mean, place, "D", color=BLUE, markersize=6)
        counts = " or ".join(map(str, sorted(set(map(len, rows.values())))))
        axes.set_title(f"{task}: {counts} seed{'s' * (counts != '1')}", loc="left", fontsize=10)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-2, 102)
        axes.grid(axis="x", alpha=0.3)
    panels[-1].set_xlabel("success, % of 50 scenes")
    return figure


def draw_late(page: str) -> Figure:
    """Success against the latency of each system, on a common axis."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes: Axes = figure.subplots()
    for system, color, marker in (("System 2", BLUE, "s"), ("System 1", RED, "o")):
        (found,) = (table for table in tables(page) if table[0][0] == f"{system} takes (ms)")
        milliseconds, success = [int(each) for each in found[0][1:]], [_number(each) for each in found[1][1:]]
        axes.plot(milliseconds, success, marker=marker, color=color, label=f"{system} is late")
    axes.set_title("push, one policy, 25 scenes a point", loc="left", fontsize=10)
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("success, %")
    axes.set_ylim(-5, 105)
    axes.grid(alpha=0.3)
    axes.legend(loc="center right")
    return figure


def _number(cell: str) -> float:
    count, _, whole = cell.partition("/")
    return 100 * int(count) / int(whole) if whole else float(count)


def main() -> None:
    page = (DOCS / "evidence.md").read_text()
    found = {name.partition("policy, ")[2]: rows for name, rows in seed_tables(page).items()}
    arms = {task: rows for task, rows in found.items() if task}
    # the same numbers make the same file, with text as text
    matplotlib.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "none"})
    for name, figure in {"seeds": draw_seeds(arms), "late": draw_late(page)}.items():
        figure.savefig(DOCS / "images" / f"evidence_{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
