"""What the evaluations of a study found: success of each scene, by arm and training seed."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from video2act.study.jobs import StudyPlan

Results = dict[str, dict[int, Bool[np.ndarray, "scenes"]]]
"""arm -> training seed -> success of each scene"""


def read_results(plan: StudyPlan, folder: Path, seeds: Collection[int]) -> Results:
    """The results of the evaluations that are done; an arm without any is left out.

    Raises:
        ValueError: one was made on other scenes.
    """
    found: Results = {}
    scenes = range(plan.config.scenes.seed, plan.config.scenes.seed + plan.config.scenes.episodes)
    for (arm, seed), place in plan.results.items():
        if seed in seeds and (folder / place).is_file():
            info = json.loads((folder / place).read_text())
            found.setdefault(arm, {})[seed] = scene_results(info, scenes, where=folder / place)
    return found


def scene_results(info: dict[str, Any], scenes: Sequence[int], *, where: Path) -> Bool[np.ndarray, "scenes"]:
    """Success in every scene, task after task, from the content of an `eval_info.json`.

    Raises:
        ValueError: it was made on other scenes.
    """
    won: list[bool] = []
    for task in info["per_task"]:
        metrics = task["metrics"]
        if metrics["seeds"] != list(scenes):
            theirs, ours = metrics["seeds"], list(scenes)
            raise ValueError(
                f"{where} was evaluated on {len(theirs)} seeds from {theirs[0]}, the others on {len(ours)} from "
                f"{ours[0]}; evaluate all on the same"
            )
        won += metrics["successes"]
    return np.array(won, bool)
