"""Tables for a terminal, from the content of an `eval_info.json`."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from video2act.evaluation.findings import SuccessRate
from video2act.files.evaluation_folder import env_of

SERVED = "served"
"""stands for the preset of a policy whose networks are elsewhere"""


def evaluation_tables(info: dict[str, Any]) -> list[Table]:
    """Success per task and overall, then latency and staleness."""
    return [_success(info), _timing(info)]


def heading(info: dict[str, Any]) -> str:
    """One line to print above the tables: settings, controls, and what limits the meaning of the numbers."""
    settings = info["settings"]
    has_system2 = info.get("latency_s", {}).get("system2", {}) is not None
    how = f"System 2 {settings['system2']}, every {settings['refresh_every']} control steps"
    is_served = info.get("policy", {}).get("preset") == SERVED
    notes = [how if has_system2 else "a served policy, System 2 included" if is_served else "no System 2"]
    if settings["blind"]:
        notes.append("BLIND: no image, no video")
    if settings["instruction"] is not None:
        notes.append(f"instruction replaced by {settings['instruction']!r}")
    if settings.get("visual_shift"):
        notes.append(f"SHIFTED scenes: {settings['visual_shift']}")
    if note := _frames_note(settings):
        notes.append(note)
    if settings.get("simulate_latency"):
        simulated = settings["simulate_latency"].items()
        notes.append("SIMULATED latency: " + ", ".join(f"{name} {1000 * value:g} ms" for name, value in simulated))
    runtime = info.get("runtime", {})
    for name, what in (("held_steps", "the robot was HELD for"), ("clamped_steps", "actions were CLAMPED in")):
        if runtime.get(name):
            notes.append(f"{what} {runtime[name]} of {info['control_steps']} control steps")
    if runtime.get("incidents_by_kind"):
        kinds = ", ".join(f"{kind} {count}" for kind, count in runtime["incidents_by_kind"].items())
        notes.append(f"incidents: {kinds}; the first kept: {runtime['incidents'][0]['text']}")
    if info["missed_deadlines"]:
        # the simulator waits where the world would not: its clock, and with it staleness, ran slower than the wall's
        late = f"{info['missed_deadlines']} of {info['control_steps']}"
        notes.append(f"{late} control steps were LATE: this machine is too slow, on a robot staleness would be larger")
    return escape("; ".join(notes))


def _frames_note(settings: dict[str, Any]) -> str:
    """What to know where the pictures may have another size than in training; older evaluations do not say it."""
    chosen, recorded = settings.get("image_size"), settings.get("recorded_sizes")
    if recorded is None or settings["blind"]:
        return ""
    size = "{} x {} px".format(*chosen) if chosen else "the environment's own size"
    if not recorded:
        return f"images of {size}: their size in training is NOT RECORDED"
    differing = {camera: each for camera, each in recorded.items() if list(each) != list(chosen or ())}
    listed = ", ".join(f"{camera} {height} x {width}" for camera, (height, width) in differing.items())
    return f"images of {size}, in training: {listed}" if listed else ""


def rate_text(rate: dict[str, Any] | None) -> str:
    """As a `SuccessRate` is printed; `not run` without one."""
    return "not run" if rate is None else str(SuccessRate(rate["successes"], rate["n_episodes"]))


def _success(info: dict[str, Any]) -> Table:
    table = Table("task", "success (Wilson 95 %)", "expert, same seeds", title="success", title_justify="left")
    for task in info["per_task"]:
        table.add_row(env_of(task), rate_text(task["success"]), rate_text(task["expert"]))
    if len(info["per_task"]) > 1:
        table.add_row("overall", rate_text(info["overall"]["success"]), rate_text(info["overall"]["expert"]))
    return table


def _timing(info: dict[str, Any]) -> Table:
    table = Table("measured", "n", "p50", "p95", "p99", "max", title="latency and staleness", title_justify="left")
    for row in timing_rows(info):
        table.add_row(*row)
    return table


def timing_rows(info: dict[str, Any]) -> list[tuple[str, ...]]:
    """What was measured, its number, p50, p95, p99 and max."""
    runtime = info.get("runtime", {})
    measured = (
        ("System 1, one plan (ms)", 1000.0, info["latency_s"]["system1"]),
        ("System 2, one refresh (ms)", 1000.0, info["latency_s"]["system2"]),
        ("environment, one step (ms)", 1000.0, info["latency_s"]["environment_step"]),
        ("control step (ms)", 1000.0, runtime.get("control_period_s")),
        ("distance from its period (ms)", 1000.0, runtime.get("jitter_s")),
        ("staleness of a plan (s)", 1.0, info["staleness"]["seconds"]),
        ("staleness of a plan (control steps)", 1.0, info["staleness"]["control_steps"]),
    )
    return [(name, *_cells(percentiles, factor)) for name, factor, percentiles in measured]


def _cells(percentiles: dict[str, Any] | None, factor: float) -> Sequence[str]:
    if percentiles is None:
        return ("0", "-", "-", "-", "-")
    known = (percentiles.get(name) for name in ("p50", "p95", "p99", "max"))
    return (str(int(percentiles["n"])), *("-" if value is None else f"{factor * value:.3g}" for value in known))
