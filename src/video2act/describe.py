"""What is in a dataset, on one screen: the function behind `video2act info`."""

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from video2act.data import LeRobotDataset
from video2act.normalize import Statistics

WIDTH = 110


def describe_dataset(path: Path) -> str:
    """Robot, cameras, size, tasks, and the range of every number of state and action; plain text.

    Raises:
        FileNotFoundError, DatasetError: the dataset cannot be read.
    """
    dataset = LeRobotDataset(path)
    console = Console(width=WIDTH, color_system=None)
    with console.capture() as capture:
        for table in (_summary(dataset), _tasks(dataset), *_ranges(dataset)):
            console.print(table)
            console.print()
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"


def _summary(dataset: LeRobotDataset) -> Table:
    seconds = dataset.total_frames / dataset.fps
    size = sum(file.stat().st_size for file in dataset.root.rglob("*") if file.is_file())
    lengths = sorted(dataset.lengths)
    table = Table(show_header=False, box=None)
    for name, value in (
        ("dataset", str(dataset.root)),
        ("robot", dataset.robot),
        ("fps", f"{dataset.fps:g}"),
        ("cameras", "\n".join(_camera(dataset, camera) for camera in dataset.cameras) or "none"),
        ("episodes", f"{len(dataset)} of {lengths[0]} to {lengths[-1]} frames, median {lengths[len(lengths) // 2]}"),
        ("frames", f"{dataset.total_frames} ({seconds:.1f} s)"),
        ("actions", "none: videos only" if dataset.action_dim is None else f"{dataset.action_dim} numbers"),
        ("on disk", f"{size / 2**20:.1f} MiB"),
    ):
        table.add_row(name, value)
    return table


def _camera(dataset: LeRobotDataset, camera: str) -> str:
    feature = dataset.info.features[dataset.info.cameras[camera]]
    h, w = feature.image_size
    return f"{camera}: {w} x {h} px, {(feature.video or {}).get('video.codec', feature.dtype)}"


def _tasks(dataset: LeRobotDataset) -> Table:
    counts = Counter(task for i in range(len(dataset)) for task in dict.fromkeys(dataset.episode(i).instruction))
    table = Table("task", "episodes", box=None)
    for task, count in counts.most_common():
        table.add_row(task, str(count))
    return table


def _ranges(dataset: LeRobotDataset) -> list[Table]:
    names = {"state": dataset.info.state_names, "action": dataset.info.action_names}
    return [_range(feature, names[feature], statistics) for feature, statistics in dataset.stats.items()]


def _range(feature: str, names: tuple[str, ...], statistics: Statistics) -> Table:
    table = Table(feature, "min", "mean", "max", "std", box=None)
    rows = zip(names, statistics.min, statistics.mean, statistics.max, statistics.std, strict=True)
    for name, *numbers in rows:
        table.add_row(name, *(f"{number:.4g}" for number in numbers))
    return table
