"""What the evaluations of a study found: success of each scene, by arm and training seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from video2act.study.jobs import StudyPlan

Results = dict[tuple[str, int], Bool[np.ndarray, "scenes"]]


def read_results(plan: StudyPlan, folder: Path) -> Results:
    """Of the evaluations that are done.

    Raises:
        ValueError: one was made on other scenes.
    """
    found: Results = {}
    scenes = plan.config.scenes
    seeds = list(range(scenes.seed, scenes.seed + scenes.episodes))
    for key, place in plan.results.items():
        path = folder / place
        if path.is_file():
            info = json.loads(path.read_text())
            found[key] = successes(info, seeds, where=path)
    return found


def successes(info: dict[str, Any], seeds: list[int], *, where: Path) -> Bool[np.ndarray, "scenes"]:
    values = []
    for task in info["per_task"]:
        metrics = task["metrics"]
        if metrics["seeds"] != seeds:
            raise ValueError(
                f"{where} was evaluated on seeds {metrics['seeds'][:3]}..., the study's scenes are {seeds[:3]}...; "
                "evaluate it on these"
            )
        values += metrics["successes"]
    return np.array(values, bool)
