"""Datasets of several robots as one, in the unified vector: each number at its place, and which places a robot has.

The statistics of a place are those of the robots that have it. A place that a robot lacks holds zero; `dimension_mask`
marks it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from jaxtyping import Float32

from video2act.data.lerobot_reader import EpisodeData, LeRobotDataset, summarize
from video2act.data.view import DatasetView
from video2act.embodiment import EMBODIMENTS, FIELDS, UNIFIED_DIM, fields_of, make_embodiment
from video2act.statistics import Statistics


class EmbodiedDataset(DatasetView):
    """A `Dataset` made of those of several robots. Use `open_datasets`.

    Args:
        parts: LeRobotDatasets or parts of them, with the same cameras and rate.
        embodiments: the name in `EMBODIMENTS` of each part's robot.
    Raises:
        ValueError: an unknown robot, or one of another size or order; both sides are named. Two robots of one name.
    """

    robots: dict[str, str]
    """embodiment -> the robot's name: the embodiment's own, or the data's where the embodiment lists its fields"""

    def __init__(
        self,
        parts: Sequence[LeRobotDataset],
        embodiments: Sequence[str],
        *,
        episodes: Sequence[Sequence[int]] | None = None,
    ):
        super().__init__(parts, episodes)
        self.embodiments = tuple(embodiments)
        self._datasets = tuple(parts)
        self._embodiments = tuple(
            make_embodiment(name, part.state_dim, action_dim=part.action_dim or 0)
            for name, part in zip(embodiments, parts, strict=True)
        )
        for part, embodiment in zip(parts, embodiments, strict=True):
            _check_order(part, embodiment)
        self.state_dim = self.action_dim = UNIFIED_DIM
        self.relative_actions = ()  # each robot has its own
        self.robots = _names(parts, embodiments)
        self.robot = "+".join(self.robots)

    def select(self, episodes: Sequence[Sequence[int]]) -> "DatasetView":
        return type(self)(self._datasets, self.embodiments, episodes=episodes)

    def episode(self, i: int) -> EpisodeData:
        episode, robot = super().episode(i), self._embodiments[self.part_number(i)]
        unified = np.zeros((2, episode.length, UNIFIED_DIM), np.float32)
        unified[..., list(robot.places)] = episode.state, episode.actions
        state, action = unified
        return EpisodeData(state, action, episode.instruction, episode.timestamps)

    def dimension_mask(self, i: int) -> Float32[np.ndarray, "unified"]:
        """1 at the places of episode `i`'s robot, 0 elsewhere."""
        places = self._embodiments[self.part_number(i)].places
        return np.isin(np.arange(UNIFIED_DIM), places).astype(np.float32)

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} as {' '.join(self.embodiments)}"

    @cached_property
    def _stats(self) -> dict[str, Statistics]:
        """For each place over the robots that have it; zeros for places that no robot has."""
        columns: dict[str, list[list[np.ndarray]]] = {
            name: [[] for _ in range(UNIFIED_DIM)] for name in ("state", "action")
        }
        for i in range(len(self)):
            episode, places = super().episode(i), self._embodiments[self.part_number(i)].places
            for name, values in (("state", episode.state), ("action", episode.actions)):
                for place, column in zip(places, values.T, strict=True):
                    columns[name][place].append(column)
        zero = [np.zeros(1, np.float32)]
        stats = {name: summarize([np.concatenate(of or zero) for of in places]) for name, places in columns.items()}
        fields = {place: name for name, place in FIELDS.items()}
        names = tuple(fields.get(place, f"unified_{place}") for place in range(UNIFIED_DIM))
        return {name: replace(entry, names=names) for name, entry in stats.items()}


def _check_order(part: LeRobotDataset, embodiment: str) -> None:
    """Raise ValueError where the data name a field at another place than the embodiment. Other names say nothing."""
    fields = fields_of(embodiment)
    for word, names in (("state", part.info.state_names), ("action", part.info.action_names)):
        for place, (name, field) in enumerate(zip(names, fields, strict=True)):
            if name != field and name in fields:
                problem = f"{part.root}: {word}[{place}] is {name}, but the embodiment {embodiment!r} has {field} there"
                raise ValueError(f"{problem}; list the robot's fields, in the order of its data, as --embodiments")


def _names(parts: Sequence[LeRobotDataset], embodiments: Sequence[str]) -> dict[str, str]:
    """Raises ValueError where a name is given to two robots, or cannot be a folder's."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for part, embodiment in zip(parts, embodiments, strict=True):
        name = embodiment if embodiment in EMBODIMENTS else part.robot
        if not re.fullmatch(r"\w[\w.-]*", name):
            remedy = "a folder will have this name: use letters, digits, _ - ."
            raise ValueError(f"{part.root} calls its robot {name!r}; {remedy}")
        if owners.setdefault(name, embodiment) != embodiment:
            problem = f"two robots are called {name!r}, with the fields {owners[name]} and {embodiment}"
            raise ValueError(f"{part.root}: {problem}; give one of them another robot_type in meta/info.json")
        names[embodiment] = name
    return names
