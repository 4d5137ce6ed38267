"""Tables from the data of eval_info.json."""

from typing import Any

from rich.table import Table

from video2act.evaluation.report import evaluation_tables, heading, rate_text
from video2act.files.evaluation_folder import control_of

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
    shifted = info()
    shifted["settings"]["visual_shift"] = "mixed"
    assert "SHIFTED scenes: mixed" in heading(shifted)
    assert control_of(shifted) == "visual shift: mixed"
    assert control_of(info()) == ""
    assert control_of(shifted)
    assert not control_of(info())


def test_staleness_measured_on_a_machine_that_is_too_slow_is_qualified():
    assert "LATE" not in heading(info())
    assert "150 of 200 control steps were LATE" in heading(info() | {"missed_deadlines": 150})


def part(n: int, size: float) -> dict[str, float]:
    return {"n": n, "p50": size, "p95": 2 * size, "p99": 3 * size, "max": 4 * size}


def full() -> dict[str, Any]:
    """Every number another one."""
    expert = {"successes": 9, "n_episodes": 10}
    tasks = [("metaworld", "push-v3", RATE, None), ("count", "", {"successes": 1, "n_episodes": 4}, expert)]
    return info() | {
        "per_task": [
            {"task_group": group, "task": task, "success": success, "expert": shown}
            for group, task, success, shown in tasks
        ],
        "overall": {"success": {"successes": 44, "n_episodes": 54}, "expert": expert},
        "latency_s": {"system1": part(1, 0.01), "system2": part(2, 0.02), "environment_step": part(3, 0.03)},
        "staleness": {"seconds": part(6, 0.06), "control_steps": part(7, 7.0)},
        "runtime": {
            "control_period_s": part(4, 0.04),
            "jitter_s": part(5, 0.05),
            "held_steps": 11,
            "clamped_steps": 12,
            "incidents": [{"text": "a broken lens"}],
            "incidents_by_kind": {"system2_failed": 3, "hold": 1},
        },
    }


def test_every_row_has_its_own_numbers_in_its_own_unit():
    success, timing = (rows(table) for table in evaluation_tables(full()))
    assert success == [
        ["metaworld:push-v3", "43/50 = 86 % (74-93 %)", "not run"],
        ["count", "1/4 = 25 % (5-70 %)", "9/10 = 90 % (60-98 %)"],
        ["overall", "44/54 = 81 % (69-90 %)", "9/10 = 90 % (60-98 %)"],
    ]
    assert timing == [
        ["System 1, one plan (ms)", "1", "10", "20", "30", "40"],
        ["System 2, one refresh (ms)", "2", "20", "40", "60", "80"],
        ["environment, one step (ms)", "3", "30", "60", "90", "120"],
        ["control step (ms)", "4", "40", "80", "120", "160"],
        ["distance from its period (ms)", "5", "50", "100", "150", "200"],
        ["staleness of a plan (s)", "6", "0.06", "0.12", "0.18", "0.24"],
        ["staleness of a plan (control steps)", "7", "7", "14", "21", "28"],
    ]


def test_the_heading_says_what_limits_the_numbers():
    settings = {
        "system2": "thread",
        "refresh_every": 8,
        "blind": False,
        "instruction": "pull",
        "simulate_latency": {"system1": 0.06, "system2": 0.4, "jitter": 0.02},
    }
    assert heading(full() | {"settings": settings}) == (
        "System 2 thread, every 8 control steps; instruction replaced by 'pull'; "
        "SIMULATED latency: system1 60 ms, system2 400 ms, jitter 20 ms; "
        "the robot was HELD for 11 of 200 control steps; actions were CLAMPED in 12 of 200 control steps; "
        "incidents: system2_failed 3, hold 1; the first kept: a broken lens"
    )


def test_a_served_policy_is_not_said_to_have_no_system_2():
    assert heading(info()).startswith("no System 2")
    assert heading(info() | {"policy": {"preset": "served"}}).startswith("a served policy, System 2 included")
