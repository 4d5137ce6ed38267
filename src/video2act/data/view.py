"""Several datasets under one numbering of episodes, or a part of them: what is trained on, and what is held out."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from video2act.config import Orientation
from video2act.data.fingerprint import Fingerprinted
from video2act.data.lerobot_reader import Dataset, EpisodeData, LeRobotDataset, statistics
from video2act.data.pictures import Reduce
from video2act.statistics import Statistics


class DatasetView(Fingerprinted):
    """A `Dataset` made of chosen episodes of others. Use `open_datasets` or `split`, which check that they agree.

    Statistics are those of the chosen episodes only.

    Args:
        parts: datasets that agree in rate, cameras and sizes.
        episodes: for each part the episodes to show, in this order; None: all.
    """

    def __init__(self, parts: Sequence[Dataset], episodes: Sequence[Sequence[int]] | None = None):
        self.parts = tuple(parts)
        chosen = [range(len(part)) for part in parts] if episodes is None else episodes
        self.episodes = tuple(map(tuple, chosen))
        first = self.parts[0]
        self.fps, self.robot, self.cameras = first.fps, first.robot, first.cameras
        self.orientation: Orientation = first.orientation
        self.state_dim, self.action_dim = first.state_dim, first.action_dim
        recorded = {part.relative_actions for part in self.parts}
        self.relative_actions = first.relative_actions if len(recorded) == 1 else ()
        self.places = [(k, i) for k, chosen in enumerate(self.episodes) for i in chosen]
        """of each episode its part, and its number there"""
        self.lengths = tuple(self.parts[k].lengths[i] for k, i in self.places)
        self.total_frames = sum(self.lengths)

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        size = f"{len(self)} episodes, {self.total_frames} frames, {self.fps:g} fps"
        return f"{type(self).__name__}({size}, of {', '.join(map(repr, self.parts))})"

    def select(self, episodes: Sequence[Sequence[int]]) -> "DatasetView":
        """The same parts with other episodes."""
        return type(self)(self.parts, episodes)

    @property
    def each(self) -> "tuple[DatasetView, ...]":
        """Each part by itself, with its chosen episodes."""
        return tuple(DatasetView([part], [chosen]) for part, chosen in zip(self.parts, self.episodes, strict=True))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task for k, i in self.places for task in self.parts[k].episode(i).instruction))

    @property
    def stats(self) -> dict[str, Statistics]:
        return self._stats

    @cached_property
    def _stats(self) -> dict[str, Statistics]:
        stats, names = statistics([self.episode(i) for i in range(len(self))]), self.parts[0].stats
        return {name: replace(entry, names=names[name].names) for name, entry in stats.items()}

    def episode_fingerprint(self, i: int) -> str:
        part, own = self._place(i)
        return part.episode_fingerprint(own)

    def episode(self, i: int) -> EpisodeData:
        part, own = self._place(i)
        return part.episode(own)

    def sentences(self, i: int) -> tuple[str, ...]:
        part, own = self._place(i)
        return part.sentences(own)

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.parts[0].image_size(camera)

    def frames(
        self,
        i: int,
        camera: str,
        *,
        numbers: Sequence[int] | None = None,
        reduce: Reduce | None = None,
    ) -> UInt8[np.ndarray, "t _h _w 3"]:
        part, own = self._place(i)
        return part.frames(own, camera, numbers=numbers, reduce=reduce)

    def part_number(self, i: int) -> int:
        """Which of `parts` episode `i` belongs to."""
        if not 0 <= i < len(self):
            raise IndexError(f"the selection has episodes 0..{len(self) - 1}, asked for {i}")
        return self.places[i][0]

    def _place(self, i: int) -> tuple[Dataset, int]:
        """The dataset of episode `i`, and the episode's number in it."""
        return self.parts[self.part_number(i)], self.places[i][1]


def as_view(dataset: Dataset) -> DatasetView:
    """The dataset itself if it is a view, else a view of all its episodes."""
    return dataset if isinstance(dataset, DatasetView) else DatasetView([dataset])


def choose(dataset: LeRobotDataset, episodes: Sequence[int]) -> DatasetView:
    """Some episodes of a dataset, in the order given. Raises ValueError: an episode that does not exist, one that is
    named twice, or none at all."""
    if isinstance(episodes, int):
        raise TypeError(f"episodes is a list of numbers, got {episodes}; give [{episodes}], or range({episodes})")
    for i in episodes:
        if not 0 <= i < len(dataset):
            raise ValueError(f"{dataset.root} has episodes 0..{len(dataset) - 1}, asked for {i}; choose among them")
    if len(set(episodes)) != len(episodes) or not episodes:
        raise ValueError(f"name at least one episode, and each once; got {', '.join(map(str, episodes)) or 'none'}")
    return DatasetView([dataset], [episodes])


def split(dataset: Dataset, fraction: float) -> tuple[DatasetView, DatasetView]:
    """Training and validation episodes. Of each part a `fraction` of its episodes is held out, as `hold_out` chooses
    them: at least one, never all. Raises ValueError: a part has fewer than two episodes."""
    view = as_view(dataset)
    held_out = [set(hold_out(part, num_held_out(len(part), fraction))) for part in view.each]
    halves = list(zip(view.episodes, held_out, strict=True))
    return (
        view.select([[i for place, i in enumerate(chosen) if place not in held] for chosen, held in halves]),
        view.select([[i for place, i in enumerate(chosen) if place in held] for chosen, held in halves]),
    )


def hold_out(dataset: Dataset, count: int) -> list[int]:
    """`count` episodes to test on: the last ones of each task, in proportion to its episodes. A suite is recorded task
    after task, so that its last episodes would be all of one task. Tasks of one episode count as one task."""
    view = as_view(dataset)
    tasks = [_task(view.parts[k], i) for k, i in view.places]
    often = {task for task, number in Counter(tasks).items() if number > 1}
    places: dict[Hashable, list[int]] = {}
    for place, task in enumerate(tasks):
        places.setdefault(task if task in often else (), []).append(place)
    shares = {task: count * len(own) / len(tasks) for task, own in places.items()}
    numbers = {task: int(share) for task, share in shares.items()}
    order = sorted(shares, key=lambda task: numbers[task] - shares[task])
    # a task of which nothing would be left to learn from comes last
    order.sort(key=lambda task: numbers[task] + 1 >= len(places[task]))
    for task in order[: count - sum(numbers.values())]:
        numbers[task] += 1
    return sorted(place for task, own in places.items() for place in own[len(own) - numbers[task] :])


def _task(dataset: Dataset, i: int) -> tuple[str, ...]:
    """What an episode is told; nothing where a dataset that is not on disk would have to be read for it."""
    return dataset.entries[i].tasks if isinstance(dataset, LeRobotDataset) else ()


def num_held_out(count: int, fraction: float) -> int:
    """How many of `count` episodes validate."""
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction of episodes that is held out must lie in [0, 1), got {fraction:g}")
    if count < 2:
        raise ValueError(f"a validation split needs at least 2 episodes, one of them held out; the dataset has {count}")
    return min(count - 1, max(1, round(fraction * count)))


def parse_episodes(text: str) -> Sequence[int]:
    """`"0:10"` -> range(0, 10), `"3,7"` -> (3, 7). Raises ValueError: neither form."""
    begin, colon, end = text.partition(":")
    try:
        return range(int(begin or 0), int(end)) if colon else tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"expected episodes as begin:end or as numbers with commas, got {text!r}") from None
