"""The sections of a report that need no policy and no simulator: success, time, plans, incidents, losses."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from video2act.config.plain import damage_named, parse_json
from video2act.evaluation.report import rate_text, timing_rows
from video2act.evaluation.results import STEPS_FILE, EpisodeOutcome, Results
from video2act.files.evaluation_folder import env_of
from video2act.trace import Trace
from video2act.viz.charts import Line, Mark, Share, line_chart, share_chart, timeline_chart
from video2act.viz.page import Page

MAX_POINTS = 400
"""of a loss curve; more are averaged in groups"""
MAX_ROWS, MAX_DIMENSIONS, MAX_INCIDENTS = 40, 16, 100


def success(page: Page, results: Sequence[Results]) -> None:
    """Rates per task and evaluation."""
    shares, rows = [], []
    for each in results:
        for task in each.info["per_task"]:
            rate, name = task["success"], f"{env_of(task)}, {each.name}" if len(results) > 1 else env_of(task)
            low, high = rate["wilson_95"]
            counts = f"{rate['successes']}/{rate['n_episodes']}"
            shares.append(Share(name, rate["successes"] / rate["n_episodes"], low, high, counts))
            rows.append((name, rate_text(rate), rate_text(task["expert"])))
    for begin in range(0, len(shares), 12):
        page.figure(
            share_chart(shares[begin : begin + 12]), "Share of successful episodes; bar: 95 % interval (Wilson)"
        )
    page.table(("task", "success (Wilson 95 %)", "scripted expert, same seeds"), rows)


def losses(page: Page, folder: Path, *, title: str) -> bool:
    """The curves of a training's `metrics.jsonl`; whether there are any."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return False
    with damage_named(path, "train again, or remove the file: the report does without"):
        lines = [parse_json(line) for line in path.read_bytes().splitlines()]
        records = [{"step": record["step"]} | {name: float(record[name]) for name in record} for record in lines]
    names = [name for name in dict.fromkeys(name for record in records for name in record) if "loss" in name]
    for group, is_log in ((names, True), (["gradient_norm"], True), (["learning_rate"], False)):
        lines, averaged = [], dict[int, list[str]]()
        for name in group:
            x = [record["step"] for record in records if name in record]
            y = [record[name] for record in records if name in record]
            size = max(1, -(-len(x) // MAX_POINTS))
            lines.append(Line(_means(x, size), _means(y, size), name.replace("_", " ")))
            if size > 1:
                averaged.setdefault(size, []).append(name.replace("_", " "))
        lines = [line for line in lines if len(line.x)]
        if not lines:
            continue
        means = [f"; of {', '.join(of)}, each point is the mean of {size} values" for size, of in averaged.items()]
        what = "loss" if group is names else group[0].replace("_", " ")
        chart = line_chart(lines, x_title="training step", y_title=what, is_log=is_log)
        page.figure(chart, f"{title}: {what}{', logarithmic' if is_log else ''}{''.join(means)}")
    return bool(names)


def _means(values: list[float | int], size: int) -> list[float]:
    return [float(np.mean(values[begin : begin + size])) for begin in range(0, len(values), size)]


def timing(page: Page, results: Results, *, chosen: Sequence[tuple[str, EpisodeOutcome]]) -> None:
    """Percentiles over all episodes, and the course of the chosen ones."""
    page.table(("measured", "n", "p50", "p95", "p99", "max"), timing_rows(results.info), caption="over all episodes")
    if not results.steps:
        page.text(f"{STEPS_FILE} is missing, so the course of single episodes is not known.", is_warning=True)
    fps = results.info["policy"]["fps"]
    for title, episode in chosen:
        lines = results.steps.get((episode.env, episode.seed))
        if not lines:
            continue
        times = [float(line["time"]) for line in lines]
        took = [1000 * float(line["period_s"]) for line in lines]
        limit = [1000 / fps] * len(times)
        drawn = [Line(times, took, "control step"), Line(times, limit, "control period", is_faint=True)]
        chart = line_chart(drawn, x_title="seconds of the robot's clock", y_title="ms", is_log=True)
        page.figure(
            chart, f"{title}: wall-clock time of each control step, ms, logarithmic. System 1 plans in the peaks"
        )
        ages = [(at, float(line["staleness_s"])) for at, line in zip(times, lines, strict=True) if line["staleness_s"]]
        if ages:
            x, y = zip(*ages, strict=True)
            chart = line_chart([Line(x, y)], x_title="seconds of the robot's clock", y_title="staleness", floor=0)
            page.figure(chart, f"{title}: age of the video condition under the running plan, seconds")


def plans(page: Page, trace: Trace, *, title: str, names: Sequence[str], fps: float) -> None:
    """Each plan as it was made, and what was executed."""
    steps, horizon = np.arange(len(trace.actions)), trace.plans.shape[1]
    for number in range(min(trace.actions.shape[1], MAX_DIMENSIONS)):
        name = names[number] if number < len(names) else f"action {number}"
        lines = [
            Line(((begin + np.arange(horizon)) / fps).tolist(), plan[:, number].tolist(), "plans", is_faint=True)
            for begin, plan in zip(trace.plan_steps, trace.plans, strict=True)
        ]
        lines.append(Line((steps / fps).tolist(), trace.actions[:, number].tolist(), "executed"))
        page.figure(line_chart(lines, x_title="seconds", y_title=name), f"{title}: {name}, in the robot's units")
    if trace.actions.shape[1] > MAX_DIMENSIONS:
        page.text(f"{MAX_DIMENSIONS} of {trace.actions.shape[1]} actions are drawn.")


def plan_errors(page: Page, traces: Sequence[Trace]) -> None:
    """How far plans were from what was executed later, by the time ahead."""
    deviation = np.concatenate([trace.actions for trace in traces]).std(axis=0)
    moving = deviation > 1e-6
    if not moving.any():
        return
    horizon = min(trace.plans.shape[1] for trace in traces)
    errors: list[list[float]] = [[] for _ in range(horizon)]
    for trace in traces:
        for begin, plan in zip(trace.plan_steps, trace.plans, strict=True):
            executed = trace.actions[begin : begin + horizon]
            gap = ((plan[: len(executed)] - executed) / np.where(moving, deviation, 1))[:, moving]
            for ahead, each in enumerate(gap):
                errors[ahead].append(float(np.square(each).mean()))
    y = [float(np.mean(found)) ** 0.5 for found in errors if found]
    chart = line_chart([Line(list(range(len(y))), y)], x_title="control steps ahead", y_title="difference", floor=0)
    page.figure(
        chart,
        f"Root mean square difference of plan and execution over {len(traces)} episodes, in standard deviations of the "
        "executed actions. Later plans replace the end of earlier ones",
    )


def incidents(page: Page, results: Results) -> None:
    """Everything that went wrong, in its episode and at its moment."""
    marks, rows = [], []
    for (env, seed), lines in results.steps.items():
        task, times = env.partition(":")[2] or env, [float(line["time"]) for line in lines]
        name = f"{task[: 17 - len(str(seed))]} {seed}"
        if name in {name for name, _ in rows}:  # two tasks whose names begin alike
            name = f"{len(rows)}: {seed}"
        rows.append((name, times[-1]))
        for kind, text in (("is_held", "held"), ("is_clamped", "clamped"), ("is_late", "late")):
            for is_on, run in groupby(range(len(lines)), key=lambda step: lines[step].get(kind) == "1"):
                if is_on:
                    first, last = _ends(run)
                    marks.append(Mark(name, times[first], text, f"{last - first + 1} control steps", times[last]))
        for at, line in zip(times, lines, strict=True):
            marks += [Mark(name, at, kind, line["time"]) for kind in (line.get("incidents") or "").split()]
    runtime = results.info.get("runtime", {})
    by_kind = runtime.get("incidents_by_kind") or {}
    counts = [
        (name, count)
        for name, count in (
            ("control steps that were held", runtime.get("held_steps")),
            ("control steps with clamped actions", runtime.get("clamped_steps")),
            ("control steps that were late", results.info.get("missed_deadlines")),
        )
        if count
    ]
    if not marks and not by_kind and not counts:
        num = len(results.episodes)
        page.text(f"None, in {num} episodes: no action was held or clamped, no control step was late.")
        return
    if not rows:
        page.text(f"{STEPS_FILE} is missing, so when these happened is not known.", is_warning=True)
    troubled = {mark.row for mark in marks}
    shown = [row for row in rows if row[0] in troubled][:MAX_ROWS]
    names = {name for name, _ in shown}
    if shown:
        chart = timeline_chart(
            [mark for mark in marks if mark.row in names], shown, x_title="seconds of the robot's clock"
        )
        page.figure(
            chart, f"Episodes with incidents: {len(shown)} of {len(rows)}; {len(troubled)} have any", is_wide=True
        )
    if counts:
        total = results.info["control_steps"]
        page.table(("what", "times"), counts, caption=f"of {total} control steps")
    if by_kind:
        page.table(("kind", "times"), sorted(by_kind.items()), caption="incidents")
    newest = runtime.get("incidents") or []
    told = list(dict.fromkeys((incident["kind"], incident["text"]) for incident in newest))
    if told:
        page.table(
            ("kind", "what happened"), told[:MAX_INCIDENTS], caption=f"texts of the newest {len(newest)} incidents"
        )


def _ends(run: Iterable[int]) -> tuple[int, int]:
    steps = list(run)
    return steps[0], steps[-1]
