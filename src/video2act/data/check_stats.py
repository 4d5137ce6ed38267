"""`meta/stats.json`, with which LeRobot normalises: whether it is of this data."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from video2act.config.plain import read_json
from video2act.data.dataset_files import check_exists
from video2act.data.lerobot_format import STATS_PATH, DatasetInfo

NAMES = ("min", "max", "mean", "std")


def stats_faults(root: Path, info: DatasetInfo, *, columns: dict[str, list[np.ndarray]]) -> Iterator[str]:
    """Args: columns: states and actions of all episodes that could be read."""
    path = root / STATS_PATH
    if not path.is_file():
        yield f"{path} does not exist; training here computes its own, but LeRobot normalises with it"
        return
    check_exists(path)
    try:
        stats = read_json(path)
    except ValueError as error:
        yield f"{path} is not valid json ({error})"
        return
    if not isinstance(stats, dict):
        yield f"{path} must hold a table of features, found {type(stats).__name__}"
        return
    for key in (*(key for key, parts in columns.items() if parts), *info.cameras.values()):
        entry = stats.get(key)
        if not isinstance(entry, dict) or not set(NAMES) <= set(entry):
            yield f"{path} has no min, max, mean and std of {key}"
            continue
        found = {}
        for name in NAMES:
            try:
                found[name] = np.asarray(entry[name], dtype=np.float64)
            except (TypeError, ValueError):
                yield f"{path}: {name} of {key} must be numbers, found {str(entry[name])[:60]}"
        if len(found) < len(NAMES):
            continue
        if not all(np.isfinite(values).all() for values in found.values()) or (found["std"] < 0).any():
            yield f"{path}: min, max, mean and std of {key} must be finite and std not negative, found {_listed(found)}"
        elif key in columns:
            dtype, values = info.features[key].dtype, np.concatenate(columns[key])
            if len(values) == info.total_frames:  # of a part they may differ, and other lines say why it is one
                yield from _vector_faults(path, key, found=found, values=values, dtype=dtype)
        else:
            yield from _image_faults(f"{path}: statistics of {key}", found)


def _vector_faults(
    path: Path, key: str, *, found: Mapping[str, np.ndarray], values: np.ndarray, dtype: str
) -> Iterator[str]:
    values = values.astype(np.float64)
    spread, largest = np.ptp(values, axis=0), np.abs(values).max(axis=0)
    eps = max(np.finfo(kind).eps for kind in (np.float32, dtype) if np.dtype(kind).kind == "f")
    # writers add up in the column's own dtype; some subtract the mean's square from the mean of squares
    added = np.minimum(len(values) * eps, 0.01) * largest
    std = values.std(axis=0)
    own = {"min": values.min(axis=0), "max": values.max(axis=0), "mean": values.mean(axis=0), "std": std}
    deviation = added + np.sqrt(std**2 + np.clip(len(values), 16, 1000) * eps * largest**2) - std
    rounding = {"min": 4 * eps * largest, "max": 4 * eps * largest, "mean": added, "std": deviation}
    for name, expected in own.items():
        stored, where = found[name].ravel(), f"{path}: {name} of {key}"
        if stored.shape != expected.shape:
            yield f"{where} has {stored.size} numbers, the data {expected.size}"
            continue
        # whether they divide by the number of values or by one less is the writer's choice
        allowed = (0.02 if name == "std" else 0.01) * spread + 1e-4 * np.abs(expected) + rounding[name]
        wrong = np.flatnonzero(~(np.abs(stored - expected) <= allowed))
        if len(wrong):
            i, more = wrong[0], f"; {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
            yield f"{where}[{i}] is {stored[i]:.4g}, the data has {expected[i]:.4g}{more}"


def _image_faults(where: str, found: Mapping[str, np.ndarray]) -> Iterator[str]:
    low, high, mean = found["min"], found["max"], found["mean"]
    if any(values.shape != (3, 1, 1) for values in found.values()):
        yield f"{where} have the shape {list(mean.shape)}, expected [3, 1, 1], one per colour"
    elif low.min() < -1e-3 or high.max() > 1 + 1e-3 or mean.max() > 1 or mean.min() < 0:
        yield f"{where} are not of pictures from 0 to 1, found {_listed(found)}; divide by 255"


def _listed(found: Mapping[str, np.ndarray]) -> str:
    def short(values: np.ndarray) -> str:
        return ", ".join(f"{value:.4g}" for value in values.ravel()[:4])

    return "; ".join(f"{name} {short(values)}" for name, values in found.items())
