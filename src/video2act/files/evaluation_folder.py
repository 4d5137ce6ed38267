"""What `eval` leaves in a folder, as every other program reads it: `eval_info.json`, checked in one place."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from video2act.config.checks import check, shown
from video2act.config.files import build
from video2act.config.frames import VisualShiftName
from video2act.config.nearby import nearby
from video2act.config.plain import damage_named, read_json
from video2act.files.run_folder import CONFIG_FILE, policy_fingerprint

INFO_FILE = "eval_info.json"
EPISODES_FOLDER = "episodes"
"""of an evaluation that is not finished"""
VIDEOS_FOLDER = "videos"
"""a folder of films for each environment"""
RATE = {"successes": int, "n_episodes": int, "wilson_95": [float]}
PERCENTILES = {"p50": float, "p95": float}
METRICS = {"successes": [bool], "seeds": [int], "num_steps": [int]}
FORM = {
    "per_task": [{"task_group": str, "task": str, "metrics": METRICS, "success": RATE, "expert?": RATE}],
    "overall": {"success": RATE, "expert?": RATE},
    "latency_s": {"system1?": PERCENTILES, "system2?": PERCENTILES},
    "staleness": {"seconds?": PERCENTILES, "control_steps?": PERCENTILES},
    "runtime": {"held_steps": int},
    "control_steps": int,
    "settings": {"run?": str, "env": [str], "blind": bool, "instruction?": str},
    "time": str,
}
"""what other programs read; where a name ends with `?`, the value may be null"""


def evaluations_of(run: Path) -> list[Path]:
    """Folders of a run's finished evaluations."""
    return sorted(path.parent for path in (run / "eval").glob(f"*/{INFO_FILE}"))


def read_evaluations_of(run: Path) -> dict[Path, dict[str, Any]]:
    """The finished evaluations of the policy in a run folder. One of another policy, which was written there or stands
    from before a new training, is left out; that is printed."""
    found: dict[Path, dict[str, Any]] = {}
    for folder in evaluations_of(run):
        info = read_evaluation(folder)
        if is_of(run, info):
            found[folder] = info
        else:
            print(f"note: {folder} is left out: it is of another policy than the one in {run}")
    return found


def evaluations_below(place: Path) -> list[Path]:
    """Folders of the finished evaluations that a name stands for: its own, as a folder or its `eval_info.json`; else
    those of a run folder, or those directly below it, as in a run's folder `eval`."""
    if place.name == INFO_FILE and place.is_file():
        return [place.parent]
    if (place / INFO_FILE).is_file():
        return [place]
    return evaluations_of(place) or sorted(path.parent for path in place.glob(f"*/{INFO_FILE}"))


def read_evaluation(place: Path) -> dict[str, Any]:
    """The content of `eval_info.json`; `place` is the file, or its folder. Raises FileNotFoundError: there is none.
    ValueError: it is not what `eval` writes; the message names the value."""
    path = place / INFO_FILE if place.is_dir() else place
    if (place / EPISODES_FOLDER).is_dir() and not path.is_file():
        raise FileNotFoundError(f"{place} holds an evaluation that is not finished; the same `video2act eval` goes on")
    if not path.is_file():
        of_study = f", such as one in {place / 'evaluations'}" if (place / "evaluations").is_dir() else ""
        raise FileNotFoundError(
            f"{path} does not exist{nearby(path)}; name the folder of an evaluation that is finished{of_study}"
        )
    if path.suffix != ".json":
        raise ValueError(f"{path} is no evaluation; name what `video2act eval` wrote, a folder with {INFO_FILE}")
    again = ", or remove this file and evaluate again" if path.name == INFO_FILE else ""
    with damage_named(path, f"name what `video2act eval` wrote{again}"):
        info = read_json(path)
        _check_form(info, FORM, "it")
        # older ones have none
        build(VisualShiftName | None, info["settings"].get("visual_shift"), where="visual_shift")
        for task in info["per_task"]:
            counts = {len(task["metrics"][name]) for name in METRICS} | {task["success"]["n_episodes"]}
            check(len(counts) == 1, f"{env_of(task)} has {' and '.join(map(str, sorted(counts)))} episodes")
    return info


def control_of(info: dict[str, Any]) -> str:
    """Which control an evaluation is, in words; empty if it is none."""
    settings = info["settings"]
    shift, told = settings.get("visual_shift"), settings["instruction"]
    words = ["blind" if settings["blind"] else "", f"visual shift: {shift}" if shift else ""]
    return ", ".join(filter(None, [*words, f"told: {told}" if told else ""]))


def by_age(info: dict[str, Any]) -> tuple[bool, str]:
    """To find the newest of some evaluations, as the largest: a control only if there is no other."""
    return not control_of(info), info["time"]


def newest_evaluation(folders: Sequence[Path]) -> Path | None:
    """As `by_age`; None: there are none."""
    return max(folders, key=lambda folder: by_age(read_evaluation(folder)), default=None)


def run_of(folder: Path, info: dict[str, Any]) -> Path | None:
    """The run folder of an evaluation, if it is still there with the policy that was evaluated."""
    return next((run for run in _places(folder, info) if is_of(run, info)), None)


def replaced_run(folder: Path, info: dict[str, Any]) -> Path | None:
    """Where the run folder of an evaluation was, if another policy is there by now; for one without a `run_of`."""
    places = _places(folder, info)
    return places[-1] if places else None


def is_of(run: Path, info: dict[str, Any]) -> bool:
    """Whether the policy in a run folder is the one that was evaluated. Older evaluations do not tell, and count as of
    the folder that they are in."""
    return info.get("policy_fingerprint") in (None, "", policy_fingerprint(run))


def _places(folder: Path, info: dict[str, Any]) -> list[Path]:
    """Run folders that may be an evaluation's: above it, seen from it, or as a study or `eval` named it."""
    above, named = folder.resolve().parents[1], info["settings"]["run"]
    places = [above]
    places += [Path(os.path.normpath(folder.resolve() / info["run_from_here"]))] if "run_from_here" in info else []
    places += [above / named, Path(named)] if named else []
    return [run for run in places if (run / CONFIG_FILE).is_file()]


def env_of(task: dict[str, Any]) -> str:
    """The environment of an entry of `per_task`, as `eval` takes it."""
    return f"{task['task_group']}:{task['task']}".rstrip(":")


def _check_form(found: Any, form: Any, where: str) -> None:
    kind = form if isinstance(form, type) else type(form)
    check(type(found) is kind, f"{where}: expected {kind.__name__}, got {shown(found)}")
    check(found != [], f"{where} is empty")
    if isinstance(form, list):
        for number, item in enumerate(found):
            _check_form(item, form[0], f"{where}[{number}]")
    elif isinstance(form, dict):
        for name, part in form.items():
            check(name.rstrip("?") in found, f"{where} has no {name.rstrip('?')}")
            if not name.endswith("?") or found[name[:-1]] is not None:
                _check_form(found[name.rstrip("?")], part, f"{where}: {name.rstrip('?')}")
