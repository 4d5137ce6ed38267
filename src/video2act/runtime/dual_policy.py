"""A policy made of two systems at two speeds: System 1 plans on the newest condition of System 2, whatever its age.

The age, and what each system costs, is recorded for every plan.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from video2act.clips import ImageHistory
from video2act.config import RuntimeConfig
from video2act.incidents import Incidents
from video2act.interfaces import Continuing, DualSystem
from video2act.runtime.freshness import Freshness
from video2act.runtime.planner import Plan
from video2act.runtime.refresh import TIMES_KEPT
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import ActionChunk, Committed, Observation, VideoCondition


@dataclass(frozen=True)
class PlanTimes:
    """Measurements, one entry per plan, over all episodes of a policy; the newest."""

    act_s: deque[float] = field(default_factory=partial(deque, maxlen=TIMES_KEPT))
    """seconds System 1 took"""
    staleness_s: deque[float] = field(default_factory=partial(deque, maxlen=TIMES_KEPT))
    """age of System 2's newest frame at the moment of the observation, on the robot's clock"""


class DualPolicy:
    """The `Policy` that drives a robot with a `DualSystem`. Counts episodes; the slow loop decides when System 2 runs.

    Args:
        cameras: System 1's; for those named `camera@steps` past images are kept.
    Raises:
        ValueError: the runtime asks for plans that continue one another, which this system cannot make.
    """

    def __init__(
        self,
        system: DualSystem,
        slow_loop: SlowLoop,
        *,
        cameras: tuple[str, ...] = (),
        runtime: RuntimeConfig | None = None,
    ):
        runtime = runtime or RuntimeConfig()
        self.times = PlanTimes()
        self.condition: VideoCondition | None = None
        """what the last plan was made on; None before the first plan of an episode"""
        self._system = system
        self._slow_loop = slow_loop
        self._images = ImageHistory(cameras)
        self._freshness = Freshness(runtime, system)
        self._guidance = runtime.guidance if runtime.overlap == "rtc" else None
        self._episode = -1
        if runtime.overlap in ("rtc", "rtc_trained") and not isinstance(system, Continuing):
            raise ValueError(
                f"overlap {runtime.overlap!r} needs a system that can continue a plan, which {type(system).__name__} cannot; "
                "choose replace, blend or temporal_ensemble"
            )

    @property
    def perceive_s(self) -> list[float]:
        """Seconds that each refresh of System 2 took."""
        return [*self._slow_loop.perceive_s, *self._freshness.perceive_s]

    @property
    def incidents(self) -> Incidents:
        """Failures of System 2 that were noticed, over all episodes."""
        return self._slow_loop.incidents

    def reset(self) -> None:
        self._episode += 1
        self.condition = None
        self._images.reset()
        self._freshness.reset()
        self._slow_loop.reset(self._episode)

    def observe(self, observation: Observation) -> None:
        self._images.append(observation)
        self._slow_loop.observe(observation)

    def infer(self, observation: Observation) -> ActionChunk:
        """Plan from one observation.

        Raises:
            HoldError: the condition is older than allowed, and the answer to that is to hold.
            RuntimeError: the slow loop offered a condition from another episode; or one is too old, and that is an error.
        """
        return self.begin(observation, None)().chunk

    def begin(self, observation: Observation, committed: Committed | None) -> Callable[[], Plan]:
        """Take what a plan needs now, and return the work of making it, which may run in another thread.

        Args:
            committed: the rest of the running plan, for a plan that continues it.
        """
        find_condition = self._freshness.choose(self._slow_loop, observation)
        complete, episode = self._images.complete(observation), self._episode

        def work() -> Plan:
            condition = find_condition()
            if condition.episode != episode:
                raise RuntimeError(
                    f"a condition of episode {condition.episode} was offered in episode {episode}: what System 2 saw in "
                    "another episode must not be acted on. Let only this policy reset its slow loop, at the start of each episode"
                )
            started = time.perf_counter()
            if committed is None:
                chunk = self._system.act(complete, condition)
            else:
                assert isinstance(self._system, Continuing)
                chunk = self._system.continue_plan(complete, condition, committed=committed, guidance=self._guidance)
            self.times.act_s.append(time.perf_counter() - started)
            self.times.staleness_s.append(observation.time - condition.observed_at)
            self.condition = condition
            return Plan(chunk, condition)

        return work

    def close(self) -> None:
        """End what the slow loop started."""
        self._slow_loop.close()
