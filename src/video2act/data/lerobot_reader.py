"""Reads a LeRobotDataset v3.0.

Everything but pixels is read and checked when the dataset is opened: it is small, and a fault shows before training
begins. Pixels are decoded on demand; `FrameStore` keeps them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from video2act.config import Orientation
from video2act.config.calls import check_listed
from video2act.data import fingerprint
from video2act.data.dataset_files import COPY, DatasetError, check_exists, locate_dataset
from video2act.data.lerobot_format import load_info
from video2act.data.lerobot_tables import FrameTable, read_column, read_episodes, read_frames, read_tasks
from video2act.data.origin import environment_of, load_origin, orientation_of, relative_actions_of
from video2act.data.pictures import Reduce, read_images
from video2act.data.video_file import open_video
from video2act.statistics import Statistics

NO_EPISODE = "holds no complete episode yet; record at least one"


@dataclass(frozen=True)
class EpisodeData:
    """One episode without its pixels, in raw units."""

    state: Float32[np.ndarray, "t s"]
    action: Float32[np.ndarray, "t a"] | None
    """None in a dataset of videos only"""
    instruction: tuple[str, ...]
    """one per frame"""
    timestamps: Float32[np.ndarray, "t"]
    """seconds since the episode began"""

    @property
    def length(self) -> int:
        return len(self.timestamps)

    @property
    def actions(self) -> Float32[np.ndarray, "t a"]:
        """Those of a dataset that has actions. Raises ValueError in a dataset of videos only."""
        if self.action is None:
            raise ValueError("this episode has no actions; use a dataset with actions")
        return self.action


@runtime_checkable
class Dataset(Protocol):
    """Demonstrations under one numbering of episodes: one dataset on disk, several as one, or a part."""

    @property
    def fps(self) -> float: ...
    @property
    def robot(self) -> str: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def orientation(self) -> Orientation: ...
    @property
    def state_dim(self) -> int: ...
    @property
    def action_dim(self) -> int | None: ...
    @property
    def relative_actions(self) -> tuple[str, ...]:
        """names of the actions that are changes or speeds, where the dataset records them"""
        ...

    @property
    def lengths(self) -> tuple[int, ...]:
        """frames per episode"""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """distinct instructions"""
        ...

    @property
    def stats(self) -> dict[str, Statistics]:
        """for `state` and, where there are actions, `action`: exact, over all frames"""
        ...

    @property
    def total_frames(self) -> int: ...
    @property
    def fingerprint(self) -> str:
        """The same for the same data, as training reads it; of a large file of pictures only samples are read."""
        ...

    def episode_fingerprint(self, i: int) -> str: ...

    def __len__(self) -> int:
        """The number of episodes."""
        ...

    def episode(self, i: int) -> EpisodeData: ...

    def sentences(self, i: int) -> tuple[str, ...]:
        """Other sentences for the episode's task, to train on; may be empty."""
        ...

    def image_size(self, camera: str) -> tuple[int, int]:
        """Height and width as recorded."""
        ...

    def frames(
        self,
        i: int,
        camera: str,
        *,
        numbers: Sequence[int] | None = None,
        reduce: Reduce | None = None,
    ) -> UInt8[np.ndarray, "t _h _w 3"]: ...


