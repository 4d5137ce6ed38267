"""Clips of whole datasets for `train-video`: of one camera each, with their instruction, at random or in order.

Datasets may be of different robots: only pixels count. What differs in rate is never in one batch: a `Video` has one
rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import overload

import numpy as np

from video2act.clips import clip_indices
from video2act.config import LETTERBOX, FrameConfig, VideoTrainConfig
from video2act.data.frame_store import GIB, FrameStore, check_budget, stores_of
from video2act.data.lerobot_reader import Dataset, LeRobotDataset
from video2act.data.view import as_view
from video2act.frames import Size, fit_problem
from video2act.types import Video


@dataclass(frozen=True)
class Footage:
    """One dataset, seen through one camera."""

    dataset: Dataset
    store: FrameStore
    camera: str
    episodes: tuple[int, ...] | None = None
    """those that clips are drawn from; None: all"""

    @classmethod
    def open(
        cls, datasets: Sequence[Dataset], camera: str | None, *, config: VideoTrainConfig, sizes: Sequence[Size]
    ) -> list["Footage"]:
        """The datasets share the memory for decoded frames.

        Args:
            camera: None for the first of each dataset.
            sizes: of clips.
        Raises:
            ValueError: a dataset does not have the camera, or none; the memory does not hold one batch.
        """
        for dataset in datasets:
            if not dataset.cameras:
                raise ValueError(
                    f"{place_of(dataset)} has no colour camera (depth is none); leave it out, or record one"
                )
            if camera is not None and camera not in dataset.cameras:
                raise ValueError(
                    f"{place_of(dataset)} has no camera {camera!r}; its cameras are {', '.join(dataset.cameras)}"
                )
        budget, batch = int(config.frames_gib * GIB), config.batch_size * config.num_frames * 3 * max(map(prod, sizes))
        check_budget(budget, batch)
        stores = stores_of(datasets, budget - batch)
        return [cls(one, store, camera or one.cameras[0]) for one, store in zip(datasets, stores, strict=True)]


def place_of(dataset: Dataset) -> str:
    """A dataset's folder, or folders, for errors; `the dataset` where it is not on disk."""
    roots = [str(part.root) for part in as_view(dataset).parts if isinstance(part, LeRobotDataset)]
    return ", ".join(roots) or "the dataset"


Place = tuple[int, int, int]
"""number of the footage, episode, newest frame"""


class Places(Sequence[Place]):
    """The frames of episodes one after another, without a list of them: a large dataset has millions.

    Args:
        episodes: number of the footage, and episode.
        lengths: frames of each.
        first: frame of an episode that counts as its first.
    """

    def __init__(self, episodes: Sequence[tuple[int, int]], lengths: Sequence[int], *, first: int = 0):
        self._episodes, self._lengths, self._first = episodes, lengths, first
        self._ends = np.cumsum(np.maximum(np.array(lengths, dtype=np.int64) - first, 0))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, number: int) -> Place: ...
    @overload
    def __getitem__(self, number: slice) -> list[Place]: ...
    def __getitem__(self, number: int | slice) -> Place | list[Place]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"there are {len(self)} frames, asked for number {number}")
        row = int(np.searchsorted(self._ends, number, side="right"))
        return (*self._episodes[row], self._first + int(number - (self._ends[row - 1] if row else 0)))

    def beginning_at(self, first: int) -> "Places":
        """Without the frames before `first` of each episode."""
        return Places(self._episodes, self._lengths, first=first)


class ClipSampler:
    """Clips from all episodes of some footage.

    Args:
        num_frames: of a clip.
        stride: control steps between two of them.
        sizes: of clips; one of them is drawn for each batch.
        frame: how frames get their size.
    Raises:
        ValueError: a camera is too small for one of the sizes.
    """

    def __init__(
        self,
        footage: Sequence[Footage],
        *,
        num_frames: int,
        stride: int,
        sizes: Sequence[Size],
        frame: FrameConfig = LETTERBOX,
    ):
        for one in footage:
            recorded = one.dataset.image_size(one.camera)
            problems = [fit_problem(recorded, size, rule=frame) for size in sizes]
            if problem := next(filter(None, problems), ""):
                raise ValueError(f"camera {one.camera!r}: {problem}; record larger frames, or lower --sizes-px")
            one.store.plan([(one.camera, size, frame) for size in sizes])
        self.footage = tuple(footage)
        self.num_frames, self.stride = num_frames, stride
        self.sizes = tuple(sizes)
        self.frame = frame
        rates: dict[float, list[tuple[int, int]]] = {}
        for number, one in enumerate(footage):
            lengths, chosen = one.dataset.lengths, one.episodes
            episodes = range(len(lengths)) if chosen is None else chosen
            rates.setdefault(float(one.dataset.fps), []).extend((number, i) for i in episodes if lengths[i])
        self.groups = [
            Places(group, [footage[number].dataset.lengths[i] for number, i in group])
            for group in filter(None, rates.values())
        ]
        """places of equal rate"""

    def clips(self, places: Sequence[Place], size: Size) -> tuple[Video, list[str]]:
        """The clips of a size that end at places of equal rate, and their instructions."""
        from torch import cat  # here: footage is opened and checked without it

        from video2act.data.batches import read_clips

        order, parts = [], []
        for number in sorted({number for number, _, _ in places}):
            one, chosen = self.footage[number], [i for i, place in enumerate(places) if place[0] == number]
            ends = [places[i][1:] for i in chosen]
            wanted = [(i, clip_indices(newest, self.num_frames, stride=self.stride)) for i, newest in ends]
            fps = one.dataset.fps / self.stride
            parts.append(read_clips(one.store, one.camera, wanted=wanted, size=size, rule=self.frame, fps=fps))
            order += chosen
        grid = cat([part.grid for part in parts])[np.argsort(order)]
        instruction = [self.footage[n].dataset.episode(i).instruction[frame] for n, i, frame in places]
        return Video(grid, parts[0].fps), instruction

    def random(self, count: int, seed: tuple[int, ...]) -> tuple[Video, list[str]]:
        """`count` clips of one random size that end at random frames."""
        rng = np.random.default_rng(seed)
        size = self.sizes[rng.integers(len(self.sizes))]
        places = self.groups[0]
        if len(self.groups) > 1:
            share = np.array([len(group) for group in self.groups]) / sum(len(group) for group in self.groups)
            places = self.groups[rng.choice(len(self.groups), p=share)]
        return self.clips([places[i] for i in rng.integers(len(places), size=count).tolist()], size)

    def spread(self, count: int) -> list[list[Place]]:
        """About `count` places spread evenly over all frames, by rate."""
        span = self.stride * (self.num_frames - 1)
        # whole clips only: the repeated first frame before an episode is too easy to predict
        whole = [group.beginning_at(span) or group for group in self.groups]
        every = max(1, sum(map(len, whole)) // count)
        return [group[::every] for group in whole]
