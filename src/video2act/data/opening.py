"""Folders -> a dataset: one as it is, several as one.

They must agree in everything that a policy is built for. Robots are compared by name, because equal numbers of joints do not make
equal joints. Different robots go together if it is said which they are: then their vectors become the unified one.
"""

from collections.abc import Sequence
from pathlib import Path

from video2act.data.embodied import EmbodiedDataset
from video2act.data.lerobot_format import DatasetError
from video2act.data.lerobot_reader import Dataset, LeRobotDataset
from video2act.data.merged import MergedDataset

_OF_A_ROBOT = ("robot", "state_dim", "action_dim")
"""in which datasets may differ, if it is said which robot each is of"""


def open_datasets(paths: Sequence[Path | str], embodiments: Sequence[str] | None = None) -> Dataset:
    """One dataset, or several under one numbering of episodes.

    Args:
        embodiments: which robot each of them is of, by its name in `EMBODIMENTS`; None: all are of one.
    Raises:
        FileNotFoundError, DatasetError: one of them cannot be read, or two do not go together.
        ValueError: there is none; an embodiment is unknown, or of another size.
    """
    if not paths:
        raise ValueError("expected at least one dataset folder, got none")
    parts = [LeRobotDataset(path) for path in paths]
    if embodiments is not None:
        if len(embodiments) != len(parts):
            listed = ", ".join(embodiments) or "none"
            raise ValueError(
                f"{len(parts)} datasets need as many embodiments, one each, got {len(embodiments)}: {listed}"
            )
        _check_alike(parts, ("fps", "cameras"))
        return EmbodiedDataset(parts, embodiments)
    if len(parts) == 1:
        return parts[0]
    _check_alike(parts, ("fps", "cameras", *_OF_A_ROBOT))
    return MergedDataset(parts)


def _check_alike(parts: Sequence[LeRobotDataset], names: Sequence[str]) -> None:
    def description(dataset: LeRobotDataset) -> dict[str, object]:
        sizes = {camera: dataset.image_size(camera) for camera in sorted(dataset.cameras)}
        return {name: sizes if name == "cameras" else getattr(dataset, name) for name in names}

    first = parts[0]
    ours = description(first)
    for other in parts[1:]:
        theirs = description(other)
        for name, value in ours.items():
            if theirs[name] != value:
                several = ", or train with each one's --embodiments" if name in _OF_A_ROBOT else ""
                raise DatasetError(
                    f"{first.root} and {other.root} do not go together: {name} is {value} in the first and {theirs[name]} "
                    f"in the second; record them alike, train on them apart{several}"
                )
