"""Work that is timed in turns, and a policy to time."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from video2act.presets import DataSpec, make_preset
from video2act.statistics import Statistics

if TYPE_CHECKING:
    import torch

    from video2act.policy import Video2Act
else:
    Video2Act = Any

REPEATS, WARM_UPS = 20, 3
MAX_DIFFERENCE = 1e-4
"""of two results that count as the same"""
INSTRUCTION = ["push the puck to the goal"]
ROBOT = DataSpec(4, 4, 80.0, ("front", "wrist"))

Work = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one piece of work."""

    name: str
    seconds: np.ndarray
    than: np.ndarray | None = None
    """seconds of what it is compared with, in the same turns"""
    difference: float | None = None
    """the largest, between the results of both"""

    @property
    def times_faster(self) -> float | None:
        """None without a comparison, and where the results are not the same."""
        if self.than is None or (self.difference or 0.0) > MAX_DIFFERENCE:
            return None
        return float(np.median(self.than) / np.median(self.seconds))


def measure(work: Work, repeats: int = REPEATS, *, device: "torch.device | None" = None) -> dict[str, np.ndarray]:
    """Seconds of each piece of work, `repeats` times, in turns: a slow moment of the machine then slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(-WARM_UPS, repeats):
        for name, run in work.items():
            started = perf_counter()
            run()
            if device and device.type == "cuda":
                import torch

                torch.cuda.synchronize(device)
            if repeat >= 0:
                seconds[name].append(perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def random_policy(preset: str, changes: dict[str, Any] | None = None) -> Video2Act:
    """A preset with random weights, for a robot of 4 numbers and two cameras: for timing only."""
    import torch

    from video2act.policy import Video2Act

    torch.manual_seed(0)
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    return Video2Act(make_preset(preset, ROBOT).replace(changes or {}), {"state": unit, "action": unit})
