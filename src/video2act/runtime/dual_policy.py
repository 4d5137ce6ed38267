"""A policy made of two systems at two speeds: System 1 plans on what System 2 last understood, however long ago that was.

How long ago is written down for every plan, and so is what each system costs.
"""

import time
from dataclasses import dataclass, field

from video2act.clips import ImageHistory
from video2act.interfaces import DualSystem
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import ActionChunk, Observation, VideoCondition


@dataclass(frozen=True)
class PlanTimes:
    """Raw measurements, one entry per plan, over all episodes of a policy."""

    act_s: list[float] = field(default_factory=list)
    """seconds System 1 took"""
    staleness_s: list[float] = field(default_factory=list)
    """age of System 2's newest frame at the moment of the observation, on the robot's clock"""


class DualPolicy:
    """The `Policy` that drives a robot with a `DualSystem`. Counts episodes; the slow loop decides when System 2 runs.

    Args:
        cameras: System 1's; for those named `camera@steps` past images are kept.
    """

    def __init__(self, system: DualSystem, slow_loop: SlowLoop, cameras: tuple[str, ...] = ()):
        self.times = PlanTimes()
        self.condition: VideoCondition | None = None
        """what the current plan was made on; None before the first plan of an episode"""
        self._system = system
        self._slow_loop = slow_loop
        self._images = ImageHistory(cameras)
        self._episode = -1

    @property
    def perceive_s(self) -> list[float]:
        """Seconds that each refresh of System 2 took."""
        return self._slow_loop.perceive_s

    def reset(self) -> None:
        self._episode += 1
        self.condition = None
        self._images.reset()
        self._slow_loop.reset(self._episode)

    def observe(self, observation: Observation) -> None:
        self._images.append(observation)
        self._slow_loop.observe(observation)

    def infer(self, observation: Observation) -> ActionChunk:
        """Plan from one observation.

        Raises:
            RuntimeError: the slow loop offered a condition from another episode.
        """
        condition = self._slow_loop.condition(observation)
        if condition.episode != self._episode:
            raise RuntimeError(
                f"a condition of episode {condition.episode} was offered in episode {self._episode}: what System 2 saw in "
                "another episode must not be acted on. Let only this policy reset its slow loop, at the start of each episode"
            )
        started = time.perf_counter()
        chunk = self._system.act(self._images.complete(observation), condition)
        self.times.act_s.append(time.perf_counter() - started)
        self.times.staleness_s.append(observation.time - condition.observed_at)
        self.condition = condition
        return chunk

    def close(self) -> None:
        """End what the slow loop started."""
        self._slow_loop.close()
