"""What the evaluations of an arm are of: which training, with which settings. For `compare`, and for a study's results
from elsewhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from video2act.files.differences import differences
from video2act.files.evaluation_folder import run_of
from video2act.files.run_folder import TRAINING_FILE
from video2act.training.resuming import read_settings

Evaluated = tuple[Path, dict[str, Any]]
"""the folder or file of an evaluation, and its content"""
NAMES = ("run", "out", "workers", "pool", "num_videos", "device", "episodes", "seed", "seeds", "env", "expert")
"""settings that differ without a difference in what is measured, or are compared by themselves"""
UNKNOWN = -1
"""in place of a training seed"""


def run_folder(path: Path, info: dict[str, Any]) -> Path | None:
    """The run folder of an evaluation, if it is still there."""
    return run_of(path if path.is_dir() else path.parent, info)


def training_seed(path: Path, info: dict[str, Any]) -> int:
    """`UNKNOWN`: the run folder is not where it was, or does not say."""
    run = run_folder(path, info)
    found = read_settings(run / TRAINING_FILE).get("seed") if run and (run / TRAINING_FILE).is_file() else None
    return found if isinstance(found, int) else UNKNOWN


def check_own_trainings(arm: Sequence[Evaluated]) -> None:
    """Raise ValueError where an arm joins evaluations of one training: it would count as several training seeds."""
    runs: dict[Path, Path] = {}
    for folder, info in arm:
        run = run_folder(folder, info)
        if run is not None and (first := runs.setdefault(run.resolve(), folder)) != folder:
            problem = f"{first} and {folder} are of one training, {run}; they are not two training seeds"
            raise ValueError(f"{problem}. Join evaluations of several trainings, or name one of these")


def settings_differ(first: Evaluated, other: Evaluated) -> Iterator[str]:
    """How two evaluations were made otherwise."""
    kept = [{key: value for key, value in info["settings"].items() if key not in NAMES} for _, info in (first, other)]
    for line in differences(*kept, words=(f"in {first[0]}", f"in {other[0]}")):
        yield f"Settings differ: {line}."
