"""The findings of an evaluation, by hand: every number from its own list, in its own unit."""

import csv
import io
from dataclasses import replace

import pytest

from video2act.config import PolicyConfig
from video2act.evaluation.findings import EpisodeRecord, Measurements, SuccessRate, make_info, percentiles, steps_csv
from video2act.incidents import Incidents
from video2act.runtime.control_loop import StepRecord


def record(env: str, seed: int, success: bool, expert: bool | None = True, **words) -> EpisodeRecord:
    return replace(EpisodeRecord(env, seed, success, expert, 10, 1, 2.5, None), **words)


RECORDS = [
    record("push:left", 7, True, film="videos/a.mp4"),
    record("push:left", 8, False, False, num_steps=30, missed_deadlines=4),
    record("push:right:far", 7, True, None),
    record("pull", 9, False),
]
"""60 control steps: 3 s at 20 Hz"""


def measured() -> Measurements:
    """Every list has a length and a size of its own."""
    incidents = Incidents()
    incidents.note("plan_refused", "not finite")
    return Measurements(
        system1=[0.01] * 6,
        system2=[0.5] * 3,
        environment_step=[0.002] * 5,
        staleness=[0.1, 0.3],
        control_period=[0.05] * 4,
        jitter=[0.004] * 7,
        step_staleness=[0.2] * 8,
        held_steps=3,
        clamped_steps=2,
        incidents=incidents,
    )


@pytest.fixture
def info(small_config: PolicyConfig) -> dict:
    config = replace(small_config, max_staleness_steps=6)
    return make_info({"blind": False}, config, records=RECORDS, measured=measured(), eval_s=6.0)


def test_successes_by_task_by_group_and_overall(info: dict):
    tasks = {(task["task_group"], task["task_id"], task["task"]): task for task in info["per_task"]}
    assert list(tasks) == [("push", 0, "left"), ("push", 1, "right:far"), ("pull", 2, "")]
    left = tasks["push", 0, "left"]
    assert left["metrics"] == {
        "successes": [True, False],
        "expert_successes": [True, False],
        "seeds": [7, 8],
        "num_steps": [10, 30],
        "video_paths": ["videos/a.mp4"],
    }
    assert (left["success"]["successes"], left["success"]["n_episodes"]) == (1, 2)
    assert (left["expert"]["successes"], left["expert"]["n_episodes"]) == (1, 2)
    assert tasks["push", 1, "right:far"]["expert"] is None
    push, pull, overall = info["per_group"]["push"], info["per_group"]["pull"], info["overall"]
    assert [part["pc_success"] for part in (push, pull, overall)] == pytest.approx([100 * 2 / 3, 0.0, 50.0])
    assert [part["n_episodes"] for part in (push, pull, overall)] == [3, 1, 4]
    # an expert that did not play is none that failed
    assert (overall["expert"]["successes"], overall["expert"]["n_episodes"]) == (2, 3)
    assert (overall["eval_s"], overall["eval_ep_s"]) == (6.0, 1.5)
    assert (info["control_steps"], info["missed_deadlines"]) == (60, 7)


def test_latencies_and_ages(info: dict, small_config: PolicyConfig):
    found = {
        name: (part["n"], pytest.approx(part["max"]))
        for group in ("latency_s", "staleness", "runtime")
        for name, part in info[group].items()
        if isinstance(part, dict) and "max" in part
    }
    assert found == {
        "system1": (6, 0.01),
        "system2": (3, 0.5),
        "environment_step": (5, 0.002),
        "seconds": (2, 0.3),
        "control_steps": (2, 6.0),
        "control_period_s": (4, 0.05),
        "jitter_s": (7, 0.004),
        "step_staleness_s": (8, 0.2),
    }
    assert info["staleness"]["max_steps_in_training"] == 6
    runtime = info["runtime"]
    assert (runtime["system1_hz"], runtime["system2_hz"]) == (2.0, 1.0)
    assert (runtime["held_steps"], runtime["clamped_steps"]) == (3, 2)
    assert runtime["incidents_by_kind"] == {"plan_refused": 1}
    assert info["policy"] == {"preset": small_config.preset, "fps": 20.0, "horizon": 4, "execute_steps": 2}


def test_a_policy_without_system_2_has_none_of_its_numbers(small_config: PolicyConfig):
    config = replace(small_config, system2=None)
    info = make_info({}, config, records=RECORDS, measured=measured(), eval_s=6.0)
    assert info["latency_s"]["system2"] is info["runtime"]["system2_hz"] is info["runtime"]["step_staleness_s"] is None
    assert info["staleness"]["seconds"] is info["staleness"]["control_steps"] is None
    assert info["latency_s"]["system1"]["n"] == 6


def test_percentiles_are_told_apart():
    """Of 0 to 199 and one outlier."""
    found = percentiles([*map(float, range(200)), 10_000.0])
    assert found == {"n": 201.0, "p50": 100.0, "p95": 190.0, "p99": 198.0, "max": 10_000.0}


def test_measurements_of_several_workers_are_joined():
    both = measured()
    both.extend(measured())
    assert (both.system1, both.held_steps, both.clamped_steps) == ([0.01] * 12, 6, 4)
    assert both.incidents.counts == {"plan_refused": 2}


def test_intervals_end_where_a_share_ends():
    assert SuccessRate(0, 3).wilson_95[0] == 0.0
    assert SuccessRate(3, 3).wilson_95[1] == 1.0
    assert str(SuccessRate(1, 3)) == "1/3 = 33 % (6-79 %)"


def test_a_line_of_the_log_for_every_control_step():
    steps = [
        StepRecord(0.0, 0.05, None, None, 0.0, True, False, False, True),
        StepRecord(0.05, 0.06, 0.1, 3, 0.05, False, True, True, False, "hold late"),
    ]
    rows = list(csv.DictReader(io.StringIO(steps_csv([("push:left", 7, steps[0]), ("pull", 8, steps[1])]))))
    assert [(row["env"], row["seed"]) for row in rows] == [("push:left", "7"), ("pull", "8")]
    assert list(rows[0].values())[2:] == ["0.0", "0.05", "", "", "0.0", "1", "0", "0", "1", ""]
    assert list(rows[1].values())[2:] == ["0.05", "0.06", "0.1", "3", "0.05", "0", "1", "1", "0", "hold late"]
