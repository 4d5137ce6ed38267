"""What a policy recorded of its training data, and the runtime follows: names of the actions, which of them are
relative, and the sizes of the cameras' frames."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from video2act.files.run_folder import FrameSizes, load_frame_sizes
from video2act.types import Observation


@dataclass(frozen=True)
class TrainingRecord:
    """Each is empty where the policy does not say."""

    action_names: tuple[str, ...] = ()
    relative_actions: tuple[str, ...] = ()
    """changes or speeds"""
    frame_sizes: FrameSizes = field(default_factory=dict)

    @classmethod
    def of(cls, policy: Any) -> "TrainingRecord":
        """Of a policy: a served one says it in its contract, one of a run folder in its config and beside it. Raises
        ValueError: the folder's record is damaged."""
        if (contract := getattr(policy, "contract", None)) is not None:
            return cls(contract.action_names, contract.relative_actions, contract.frame_sizes)
        if (config := getattr(policy, "config", None)) is None:
            return cls()
        statistics, folder = getattr(policy, "statistics", None), getattr(policy, "folder", None)
        names = statistics["action"].names if statistics else ()
        return cls(names, config.relative_actions, {} if folder is None else load_frame_sizes(folder))

    def other_sizes(self, observation: Observation) -> Iterator[tuple[str, str]]:
        """For each camera of the training data that is there: its name, and the problem, empty if there is none."""
        for camera, (height, width) in self.frame_sizes.items():
            if (image := observation.images.get(camera)) is not None:
                found = f"{image.shape[1]}x{image.shape[0]}"
                is_same = image.shape[:2] == (height, width)
                problem = f"camera {camera!r} gives {found}, the training data are {width}x{height}: less may succeed"
                yield camera, "" if is_same else problem
