"""What a policy recorded of its training data, and the runtime follows: names of the actions, which of them are
relative, the sizes of the cameras' frames, and the control rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from video2act.files.run_folder import FrameSizes, load_frame_sizes
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation

RATE_STEPS, RATE_FACTOR = 10, 1.25
"""control steps whose median interval is compared, and how far it may be off; an interval of so many is a gap"""


@dataclass(frozen=True)
class TrainingRecord:
    """Each is empty where the policy does not say."""

    action_names: tuple[str, ...] = ()
    relative_actions: tuple[str, ...] = ()
    """changes or speeds"""
    frame_sizes: FrameSizes = field(default_factory=dict)
    period_s: float | None = None
    """seconds between two control steps"""

    @classmethod
    def of(cls, policy: Any) -> "TrainingRecord":
        """What a policy recorded. A served policy sends it in its contract; a policy of a run folder has it in its
        config, its statistics and `data.json`. Raises ValueError: the folder's record is damaged."""
        if (contract := getattr(policy, "contract", None)) is not None:
            return cls.of_contract(contract)
        if (config := getattr(policy, "config", None)) is None:
            return cls()
        statistics, folder = getattr(policy, "statistics", None), getattr(policy, "folder", None)
        names = statistics["action"].names if statistics else ()
        sizes = {} if folder is None else load_frame_sizes(folder)
        return cls(names, config.relative_actions, sizes, 1 / config.fps)

    @classmethod
    def of_contract(cls, contract: Any) -> "TrainingRecord":
        """As a server sends it."""
        return cls(contract.action_names, contract.relative_actions, contract.frame_sizes, contract.period_s)

    def relative_actions_of(self, spec: EnvironmentSpec) -> tuple[str, ...]:
        """Which of an environment's actions are changes or speeds: as it says, or, if it names none, as in training."""
        return spec.relative_actions or self.relative_among(spec.action_names)

    def relative_among(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of a robot's actions that are relative in training: by their names, or, if the robot names them
        otherwise, by their places. What is not there keeps its name."""
        ours = self.relative_actions
        if all(name in names for name in ours) or len(names) != len(self.action_names):
            return ours
        return tuple(names[self.action_names.index(name)] for name in ours)

    def other_rate(self, intervals_s: Sequence[float]) -> str:
        """What is wrong with the time between the last observations; empty if nothing is, or they are too few."""
        if self.period_s is None or len(intervals_s) < RATE_STEPS:
            return ""
        found = median(intervals_s)
        if 1 / RATE_FACTOR <= found / self.period_s <= RATE_FACTOR:
            return ""
        return (
            f"the control loop runs at {1 / found:.3g} Hz, and the training data at {1 / self.period_s:.3g} Hz: "
            "changes add up to another speed, and clips span another time"
        )

    def gap(self, interval_s: float) -> str:
        """What is wrong with the time since the last observation; empty if nothing is."""
        if self.period_s is None or interval_s < RATE_STEPS * self.period_s:
            return ""
        return (
            f"{interval_s:.3g} s between two observations, {interval_s / self.period_s:.0f} control steps: System 2's "
            "clips have a gap there. If the robot did not wait so long, its clock jumped"
        )

    def other_sizes(self, observation: Observation) -> Iterator[tuple[str, str]]:
        """For each camera of the training data that is there: its name, and the problem, empty if there is none."""
        for camera, (height, width) in self.frame_sizes.items():
            if (image := observation.images.get(camera)) is not None:
                problem = ""
                if image.shape[:2] != (height, width):
                    found = f"{image.shape[1]}x{image.shape[0]}"
                    problem = f"camera {camera!r} gives {found}, the training data are {width}x{height}"
                    problem += ": less may succeed"
                yield camera, problem
