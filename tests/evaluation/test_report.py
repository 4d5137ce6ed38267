"""Tables from the data of eval_info.json."""

from typing import Any

from video2act.evaluation.report import EpisodeProgress, evaluation_markdown, rate_text

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


def test_a_rate_shows_counts_and_its_interval():
    assert rate_text(RATE) == "43/50 = 86.0 % (73.8 to 93.0)"
    assert rate_text(None) == "not run"


def test_markdown_holds_the_numbers_in_tables_that_are_not_broken():
    text = evaluation_markdown(info())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert any("metaworld:push-v3" in row and "43/50" in row and "not run" in row for row in rows)
    assert any("System 1, one plan (ms)" in row and "17.2" in row for row in rows)
    assert any("System 2, one refresh (ms)" in row and " - " in row for row in rows)
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_a_control_says_that_it_is_one():
    assert "BLIND" in evaluation_markdown(info(blind=True))
    assert "BLIND" not in evaluation_markdown(info())


def test_staleness_measured_on_a_machine_that_is_too_slow_is_qualified():
    assert "LATE" not in evaluation_markdown(info())
    assert "150 of 200 control steps were LATE" in evaluation_markdown(info() | {"missed_deadlines": 150})


def test_progress_counts_episodes_and_successes():
    with EpisodeProgress(3) as progress:
        for success in (True, False):
            progress.tell(success)
        (task,) = progress.bar.tasks
    assert (task.completed, task.total, task.fields["successes"]) == (2, 3, 1)