class LeRobotDataset(fingerprint.Fingerprinted):
    """A dataset folder, or a Hugging Face repo id (`owner/name`), which is fetched.

    Args:
        state: columns that are joined to the state, in this order; None: `observation.state`, if there is one.
        action: the same for actions; None: `action`.
    Raises:
        ValueError: a column that does not exist or holds no numbers.
        FileNotFoundError: the folder, or a file that it must hold, does not exist.
        DatasetError: another version, damaged or contradictory files, values that are not finite.
    """

    def __init__(self, root: Path | str, *, state: Sequence[str] | None = None, action: Sequence[str] | None = None):
        check_listed(state=state, action=action)
        self.root = locate_dataset(root)
        self.info = load_info(self.root).choose(state=state, action=action)
        if self.info.total_episodes == 0:
            raise DatasetError(f"{self.root} {NO_EPISODE}")
        self.entries = read_episodes(self.root, self.info)
        self._file_fingerprint = cache(self._of_file)
        self.fps = float(self.info.fps)
        self.robot = self.info.robot
        self.cameras = tuple(self.info.cameras)
        origin = load_origin(self.root)
        self.orientation: Orientation = orientation_of(origin, self.root, info=self.info)
        self.relative_actions = relative_actions_of(origin, self.root, info=self.info)
        self.environment = environment_of(origin, self.root)
        self.lengths = tuple(entry.length for entry in self.entries)
        self.total_frames = self.info.total_frames
        self._check_videos()
        tasks = read_tasks(self.root, self.info)
        self._tables: list[FrameTable] = []
        for file, entries in groupby(self.entries, key=lambda entry: entry.data_file):
            self._tables += read_frames(self.root, self.info, file=file, episodes=list(entries))
        for i, table in enumerate(self._tables):
            if unknown := set(table.task_index.tolist()) - set(tasks):
                what = f"refers to task_index {min(unknown)}, which meta/tasks.parquet does not list"
                raise DatasetError(f"{self.root}: episode {i} {what}")
        self._instructions = [tuple(tasks[number] for number in table.task_index.tolist()) for table in self._tables]
        self.tasks = tuple(dict.fromkeys(task for instruction in self._instructions for task in instruction))
        self.state_dim: int = self._tables[0].state.shape[1]
        first = self._tables[0].action
        self.action_dim: int | None = None if first is None else first.shape[1]
        names = {"state": self.info.state_names, "action": self.info.action_names}
        stats = statistics([self.episode(i) for i in range(len(self))])
        self.stats = {name: replace(entry, names=names[name]) for name, entry in stats.items()}

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        size = f"{len(self)} episodes, {self.total_frames} frames, {self.fps:g} fps"
        return f"{type(self).__name__}({str(self.root)!r}: {size})"

    def episode_fingerprint(self, i: int) -> str:
        entry = self.entries[i]
        pictures = []
        for camera, key in sorted(self.info.cameras.items()):
            span = entry.videos.get(camera)
            if span is None:
                file, place = entry.data_file, f"rows from {self._tables[i].first_row}"
            else:
                file, place = span.file, f"{span.frames_before} of {span.frames_in_file}, {span.start_s}"
            pictures.append(f"{camera}: {self._file_fingerprint(file, None if span else key)}, {place}")
        episode = self.episode(i)
        return fingerprint.of_episode((episode.state, episode.action), (episode.instruction, entry.seen, pictures))

    def _of_file(self, file: Path, column: str | None) -> str:
        path = self.root / file
        return fingerprint.of_file(path) if column is None else fingerprint.of_column(path, column)

    def episode(self, i: int) -> EpisodeData:
        """State, actions and instruction of episode `i`. Raises IndexError: there is no such episode."""
        self._check_episode(i)
        table = self._tables[i]
        return EpisodeData(table.state, table.action, self._instructions[i], table.timestamps)

    def sentences(self, i: int) -> tuple[str, ...]:
        self._check_episode(i)
        return self.entries[i].seen

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.info.features[self._feature(camera)].image_size

    def frames(
        self,
        i: int,
        camera: str,
        *,
        numbers: Sequence[int] | None = None,
        reduce: Reduce | None = None,
    ) -> UInt8[np.ndarray, "t _h _w 3"]:
        """Decode frames of episode `i`, as recorded.

        Args:
            numbers: of the frames, ascending, each once; None: all.
            reduce: makes the frames smaller, piece by piece; an episode may be larger than memory.
        Raises:
            IndexError: no such episode or frame.
            DatasetError: no such camera, a file of another size than declared, or one that cannot be decoded.
        """
        self._check_episode(i)
        feature = self._feature(camera)
        length = self.lengths[i]
        chosen = range(length) if numbers is None else numbers
        if not chosen or not 0 <= chosen[0] <= chosen[-1] < length:
            asked = f"{chosen[0]}..{chosen[-1]}" if chosen else "none"
            raise IndexError(f"{self.root}: episode {i} has frames 0..{length - 1}, asked for {asked}")
        size = self.image_size(camera)
        if self.info.features[feature].dtype == "image":
            file, first = self.root / self.entries[i].data_file, self._tables[i].first_row
            return read_images(file, feature, rows=[first + number for number in chosen], size=size, reduce=reduce)
        span = self.entries[i].videos[camera]
        video = open_video(self.root / span.file)
        video.check_rate(self.info.fps)
        video.check_size(size)
        first = span.first_frame(video.num_frames, self.info.fps)
        return video.frames([first + number for number in chosen], reduce=reduce)

    def column(self, i: int, name: str) -> np.ndarray | list[str]:
        """Any other column of episode `i` (a reward, a force), `[t ...]`, or a list of strings. Raises IndexError,
        DatasetError: there is no such episode or column."""
        self._check_episode(i)
        first = self._tables[i].first_row
        return read_column(self.root, self.entries[i].data_file, name=name, first=first, count=self.lengths[i])

    def _check_episode(self, i: int) -> None:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.root} has episodes 0..{len(self) - 1}, asked for {i}")

    def _feature(self, camera: str) -> str:
        if camera not in self.info.cameras:
            listed = ", ".join(self.cameras) or "none"
            raise DatasetError(f"{self.root} has no camera {camera!r}; its cameras are {listed}")
        return self.info.cameras[camera]

    def _check_videos(self) -> None:
        for file in dict.fromkeys(span.file for entry in self.entries for span in entry.videos.values()):
            if not (self.root / file).is_file():
                raise FileNotFoundError(f"{self.root / file} does not exist, but episodes refer to it; {COPY}")
            check_exists(self.root / file)
        for fault in self.info.rate_faults():
            raise DatasetError(f"{self.root}: {fault}")


def statistics(episodes: list[EpisodeData]) -> dict[str, Statistics]:
    """Of `state` and `action` over all frames; an empty feature has none."""
    values = {"state": [episode.state for episode in episodes if episode.state.shape[1] > 0]}
    values["action"] = [episode.action for episode in episodes if episode.action is not None]
    return {name: summarize(list(np.concatenate(arrays).T)) for name, arrays in values.items() if arrays}


def summarize(columns: Sequence[Float32[np.ndarray, "_n"]]) -> Statistics:
    """Of each dimension by itself; they need not have equally many values."""
    tables = [column.astype(np.float64) for column in columns]  # a sum over millions of float32 loses digits
    mean, std, low, high = (tuple(float(of(table)) for table in tables) for of in (np.mean, np.std, np.min, np.max))
    q01, q99 = (tuple(float(np.quantile(table, share)) for table in tables) for share in (0.01, 0.99))
    return Statistics(mean, std, low, high, q01, q99)
