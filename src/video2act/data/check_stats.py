"""`meta/stats.json`, with which LeRobot normalises: whether it is of this data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from video2act.data.lerobot_format import STATS_PATH, DatasetInfo

NAMES = ("min", "max", "mean", "std")


def stats_faults(root: Path, info: DatasetInfo, *, columns: dict[str, list[np.ndarray]]) -> Iterator[str]:
    """Args: columns: states and actions of all episodes that could be read."""
    path = root / STATS_PATH
    if not path.is_file():
        yield f"{path} does not exist; LeRobot normalises with it"
        return
    try:
        stats = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        yield f"{path} is not valid json ({error})"
        return
    if not isinstance(stats, dict):
        yield f"{path} must hold a table of features, found {type(stats).__name__}"
        return
    wanted = [key for key, parts in columns.items() if key in info.features and parts]
    for key in (*wanted, *info.cameras.values()):
        entry = stats.get(key)
        if not isinstance(entry, dict) or not set(NAMES) <= set(entry):
            yield f"{path} has no min, max, mean and std of {key}"
            continue
        told = {}
        for name in NAMES:
            try:
                told[name] = np.asarray(entry[name], dtype=np.float64)
            except (TypeError, ValueError):
                yield f"{path}: {name} of {key} must be numbers, found {str(entry[name])[:60]}"
        if len(told) < len(NAMES):
            continue
        if not all(np.isfinite(values).all() for values in told.values()) or (told["std"] < 0).any():
            yield f"{path}: min, max, mean and std of {key} must be finite and std not negative, found {_listed(told)}"
        elif key in columns:
            yield from _vector_faults(path, key, told=told, values=np.concatenate(columns[key]))
        else:
            yield from _image_faults(path, key, told=told)


def _vector_faults(path: Path, key: str, *, told: dict[str, np.ndarray], values: np.ndarray) -> Iterator[str]:
    own = {"min": values.min(axis=0), "max": values.max(axis=0), "mean": values.mean(axis=0), "std": values.std(axis=0)}
    for name, expected in own.items():
        found = told[name].ravel()
        spread = np.ptp(values, axis=0) + np.abs(expected) * 1e-2 + 1e-6
        # whether they divide by the number of values or by one less is the writer's choice
        share = 0.02 if name == "std" else 0.01
        if found.shape != expected.shape or not (np.abs(found - expected) <= share * spread).all():
            yield (
                f"{path}: {name} of {key} is {np.round(found, 4).tolist()}, the data has "
                f"{np.round(expected, 4).tolist()}"
            )


def _image_faults(path: Path, key: str, *, told: dict[str, np.ndarray]) -> Iterator[str]:
    if any(values.shape != (3, 1, 1) for values in told.values()):
        yield (
            f"{path}: statistics of {key} have the shape {list(told['mean'].shape)}, expected [3, 1, 1], one per colour"
        )
    elif told["min"].min() < -1e-3 or told["max"].max() > 1 + 1e-3 or told["mean"].max() > 1 or told["mean"].min() < 0:
        yield f"{path}: statistics of {key} are not of pictures from 0 to 1, found {_listed(told)}; divide by 255"


def _listed(told: dict[str, Any]) -> str:
    return ", ".join(f"{name} {np.round(values.ravel()[:4], 4).tolist()}" for name, values in told.items())
