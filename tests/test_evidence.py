"""The page of evidence: intervals follow from the seeds beside them, and its figures can be drawn."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
evidence_plots = pytest.importorskip("evidence_plots")  # needs the extra `study`

PAGE = (ROOT / "docs" / "evidence.md").read_text()
SEEDS = evidence_plots.seed_tables(PAGE)
STATED = {(table[0][0], row[0]): row[-1] for table in evidence_plots.tables(PAGE) for row in table[1:]}


@pytest.mark.parametrize(("table", "row"), [(table, row) for table in SEEDS for row in SEEDS[table]])
def test_every_interval_is_the_one_of_its_seeds(table: str, row: str):
    values, stated = SEEDS[table][row], STATED[table, row]
    if len(values) == 1:
        assert stated == "one seed"
        return
    mean, low, high = evidence_plots.interval(values)
    if "%" not in stated:
        assert stated == f"{mean:+.0f} ({max(low, -100):+.0f} to {min(high, 100):+.0f})"
    else:
        assert stated == f"{mean:.0f} % ({max(low, 0):.0f} to {min(high, 100):.0f})"


RESULTS = re.findall(r"<!-- results/(\w+)\.json: ([^>]+) -->\n\n\| ([^|]+) \|", PAGE)
"""study, arms of the rows (`a, b`, or differences: `a minus b, c` and `a, b minus c`), first cell of the table"""


@pytest.mark.parametrize(("study", "arms", "table"), RESULTS)
def test_rows_are_those_of_the_committed_results(study: str, arms: str, table: str):
    found = json.loads((ROOT / "studies" / "results" / f"{study}.json").read_text())["arms"]
    firsts, _, others = (part.split(", ") if part else [] for part in arms.partition(" minus "))
    count = max(len(firsts), len(others))
    pairs = zip(firsts * (count // len(firsts)), (others or [""]) * (count // max(1, len(others))), strict=True)
    for (row, stated), (first, other) in zip(SEEDS[table].items(), pairs, strict=True):
        success, less = found[first]["per_seed"], found[other]["per_seed"] if other else {}
        seeds = sorted(success.keys() & (less or success).keys(), key=int)
        assert stated == pytest.approx([100 * (success[seed] - less.get(seed, 0)) for seed in seeds]), row


def test_every_study_with_results_is_in_a_table():
    committed = {path.stem for path in (ROOT / "studies" / "results").glob("*.json")}
    assert {study for study, _, _ in RESULTS} == committed - {"moving_intercept_smoke"}


def test_differences_are_those_of_the_counts():
    for table, minus in (
        ("policy, push", "both systems, minus"),
        ("policy, push, earlier presets", "both systems of earlier presets, minus"),
    ):
        arms, differences = SEEDS[table], SEEDS[minus]
        of_row = dict(zip(differences, list(arms)[1:], strict=True))  # in the same order
        for row, arm in of_row.items():
            pairs = zip(arms["both systems"], arms[arm], strict=False)  # a row may lack the last seeds
            assert differences[row] == pytest.approx([a - b for a, b in pairs])


def test_the_first_table_repeats_the_contrasts():
    first = str(evidence_plots.tables(PAGE)[0]).replace(" points (", " (")
    for table, row in (
        ("both systems, minus", "System 1 alone"),
        ("both systems of earlier presets, minus", "random weights"),
        ("boundaries + motion, minus", "random weights"),
        ("boundaries + motion, minus", "17 copies of the newest frame"),
        ("boundaries + motion, made anew, minus", "17 copies of the newest frame"),
        ("boundaries + motion, made anew, minus", "random weights"),
        ("each clip scaled, minus", "random weights"),
        ("video model of 310 episodes, minus", "video model of 10 episodes"),
    ):
        mean, _, interval = STATED[table, row].partition(" ")
        assert f"{mean} {interval}" in first


PROBED = {  # of the tables in lookahead.md: the row's weights, and whether it looks ahead
    "trained, past only": ("trained", False),
    "trained, imagined": ("trained", True),
    "random weights, past only": ("random", False),
    "random weights, imagined": ("random", True),
    "codec latents": ("latents", False),
    "still clip, past only": ("still", False),
    "still clip, imagined": ("still", True),
    "the true future (ceiling)": ("future", False),
    "blind": ("blind", False),
}


def test_the_table_of_the_probes_is_that_of_the_committed_results():
    """A quarter of its interval ends were off by .001."""
    page = (ROOT / "docs" / "lookahead.md").read_text()
    (table,) = (each for each in evidence_plots.tables(page) if "codec latents" in {row[0] for row in each})
    for column, name in enumerate(("moving_intercept", "moving_push", "push", "libero_object_130"), start=1):
        rows = json.loads((ROOT / "studies" / "probes" / f"{name}.json").read_text())["rows"]
        errors = {(row["weights"], row["looks_ahead"]): row["errors"] for row in rows}
        for row in table[2:]:
            found = errors[PROBED[row[0].strip("*")]]
            stated = f"{sum(found) / len(found):.3f}"
            if row[0] not in ("**trained, past only**", "blind"):
                pairs = zip(found, errors["trained", False], strict=True)
                _, low, high = evidence_plots.interval([one - first for one, first in pairs])
                stated += f" ({low:+.3f} to {high:+.3f})"
            assert row[column] == stated.replace("0.", "."), (name, row[0])


def test_the_figures_of_the_page_exist_and_are_drawn():
    named = set(re.findall(r"images/(evidence_\w+\.svg)", PAGE))
    assert named == {path.name for path in (ROOT / "docs" / "images").glob("evidence_*.svg")}
    assert len(evidence_plots.draw_seeds({"push": SEEDS["policy, push"]}).axes) == 1
    assert evidence_plots.draw_late(PAGE).axes[0].get_legend()
