"""The plots of a study."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("robostats")
pytest.importorskip("matplotlib")
from video2act.evaluation.comparison import difference, rate
from video2act.study.plots import draw


def drawn(folder: Path, title: str = "good") -> dict[str, bytes]:
    """All files of two arms' plots."""
    first, second = ({seed: np.arange(50) < share + seed for seed in range(4)} for share in (30, 10))
    found = difference((title, first), ("bad", second))
    rates = {"a": rate(first), "b": rate(second)}
    draw(folder, {"a": title, "b": "bad"}, rates=rates, differences=[found])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_results_make_the_same_files(tmp_path: Path):
    """Names in an svg were drawn by chance, so every report changed its plots."""
    first = drawn(tmp_path / "first")
    assert set(first) == {"success.png", "success.svg", "contrasts.png", "contrasts.svg"}
    assert drawn(tmp_path / "second") == first


def test_a_title_is_shown_as_it_is_written(tmp_path: Path):
    r"""`$\frac$` was read as a formula and ended the report; `cost $5, not $6` lost its signs."""
    assert b"$5, not $6" in drawn(tmp_path / "money", "cost $5, not $6")["success.svg"]
    assert drawn(tmp_path / "formula", r"$\frac$")


def test_a_missing_interval_is_not_drawn_as_a_certain_one(tmp_path: Path):
    """Seeds that agree have no interval, and the picture showed one without width, as if the share were known."""
    alike = rate({0: np.arange(50) < 25, 1: np.arange(50) < 25})
    known = rate({0: np.arange(50) < 25, 1: np.arange(50) < 30})
    bars = []
    for name, found in (("alike", alike), ("known", known)):
        draw(tmp_path / name, {"a": name}, rates={"a": found}, differences=[])
        bars.append((tmp_path / name / "success.svg").read_text().count("stroke-width: 3;"))
    assert bars == [0, 1]
