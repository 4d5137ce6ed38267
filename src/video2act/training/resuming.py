"""`training.json`: the settings that a resumed training must agree in, and whether the training has finished."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from video2act.config import OptimizationConfig, PolicyConfig, to_json
from video2act.config.checks import check
from video2act.config.plain import damage_named, read_json
from video2act.files.atomic import write_text
from video2act.files.differences import differences
from video2act.files.evaluation_folder import INFO_FILE
from video2act.files.lock import LOCK_FILE, FolderLock
from video2act.files.run_folder import TRAINING_FILE, WEIGHTS_FILE

METRICS_FILE = "metrics.jsonl"
FINISHED = "finished"

HARMLESS = ("max_minutes", "save_every", "validate_every", "num_workers", "frames_gib", "track")
"""settings that do not change what is learned"""
OF_OTHERS = {
    "meta/info.json": "a dataset",
    WEIGHTS_FILE: "weights, but no record of their training",
    "model_index.json": "a published model",
    "cache.json": "a cache",
    "engine.json": "an exported policy",
    INFO_FILE: "an evaluation",
    "study.json": "a study",
}
"""files by which a folder is known that a training would write over, or mix with"""


def settings_of(config: OptimizationConfig, identity: dict[str, Any]) -> dict[str, Any]:
    """Args: identity: what else makes a training this one."""
    settings = json.loads(to_json(config)) | json.loads(json.dumps(identity))
    return {name: value for name, value in settings.items() if name not in HARMLESS}


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write a run folder's settings."""
    write_text(folder / TRAINING_FILE, json.dumps(settings, indent=2) + "\n")


def check_free(folder: Path, *, resume: bool) -> bool:
    """Whether a training that may go on has begun in a folder.

    Raises:
        FileExistsError: the folder holds a finished training, or another one and `resume` is off.
        ValueError: `training.json` is damaged.
    """
    metrics, is_finished = folder / METRICS_FILE, is_trained(folder)
    # a folder in which no step was taken is free: there is nothing to lose
    has_begun = is_finished or (metrics.is_file() and metrics.stat().st_size > 0)
    if has_begun and not resume:
        remedy = "continue it with --resume (resume=True), or choose another folder"
        raise FileExistsError(f"{folder} already holds a training; {remedy}")
    if is_finished:
        raise FileExistsError(f"{folder} holds a finished training; choose another folder to train again")
    return has_begun


def check_kind(folder: Path, work: str, *, own: str = "") -> None:
    """Raise FileExistsError where a folder holds what another program has written.

    Args:
        work: what the folder is wanted for.
        own: the file that this program would have left there.
    """
    if folder.is_file():
        raise FileExistsError(f"out={folder} is a file; name a folder")
    for name, what in {TRAINING_FILE: "a training", **OF_OTHERS}.items():
        if name != own and (folder / name).is_file():
            raise FileExistsError(f"{folder} holds {what} ({name}); choose another folder for {work}")


def check_out(folder: Path, *, resume: bool) -> None:
    """`check_free`, before this training takes the folder's lock.

    Raises:
        InUseError: another program has it.
        FileExistsError: the folder is a dataset, or holds weights that are not this training's; or as `check_free`.
    """
    if not (folder / TRAINING_FILE).is_file():
        check_kind(folder, "a training")
    is_first = os.environ.get("RANK", "0") == "0"  # the others of a launch would meet the first one's lock
    if is_first and (folder / LOCK_FILE).is_file():
        FolderLock(folder, "a training").release()
    check_free(folder, resume=resume)


def check_folder(folder: Path, settings: dict[str, Any], *, defaults: OptimizationConfig, resume: bool) -> None:
    """Whether a training with these settings may write the folder.

    Args:
        defaults: what a setting was that an older version did not have.
    Raises:
        FileExistsError: it holds a finished training, or another one and `resume` is off.
        ValueError: it was started with other settings, or `training.json` is damaged or missing.
    """
    path, has_begun = folder / TRAINING_FILE, check_free(folder, resume=resume)
    before = read_settings(path) if path.is_file() else {}
    if has_begun and not path.is_file():
        raise ValueError(f"{path} is missing; restore it, or remove {folder} to train from the beginning")
    before = {name: value for name, value in (settings_of(defaults, {}) | before).items() if name in settings}
    if has_begun and (changed := differences(before, settings, words=("then", "now"))):
        problem = f"{folder} was started with other settings ({'; '.join(readable(changed))})"
        raise ValueError(f"{problem}; resume with the same ones, or choose another folder")


def readable(changed: Sequence[str]) -> list[str]:
    """Differences of trainings without the fingerprints of data, which say nothing to a person."""
    return [
        f"{line.partition(':')[0]}: other episodes, columns or files"
        if line.startswith(("data:", "video_data:"))
        else line
        for line in changed
    ]


def differs_from_finished(folder: Path, settings: dict[str, Any]) -> list[str] | None:
    """How the finished training in a folder differs from these settings; None: there is no finished one. Settings that
    an older version did not record do not count, nor how the device computes.

    Raises:
        ValueError: `training.json` is damaged.
    """
    path = folder / TRAINING_FILE
    before = read_settings(path) if path.is_file() else {}
    if not before.get(FINISHED):
        return None
    settings = {name: value for name, value in settings.items() if name != "mixed_precision"}
    then, now = _common(before, settings), _common(settings, before)
    return differences(then, now, words=("then", "now"))


def _common(value: Any, other: Any) -> Any:
    """The parts of a json document that another one has, too."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: _common(inner, other[name]) for name, inner in value.items() if name in other}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [_common(*pair) for pair in zip(value, other, strict=True)]
    return value


def policy_settings(config: PolicyConfig) -> dict[str, Any]:
    """What of a policy's identity (`policy_identity`) is known before any weights are read."""
    described = asdict(config)
    del described["preset"]
    for encoder in filter(None, (described["system1"][name] for name in ("text_encoder", "image_encoder"))):
        del encoder["source"], encoder["cache"]
    if described["system2"]:
        del described["system2"]["backbone"]
    return described


def is_done(folder: Path, config: OptimizationConfig, identity: dict[str, Any]) -> bool:
    """Whether a finished training with these options is in a folder, so that nothing is left to do.

    Args:
        identity: what else makes this training this one, as far as it is known before the training.
    Raises:
        FileExistsError: it had other options or data. ValueError: `training.json` is damaged.
    """
    changed = differs_from_finished(folder, settings_of(config, identity))
    if changed:
        raise FileExistsError(
            f"{folder} holds a finished training with other options ({'; '.join(readable(changed))}); choose another "
            "folder, or begin from its weights: --init"
        )
    return changed is not None


def is_trained(folder: Path) -> bool:
    """Whether a finished training, of whatever settings, is in a folder. Raises ValueError: a damaged record."""
    path = folder / TRAINING_FILE
    return path.is_file() and bool(read_settings(path).get(FINISHED))


def read_settings(path: Path) -> dict[str, Any]:
    """Raises ValueError for a damaged file."""
    with damage_named(path, f"restore it, or remove {path.parent} to train from the beginning"):
        settings = read_json(path)
        check(isinstance(settings, dict), f"it holds {type(settings).__name__}")
    return settings
