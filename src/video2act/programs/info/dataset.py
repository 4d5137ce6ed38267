"""A dataset on one screen: its size, cameras, columns, tasks and ranges, and which presets fit."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from video2act.config import PolicyConfig
from video2act.data import LeRobotDataset
from video2act.data.labels import load_labels
from video2act.data.lerobot_format import DEFAULT_FEATURES
from video2act.data.origin import load_visual_shift, look_relative
from video2act.frames import describe_fit, fit_problem, frame_uses
from video2act.presets import PRESETS, DataSpec, make_preset
from video2act.programs.info.tables import as_text, facts
from video2act.statistics import Statistics

Columns = Sequence[str] | None


def describe_dataset(path: Path | str, *, state: Columns = None, action: Columns = None) -> str:
    """Robot, cameras, size, tasks, and the range of every number of state and action; plain text.

    Raises:
        FileNotFoundError, DatasetError: the dataset cannot be read.
    """
    dataset = LeRobotDataset(path, state=state, action=action)
    from video2act.normalize import Normalizer  # torch: after the dataset was opened

    notes = [
        f" note: {feature}: {line}"
        for feature, statistics in dataset.stats.items()
        for line in Normalizer(statistics, "mean_std").parked()
    ]
    return as_text(_summary(dataset), _columns(dataset), _tasks(dataset), *_ranges(dataset), *notes, _presets(dataset))


def _summary(dataset: LeRobotDataset) -> Table:
    seconds = dataset.total_frames / dataset.fps
    size = sum(file.stat().st_size for file in dataset.root.rglob("*") if file.is_file())
    lengths = sorted(dataset.lengths)
    rows = (
        ("dataset", str(dataset.root)),
        ("robot", dataset.robot),
        ("fps", f"{dataset.fps:g}"),
        ("cameras", "\n".join(_camera(dataset, camera) for camera in dataset.cameras) or "none"),
        ("episodes", f"{len(dataset)} of {lengths[0]} to {lengths[-1]} frames, median {lengths[len(lengths) // 2]}"),
        ("frames", f"{dataset.total_frames} ({seconds:.1f} s)"),
        ("state", _joined(dataset.info.state, dataset.state_dim)),
        ("action", _joined(dataset.info.action, dataset.action_dim or 0)),
        ("relative", ", ".join(dataset.relative_actions) or _unrecorded(dataset)),
        *([("labels", str(labels))] if (labels := load_labels(dataset.root)) else []),
        *([("visual shift", shift)] if (shift := load_visual_shift(dataset.root)) else []),
        ("on disk", f"{size / 2**20:.1f} MiB"),
        ("fingerprint", f"{dataset.fingerprint[:16]}, the same for the same data as training reads it"),
    )
    return facts(rows)


def _unrecorded(dataset: LeRobotDataset) -> str:
    text, names = "no action is recorded as a change or a speed", look_relative(dataset.info.action_names)
    return f"{text}; if {', '.join(names)} are, train --policy.relative-actions {' '.join(names)}" if names else text


def _joined(columns: tuple[str, ...], size: int) -> str:
    return f"{size} numbers: {' + '.join(columns)}" if columns else "none"


def _columns(dataset: LeRobotDataset) -> Table:
    """Everything that is recorded in each frame, and what it is used for."""
    info = dataset.info
    uses = {key: f"camera {camera}" for camera, key in info.cameras.items()}
    uses |= dict.fromkeys(info.action, "action") | dict.fromkeys(info.state, "state")
    table = Table("column", "type", "used as", box=None)
    for key, feature in info.features.items():
        if key not in DEFAULT_FEATURES:
            free = "nothing: not a colour camera" if feature.is_picture else "nothing"
            if key in info.columns:
                free = "nothing; train --state or --action can choose it"
            table.add_row(key, f"{feature.dtype} {list(feature.shape)}", uses.get(key, free))
    return table


def _camera(dataset: LeRobotDataset, camera: str) -> str:
    feature = dataset.info.features[dataset.info.cameras[camera]]
    h, w = feature.image_size
    return f"{camera}: {w} x {h} px, {(feature.video or {}).get('video.codec', feature.dtype)}"


def _presets(dataset: LeRobotDataset) -> Table:
    """Which presets fit the cameras, and what each does with their frames; presets that do the same share a row."""
    table = Table(box=None)
    table.add_column("preset", max_width=32)
    table.add_column("what it does with the frames (otherwise: train --fit letterbox, crop or stretch)")
    groups: dict[str, list[str]] = {}
    data = DataSpec(max(1, dataset.state_dim), dataset.action_dim or 0, dataset.fps, dataset.cameras)
    for name in PRESETS if dataset.cameras else ():
        groups.setdefault(_effect(make_preset(name, data), dataset), []).append(name)
    for effect, names in groups.items():
        table.add_row(", ".join(names), effect)
    return table


def _effect(policy: PolicyConfig, dataset: LeRobotDataset) -> str:
    """What a policy does with the frames of a dataset, or why it cannot use them."""
    problems, effects = [], dict[str, list[str]]()
    for use in frame_uses(policy):
        recorded = dataset.image_size(use.camera)
        problem = fit_problem(recorded, use.size, rule=use.rule)
        if problem:
            problems.append(f"{use.camera}: does not fit {use.reader}: {problem}")
        effect = f"{use.camera}: {describe_fit(recorded, use.size, rule=use.rule)}"
        effects.setdefault(effect, []).append(use.stream or "System 1")
    lines = problems or [f"{effect} ({', '.join(readers)})" for effect, readers in effects.items()]
    return "\n".join(lines) or "sees nothing"


def _tasks(dataset: LeRobotDataset) -> Table:
    counts = Counter(task for i in range(len(dataset)) for task in dict.fromkeys(dataset.episode(i).instruction))
    table = Table("task", "episodes", box=None)
    for task, count in counts.most_common():
        table.add_row(task, str(count))
    return table


def _ranges(dataset: LeRobotDataset) -> list[Table]:
    names = {"state": dataset.info.state_names, "action": dataset.info.action_names}
    return [_range(feature, names[feature], statistics=statistics) for feature, statistics in dataset.stats.items()]


def _range(feature: str, names: tuple[str, ...], *, statistics: Statistics) -> Table:
    table = Table(feature, "min", "mean", "max", "std", box=None)
    rows = zip(names, statistics.min, statistics.mean, statistics.max, statistics.std, strict=True)
    for name, *numbers in rows:
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table
