"""Findings of an evaluation: rates with an interval, percentiles, and the content of `eval_info.json` and `steps.csv`.

LeRobot's fields keep LeRobot's names and meaning, so that its readers work. Beside them stand counts, seeds, the
expert's rate on the same scenes, latencies, staleness, versions and settings.
"""

import csv
import datetime
import importlib.metadata
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from video2act.config import PolicyConfig
from video2act.envs.simulation import renderer
from video2act.incidents import Incidents
from video2act.runtime.control_loop import StepRecord

SIMULATORS = ("mujoco", "metaworld", "gym-aloha", "robosuite")
PACKAGES = ("video2act", "torch", "diffusers", "transformers", "numpy", *SIMULATORS, "av")
RENDERER = "MUJOCO_GL"
"""stands among the versions"""


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode of one environment, by the policy and by the expert."""

    env: str
    seed: int
    success: bool
    expert_success: bool | None
    """None: no expert played"""
    num_steps: int
    missed_deadlines: int
    duration_s: float
    film: str | None
    """path of the mp4, relative to the output folder"""


@dataclass
class Measurements:
    """Raw seconds, from all episodes."""

    system1: list[float] = field(default_factory=list)
    system2: list[float] = field(default_factory=list)
    environment_step: list[float] = field(default_factory=list)
    staleness: list[float] = field(default_factory=list)
    """one entry per plan"""
    control_period: list[float] = field(default_factory=list)
    jitter: list[float] = field(default_factory=list)
    """difference of each control step from its period; empty if no rate was kept"""
    step_staleness: list[float] = field(default_factory=list)
    """age of the video condition under the running plan, one entry per control step"""
    held_steps: int = 0
    """control steps that kept the last target for want of a plan"""
    clamped_steps: int = 0
    incidents: Incidents = field(default_factory=Incidents)
    """failures that did not end the episode"""

    def extend(self, other: "Measurements") -> None:
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))


@dataclass(frozen=True)
class SuccessRate:
    """Successes among episodes. Printed as `43/50 = 86 % (74-93 %)`: the counts, the share and its Wilson interval.

    Raises:
        ValueError: no episodes, or more successes than episodes.
    """

    successes: int
    n_episodes: int

    def __post_init__(self) -> None:
        if self.n_episodes < 1 or not 0 <= self.successes <= self.n_episodes:
            raise ValueError(
                f"expected 0 <= successes <= n_episodes and n_episodes >= 1, got {self.successes} of {self.n_episodes}"
            )

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.wilson_95)
        return f"{self.successes}/{self.n_episodes} = {100 * self.share:.0f} % ({low:.0f}-{high:.0f} %)"

    @property
    def share(self) -> float:
        return self.successes / self.n_episodes

    @property
    def wilson_95(self) -> tuple[float, float]:
        """95 % interval of the success probability (Wilson 1927), which is sound near 0 and 1."""
        z, n, p = 1.959964, self.n_episodes, self.share
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        # rounding would leave 5e-17 at the ends, where the bounds are exact
        return 0.0 if self.successes == 0 else centre - half, 1.0 if self.successes == n else centre + half

    def to_json(self) -> dict[str, Any]:
        return {"successes": self.successes, "n_episodes": self.n_episodes, "wilson_95": list(self.wilson_95)}


def percentiles(values: Sequence[float], factor: float = 1.0) -> dict[str, float] | None:
    """n, p50, p95, p99 and max; None for no values."""
    if not values:
        return None
    p50, p95, p99, largest = np.percentile(np.array(values) * factor, [50, 95, 99, 100])
    return {"n": float(len(values)), "p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(largest)}


def rates(records: Sequence[EpisodeRecord]) -> tuple[SuccessRate, SuccessRate | None]:
    """The policy's and the expert's; None where no expert played."""
    shown = [record.expert_success for record in records if record.expert_success is not None]
    success = SuccessRate(sum(record.success for record in records), len(records))
    return success, SuccessRate(sum(shown), len(shown)) if shown else None


def make_info(
    settings: dict[str, Any],
    config: PolicyConfig,
    *,
    records: Sequence[EpisodeRecord],
    measured: Measurements,
    eval_s: float,
) -> dict[str, Any]:
    """The content of `eval_info.json`; `settings` are the options."""

    def aggregate(chosen: Sequence[EpisodeRecord]) -> dict[str, Any]:
        success, expert = rates(chosen)
        return {
            "avg_sum_reward": None,  # environments here give success, no reward
            "avg_max_reward": None,
            "pc_success": 100 * success.successes / success.n_episodes,
            "n_episodes": success.n_episodes,
            "video_paths": [record.film for record in chosen if record.film is not None],
            "success": success.to_json(),
            "expert": expert and expert.to_json(),
        }

    per_task, groups = [], {}
    for task_id, env in enumerate(dict.fromkeys(record.env for record in records)):
        chosen = [record for record in records if record.env == env]
        group, _, task = env.partition(":")
        groups.setdefault(group, []).extend(chosen)
        totals = aggregate(chosen)
        metrics = {
            "successes": [record.success for record in chosen],
            "expert_successes": [record.expert_success for record in chosen],
            "seeds": [record.seed for record in chosen],
            "num_steps": [record.num_steps for record in chosen],
            "video_paths": totals["video_paths"],
        }
        rate = {"success": totals["success"], "expert": totals["expert"]}
        per_task.append({"task_group": group, "task_id": task_id, "task": task, "metrics": metrics, **rate})
    has_system2 = config.system2 is not None
    robot_s = sum(record.num_steps for record in records) / config.fps
    return {
        "per_task": per_task,
        "per_group": {group: aggregate(chosen) for group, chosen in groups.items()},
        "overall": {**aggregate(records), "eval_s": eval_s, "eval_ep_s": eval_s / len(records)},
        "latency_s": {
            "system1": percentiles(measured.system1),
            "system2": percentiles(measured.system2) if has_system2 else None,
            "environment_step": percentiles(measured.environment_step),
        },
        "staleness": {
            "seconds": percentiles(measured.staleness) if has_system2 else None,
            "control_steps": percentiles(measured.staleness, config.fps) if has_system2 else None,
            "max_steps_in_training": config.max_staleness_steps,
        },
        "runtime": {
            "control_period_s": percentiles(measured.control_period),
            "jitter_s": percentiles(measured.jitter),
            "step_staleness_s": percentiles(measured.step_staleness) if has_system2 else None,
            # per second of the robot's time: a simulator in lockstep has no rate of its own
            "system1_hz": len(measured.system1) / robot_s,
            "system2_hz": len(measured.system2) / robot_s if has_system2 else None,
            "held_steps": measured.held_steps,
            "clamped_steps": measured.clamped_steps,
            "incidents": measured.incidents.to_json(),
            "incidents_by_kind": measured.incidents.counts,
        },
        "missed_deadlines": sum(record.missed_deadlines for record in records),
        "control_steps": sum(record.num_steps for record in records),
        "settings": settings,
        "policy": {
            "preset": config.preset,
            "fps": config.fps,
            "horizon": config.horizon,
            "execute_steps": config.execute_steps,
        },
        "versions": versions(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Versions of the packages that the numbers depend on, and MuJoCo's renderer; None for a package that is not
    installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return {**found, RENDERER: renderer()}


def steps_csv(steps: Sequence[tuple[str, int, StepRecord]]) -> str:
    """One line per control step: its time, and the plan and condition that it acted on."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    names = [part.name for part in fields(StepRecord)]
    lines.writerow(["env", "seed", *names])
    for env, seed, step in steps:
        values = (getattr(step, name) for name in names)
        lines.writerow([env, seed, *(int(value) if isinstance(value, bool) else value for value in values)])
    return text.getvalue()
