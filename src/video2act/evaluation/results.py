"""The folder of an evaluation that is complete, as other programs read it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from textwrap import shorten
from typing import Any

from video2act.evaluation.traces import read_traces
from video2act.files.evaluation_folder import control_of, env_of, read_evaluation
from video2act.trace import Trace

STEPS_FILE = "steps.csv"


@dataclass(frozen=True)
class EpisodeOutcome:
    """One episode, as `eval_info.json` has it."""

    env: str
    seed: int
    success: bool
    num_steps: int
    relative_steps: float
    """control steps, over the median of its task"""

    def __str__(self) -> str:
        return f"{self.env}, seed {self.seed}: {'success' if self.success else 'failure'} after {self.num_steps} steps"


@dataclass(frozen=True)
class Results:
    """Raises FileNotFoundError or ValueError, when it is read: the folder holds no evaluation, or a damaged one."""

    folder: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        return read_evaluation(self.folder)

    @cached_property
    def steps(self) -> dict[tuple[str, int], list[dict[str, str]]]:
        """(environment, seed) -> the lines of `steps.csv`."""
        path, found = self.folder / STEPS_FILE, dict[tuple[str, int], list[dict[str, str]]]()
        if path.is_file():
            with path.open(newline="") as file:
                for line in csv.DictReader(file):
                    found.setdefault((line["env"], int(line["seed"])), []).append(line)
        return found

    @cached_property
    def traces(self) -> dict[tuple[str, int], Trace]:
        return read_traces(self.folder)

    @property
    def episodes(self) -> list[EpisodeOutcome]:
        found = []
        for task in self.info["per_task"]:
            env, metrics = env_of(task), task["metrics"]
            usual = median(metrics["num_steps"])
            for seed, success, steps in zip(metrics["seeds"], metrics["successes"], metrics["num_steps"], strict=True):
                found.append(EpisodeOutcome(env, seed, success, steps, steps / usual))
        return found

    @property
    def name(self) -> str:
        """What is special about it: its folder, and that it is a control."""
        control, folder = shorten(control_of(self.info), 60), self.folder.name
        return folder if control in (folder, "") else f"{folder} (control: {control})"

    @property
    def is_control(self) -> bool:
        return bool(control_of(self.info))


def best_and_worst(episodes: Sequence[EpisodeOutcome]) -> tuple[EpisodeOutcome, EpisodeOutcome]:
    """The fastest success, and the longest failure; without a failure, the slowest success. Steps count relative to
    the median of the task, so that a long task is not the worst one. Raises ValueError for no episode."""
    if not episodes:
        raise ValueError("an evaluation without episodes has neither a best nor a worst one")
    best = min(episodes, key=lambda each: (not each.success, each.relative_steps))
    return best, max(episodes, key=lambda each: (not each.success, each.relative_steps))
