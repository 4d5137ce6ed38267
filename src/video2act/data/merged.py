"""Several datasets as one, for one policy of several tasks; episodes are numbered through, in the order of the folders.

They must agree in everything that a policy is built for. Robots are compared by name, because equal numbers of joints do not make
equal joints.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from video2act.data.lerobot_format import DatasetError
from video2act.data.lerobot_reader import Dataset, EpisodeData, LeRobotDataset, statistics


class MergedDataset:
    """A `Dataset` made of others. Use `open_datasets`."""

    def __init__(self, parts: Sequence[LeRobotDataset], has_actions: bool):
        self.parts = tuple(parts)
        first = self.parts[0]
        self.fps, self.robot, self.cameras, self.state_dim = first.fps, first.robot, first.cameras, first.state_dim
        self.action_dim = first.action_dim if has_actions else None
        self.lengths = tuple(chain.from_iterable(part.lengths for part in self.parts))
        self.total_frames = sum(self.lengths)
        self.tasks = tuple(dict.fromkeys(chain.from_iterable(part.tasks for part in self.parts)))
        self._ends = list(accumulate(len(part) for part in self.parts))
        self.stats = statistics([self.episode(i) for i in range(len(self))])

    def __len__(self) -> int:
        return self._ends[-1]

    def episode(self, i: int) -> EpisodeData:
        part, own = self._locate(i)
        episode = part.episode(own)
        action = None if self.action_dim is None else episode.action
        return EpisodeData(episode.state, action, episode.instruction, episode.timestamps)

    def sentences(self, i: int) -> tuple[str, ...]:
        part, own = self._locate(i)
        return part.sentences(own)

    @property
    def fingerprint(self) -> str:
        return " ".join(part.fingerprint for part in self.parts)

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.parts[0].image_size(camera)

    def frames(
        self, i: int, camera: str, size_px: int | None = None, start: int = 0, stop: int | None = None
    ) -> UInt8[np.ndarray, "t _h _w 3"]:
        part, own = self._locate(i)
        return part.frames(own, camera, size_px, start, stop)

    def _locate(self, i: int) -> tuple[LeRobotDataset, int]:
        """The dataset that holds episode `i`, and its number there."""
        if not 0 <= i < len(self):
            raise IndexError(f"the {len(self.parts)} datasets have episodes 0..{len(self) - 1} together, asked for {i}")
        k = bisect_right(self._ends, i)
        return self.parts[k], i - (self._ends[k - 1] if k else 0)


def open_datasets(paths: Sequence[Path | str], ignore_actions: bool = False) -> Dataset:
    """One dataset, or several under one numbering of episodes.

    Args:
        ignore_actions: read pixels and states only, so that datasets with actions and videos without them go together.

    Raises:
        FileNotFoundError, DatasetError: one of them cannot be read, or two do not go together.
    """
    if not paths:
        raise ValueError("expected at least one dataset folder, got none")
    parts = [LeRobotDataset(path) for path in paths]
    if len(parts) == 1 and not ignore_actions:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        _check_alike(first, part, ignore_actions)
    return MergedDataset(parts, has_actions=not ignore_actions)


def _check_alike(first: LeRobotDataset, other: LeRobotDataset, ignore_actions: bool) -> None:
    def description(dataset: LeRobotDataset) -> dict[str, object]:
        sizes = {camera: dataset.image_size(camera) for camera in sorted(dataset.cameras)}
        facts: dict[str, object] = {"robot": dataset.robot, "fps": dataset.fps, "cameras": sizes, "state_dim": dataset.state_dim}
        return facts if ignore_actions else facts | {"action_dim": dataset.action_dim}

    ours, theirs = description(first), description(other)
    for name, value in ours.items():
        if theirs[name] != value:
            raise DatasetError(
                f"{first.root} and {other.root} do not go together: {name} is {value} in the first and {theirs[name]} "
                "in the second; record them alike or train on them apart"
            )
