"""The parts of a report, once for a terminal or a markdown file and once for a page; and comparisons in words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from video2act.evaluation.comparison import LEVEL, MAX_SEEDS, ArmRate, Difference
from video2act.viz.markdown import markdown_table
from video2act.viz.page import Page


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, and a table."""

    title: str
    text: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    lines = [f"# {title}", ""] if title else []
    for section in sections:
        lines += [f"## {section.title}", ""] if section.title else []
        for paragraph in section.text:
            lines += [paragraph, ""]
        if section.rows:
            lines += [markdown_table(section.columns, section.rows), ""]
    return "\n".join(lines)


def to_page(page: Page, sections: Sequence[Section]) -> None:
    for section in sections:
        if section.title:
            page.section(section.title)
        for paragraph in section.text:
            page.text(paragraph.replace("**", ""))
        if section.rows:
            page.table(section.columns, section.rows)


def rate_cells(name: str, rate: ArmRate) -> tuple[str, ...]:
    """Name, mean, interval, and how that was computed."""
    interval = "-" if rate.low is None or rate.high is None else f"{100 * rate.low:.0f}-{100 * rate.high:.0f} %"
    return (name, f"{100 * rate.share:.0f} %", interval, rate.method)


DIFFERENCE_COLUMNS = ("contrast", "points", "95 % interval", "seeds better / worse", "p", "p (Holm)", "seeds needed")


def difference_cells(found: Difference) -> tuple[str, ...]:
    """A row under `DIFFERENCE_COLUMNS`."""
    values = found.per_seed.values()
    signs = f"{sum(value > 0 for value in values)} / {sum(value < 0 for value in values)} of {len(values)}"
    needed = "-" if len(values) < 3 or found.difference == 0 else str(found.seeds_needed or f"> {_most(found)}")
    points = f"{100 * found.difference:+.1f}"
    corrected = None if found.p is None else found.p_holm  # of one seed each it is of the scenes
    return (_name(found), points, _interval(found), signs, p_text(found.p), p_text(corrected), needed)


SCENE_COLUMNS = ("contrast", "seed", "points", "Tango 95 %", "only the first", "only the second", "McNemar p")


def scene_rows(found: Difference) -> list[tuple[Any, ...]]:
    """Rows under `SCENE_COLUMNS`, one for each training seed."""
    return [
        (
            _name(found),
            seed,
            f"{100 * test.difference:+.1f}",
            f"{100 * test.low:+.0f} to {100 * test.high:+.0f}",
            test.only_first,
            test.only_second,
            p_text(test.p)
            + (f" (Holm {p_text(found.p_holm)})" if found.p is None and found.p_holm is not None else ""),
        )
        for seed, test in found.scenes.items()
    ]


def difference_sections(over_seeds: Section, over_scenes: Section, *, found: Sequence[Difference]) -> list[Section]:
    """The two tables of differences, below these headings and texts."""
    rows = tuple(row for each in found for row in scene_rows(each))
    note = (
        "Tango's interval and McNemar's exact test are two methods: near p = .05 one may exclude 0 and the other not."
    )
    return [
        replace(over_seeds, columns=DIFFERENCE_COLUMNS, rows=tuple(map(difference_cells, found))),
        replace(over_scenes, text=(*over_scenes.text, note), columns=SCENE_COLUMNS, rows=rows),
    ]


def in_words(found: Difference, goal_points: float | None = None, *, num_planned: int = 0) -> str:
    """What was found, and what it does not show.

    Args:
        num_planned: training seeds that were named beforehand. Before all of them are done nothing is judged: who looks
            after each seed, and may stop there, finds too much.
    """
    num, points = len(found.per_seed), 100 * found.difference
    said = f"**{_name(found)}: {points:+.1f} points** over {num} training seed{'s' * (num > 1)}"
    if found.low is not None:
        said += f" (95 % interval {_interval(found)})"
    p = found.p if found.p_holm is None else found.p_holm
    test = "sign-flip p" if found.p_holm is None else "sign-flip p after Holm's correction"
    if num < num_planned:
        shown = "" if found.p is None else f", {test} = {p_text(p)}"
        return f"{said}{shown}. {num} of {num_planned} seeds are done; it is not judged before all are."
    if found.p is None or p is None:
        said += ". One seed says nothing about other trainings."
    elif p < LEVEL:
        said += f", {test} = {p_text(p)}: {found.first} is {'better' if points > 0 else 'worse'}."
    else:
        said += f", {test} = {p_text(p)}: these seeds cannot tell the two apart."
        if found.smallest_p >= LEVEL:
            said += f" No result of {num} seeds could: the smallest p they can reach is {p_text(found.smallest_p)}."
        if found.seeds_needed is not None:
            said += f" If the difference and its spread are as measured, about {found.seeds_needed} seeds would."
        elif found.difference == 0:
            said += " No difference was measured, so nothing says how many would."
        elif num > 2:
            said += f" If the difference is as measured, more than {_most(found)} seeds would be needed."
    return said if goal_points is None else f"{said} {goal_words(found, goal_points)}"


def goal_words(found: Difference, goal_points: float) -> str:
    reaches = round(100 * found.difference, 9) >= goal_points  # 20 points are 19.999999999999996 in floats
    return f"The goal was {goal_points:+g} points: the mean {'reaches' if reaches else 'misses'} it."


def found_in_words(pairs: Sequence[Difference]) -> tuple[str, ...]:
    """Of two arms what was found; of several the pairs that can be told apart, all corrected for each other."""
    if len(pairs) == 1:
        return (in_words(pairs[0]),)
    if pairs[0].p is None:
        return ("One training seed each says nothing about other trainings. Over scenes: the last table.",)
    told = tuple(in_words(pair) for pair in pairs if pair.p_holm is not None and pair.p_holm < LEVEL)
    none = f"None of the {len(pairs)} pairs can be told apart over training seeds, all corrected for each other (Holm)."
    smallest = min(1.0, pairs[0].smallest_p * len(pairs))
    none += f" No result of so few seeds could: the smallest corrected p is {smallest:.4f}." * (smallest >= LEVEL)
    return told or (none,)


def best_in_words(names: Sequence[str], *, tests: str) -> str:
    """The arms that no other is shown to be better than."""
    start = "Only this one" if len(names) == 1 else "Any of these"
    return f"{start} may be the best ({tests}): {', '.join(names)}."


def untested_in_words(pairs: Sequence[tuple[str, str]]) -> str:
    """Which arms were not tested with which others; empty if all were."""
    others: dict[str, list[str]] = {}
    for first, second in pairs:
        others.setdefault(second, []).append(first)
    listed = "; ".join(f"{name} with {', '.join(names)}" for name, names in others.items())
    return f"Not tested, since they share fewer than two training seeds: {listed}." * bool(pairs)


def p_text(p: float | None) -> str:
    return "-" if p is None else f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _most(found: Difference) -> int:
    """Seeds that are too few, where those needed were not found."""
    return max(MAX_SEEDS, len(found.per_seed))


def _name(found: Difference) -> str:
    return f"{found.first} - {found.second}"


def _interval(found: Difference) -> str:
    return "-" if found.low is None or found.high is None else f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
