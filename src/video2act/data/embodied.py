"""Datasets of several robots as one, in the unified vector: each number at its place, and which places are a robot's own.

The statistics of a place are those of the robots that have it. What a robot lacks is zero, and `known` says that it is nothing.
"""

import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from video2act.data.lerobot_reader import EpisodeData, LeRobotDataset, summarize
from video2act.data.merged import MergedDataset
from video2act.embodiment import EMBODIMENTS, UNIFIED_DIM, make_embodiment
from video2act.normalize import Statistics


class EmbodiedDataset(MergedDataset):
    """A `Dataset` made of those of several robots. Use `open_datasets`.

    Args:
        embodiments: which robot each part is of, by its name in `EMBODIMENTS`.
    Raises:
        ValueError: an unknown robot, or one of another size; both sides are named. Two robots of one name.
    """

    robots: dict[str, str]
    """embodiment -> what the robot is called: as the embodiment, or, where that lists its fields, as its data say"""

    def __init__(self, parts: Sequence[LeRobotDataset], embodiments: Sequence[str]):
        self.embodiments = tuple(embodiments)
        robots = zip(embodiments, parts, strict=True)
        self._robots = tuple(
            make_embodiment(name, part.state_dim, action_dim=part.action_dim or 0) for name, part in robots
        )
        super().__init__(parts)
        self.state_dim = self.action_dim = UNIFIED_DIM
        self.robots = _names(parts, embodiments)
        self.robot = "+".join(self.robots)

    def episode(self, i: int) -> EpisodeData:
        part, own = self._locate(i)
        episode = self.parts[part].episode(own)
        assert episode.action is not None
        state, action = (self._robots[part].unify(torch.tensor(own)).numpy() for own in (episode.state, episode.action))
        return EpisodeData(state, action, episode.instruction, episode.timestamps)

    def known(self, i: int) -> Float32[np.ndarray, "unified"]:
        """1 at the places of episode `i`'s robot, 0 elsewhere."""
        part, _ = self._locate(i)
        return self._robots[part].known(torch.zeros(0)).numpy()

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} as {' '.join(self.embodiments)}"

    def _statistics(self) -> dict[str, Statistics]:
        """Of each place over the robots that have it; zeros of places that none has."""
        columns: dict[str, list[list[np.ndarray]]] = {
            name: [[] for _ in range(UNIFIED_DIM)] for name in ("state", "action")
        }
        for part, robot in zip(self.parts, self._robots, strict=True):
            for episode in (part.episode(i) for i in range(len(part))):
                assert episode.action is not None
                for name, values in (("state", episode.state), ("action", episode.action)):
                    for place, column in zip(robot.places, values.T, strict=True):
                        columns[name][place].append(column)
        nothing = np.zeros(1, np.float32)
        return {name: summarize([np.concatenate(of or [nothing]) for of in places]) for name, places in columns.items()}


def _names(parts: Sequence[LeRobotDataset], embodiments: Sequence[str]) -> dict[str, str]:
    """Raises ValueError where a name is given to two robots, or cannot be a folder's."""
    names: dict[str, str] = {}
    for part, embodiment in zip(parts, embodiments, strict=True):
        name = embodiment if embodiment in EMBODIMENTS else part.robot
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(
                f"{part.root} calls its robot {name!r}; a folder will have this name: use letters, digits, _ - ."
            )
        namesake = next((other for other, called in names.items() if called == name and other != embodiment), None)
        if namesake:
            raise ValueError(
                f"{part.root}: two robots are called {name!r}, with the fields {namesake} and {embodiment}; "
                "give one of them another robot_type in meta/info.json"
            )
        names[embodiment] = name
    return names
