"""What `eval` writes, without an evaluation: for programs that read it."""

import json
from pathlib import Path
from typing import Any

from video2act.evaluation.findings import EpisodeRecord, Measurements, make_info
from video2act.presets import ANY_DATA, make_preset

MEASURED = Measurements(system1=[0.0125], system2=[0.031], staleness=[0.05])


def evaluation_info(
    tasks: dict[str, list[bool]], *, first: int = 1000, expert: int | None = None, **settings: Any
) -> dict[str, Any]:
    """The content of `eval_info.json`.

    Args:
        tasks: environment -> success of each scene.
        first: seed of the first scene.
        expert: in how many scenes of each environment the expert succeeds; None: it did not play.
    """
    records = [
        EpisodeRecord(env, first + scene, success, None if expert is None else scene < expert, 10, 0, 0.1, None)
        for env, successes in tasks.items()
        for scene, success in enumerate(successes)
    ]
    chosen = {"env": list(tasks), "run": "runs/a", "refresh_every": 8, "blind": False, "instruction": None} | settings
    return make_info(chosen, make_preset("tiny", ANY_DATA), records=records, measured=MEASURED, eval_s=1.0)


def write_info(folder: Path, info: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval_info.json").write_text(json.dumps(info))
    return folder
