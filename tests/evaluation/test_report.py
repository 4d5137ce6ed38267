"""Tables from the data of eval_info.json."""

from typing import Any

from rich.table import Table

from video2act.evaluation.report import evaluation_tables, heading, rate_text

RATE = {"successes": 43, "n_episodes": 50, "wilson_95": [0.738, 0.930]}
PERCENTILES = {"n": 100, "p50": 0.0172, "p95": 0.02, "p99": 0.03}


def info(blind: bool = False) -> dict[str, Any]:
    return {
        "per_task": [{"task_group": "metaworld", "task": "push-v3", "success": RATE, "expert": None}],
        "overall": {"success": RATE, "expert": None},
        "latency_s": {"system1": PERCENTILES, "system2": None, "environment_step": PERCENTILES},
        "staleness": {"seconds": None, "control_steps": None},
        "missed_deadlines": 0,
        "control_steps": 200,
        "settings": {"system2": "inline", "refresh_every": 8, "blind": blind, "instruction": None},
    }


def rows(table: Table) -> list[list[str]]:
    return [list(row) for row in zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True)]


def test_a_rate_shows_counts_and_its_interval():
    assert rate_text(RATE) == "43/50 = 86 % (74-93 %)"
    assert rate_text(None) == "not run"


def test_tables_hold_the_numbers():
    success, timing = (rows(table) for table in evaluation_tables(info()))
    assert success == [["metaworld:push-v3", "43/50 = 86 % (74-93 %)", "not run"]]
    assert ["System 1, one plan (ms)", "100", "17.2", "20", "30", "-"] in timing
    assert ["System 2, one refresh (ms)", "0", "-", "-", "-", "-"] in timing


def test_a_control_says_that_it_is_one():
    assert "BLIND" in heading(info(blind=True))
    assert "BLIND" not in heading(info())


def test_staleness_measured_on_a_machine_that_is_too_slow_is_qualified():
    assert "LATE" not in heading(info())
    assert "150 of 200 control steps were LATE" in heading(info() | {"missed_deadlines": 150})
