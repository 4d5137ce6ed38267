"""A policy made of two systems at two speeds: System 1 plans on the newest condition of System 2, whatever its age.

The age, and what each system costs, is recorded for every plan.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from video2act.clips import ImageHistory
from video2act.config import PolicyConfig, RuntimeConfig, camera_and_lag
from video2act.config.runtime import without_effect
from video2act.frames import frame_uses
from video2act.incidents import Incidents
from video2act.interfaces import (
    BeginsEpisodes,
    ChecksState,
    ConfiguredSystem,
    Continuing,
    HoldError,
    Observes,
    Policy,
)
from video2act.observations import state_array
from video2act.runtime.freshness import Freshness
from video2act.runtime.planner import check_continues
from video2act.runtime.refresh import TIMES_KEPT
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import ActionChunk, Committed, Observation, Plan, VideoCondition


@dataclass(frozen=True)
class Times:
    """Measured seconds, the newest of all episodes."""

    act_s: list[float]
    """what System 1 took, one entry per plan"""
    perceive_s: list[float]
    """what System 2 took, one entry per refresh"""
    staleness_s: list[float]
    """age of System 2's newest frame at the observation, on the robot's clock, one entry per plan"""


OF_SYSTEM2 = (
    "max_staleness_s",
    "when_stale",
    "slack_s",
    "system2_device",
    "hang_timeout_s",
    "first_condition_timeout_s",
)
"""fields of `RuntimeConfig` that a finished policy, which brings its own System 2, cannot follow"""


def check_overlap(system: ConfiguredSystem, runtime: RuntimeConfig) -> None:
    """Raises ValueError if plans shall continue one another, and this system cannot make such plans."""
    if runtime.overlap in ("rtc", "rtc_trained") and not isinstance(system, Continuing):
        raise ValueError(
            f"overlap {runtime.overlap!r} needs a system that can continue a plan, which {type(system).__name__} "
            "cannot; choose replace or temporal_ensemble"
        )
    check_trained_for(system.config, runtime)


def check_trained_for(config: PolicyConfig, runtime: RuntimeConfig) -> None:
    """Raises ValueError if plans shall continue one another as in training, and there was no such training; or if they
    shall be guided, and the network predicts noise."""
    if runtime.overlap == "rtc" and config.system1.denoising.prediction == "epsilon":
        raise ValueError(
            "overlap rtc guides the clean actions, which follow badly from predicted noise (prediction='epsilon'); "
            "choose replace or temporal_ensemble"
        )
    if runtime.overlap == "rtc_trained" and config.system1.max_delay_steps == 0:
        raise ValueError(
            "this policy was not trained to continue a plan (max_delay_steps is 0); choose overlap rtc, which guides "
            "any policy, or train one with --policy.system1.max-delay-steps"
        )


class DualPolicy:
    """The `Policy` that drives a robot with a `DualSystem`. It numbers episodes; the slow loop decides when System 2
    runs.

    Args:
        cameras: System 1's, of which each observation must have an image that is large enough; for those named
            `camera@steps` past images are kept.
    Raises:
        ValueError: as `check_overlap`.
    """

    def __init__(
        self,
        system: ConfiguredSystem,
        slow_loop: SlowLoop,
        *,
        cameras: tuple[str, ...] = (),
        runtime: RuntimeConfig | None = None,
    ):
        runtime = runtime or RuntimeConfig()
        check_overlap(system, runtime)
        self._act_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self._staleness_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.condition: VideoCondition | None = None
        """what the last plan was made on; None before the first plan of an episode"""
        self.runtime = runtime
        self._system = system
        self._slow_loop = slow_loop
        shown = {camera_and_lag(camera)[0] for camera in cameras}
        self._uses = [use for use in frame_uses(system.config) if not use.stream and use.camera in shown]
        self._images = ImageHistory(cameras)
        self._freshness = Freshness(runtime, system)
        self._guidance = runtime.guidance if runtime.overlap == "rtc" else None
        self._episode = -1
        self._busy: HoldError | None = None
        """why the refresh that is due could not be made"""

    @property
    def times(self) -> Times:
        perceive_s = [*self._slow_loop.perceive_s, *self._freshness.perceive_s]
        return Times(list(self._act_s), perceive_s, list(self._staleness_s))

    def take_times(self) -> Times:
        """The times that were measured since the last call."""
        act_s, perceive_s, inline_s, staleness_s = (
            [measured.popleft() for _ in range(len(measured))]  # a thread may add one meanwhile
            for measured in (self._act_s, self._slow_loop.perceive_s, self._freshness.perceive_s, self._staleness_s)
        )
        return Times(act_s, perceive_s + inline_s, staleness_s)

    @property
    def longest_delay(self) -> int | None:
        """Control steps that a plan which continues another may take; None: any."""
        return self._system.config.system1.max_delay_steps if self.runtime.overlap == "rtc_trained" else None

    @property
    def incidents(self) -> Incidents:
        """Failures of System 2 and states that were clipped, over all episodes."""
        return self._slow_loop.incidents

    def num_refreshes(self) -> int:
        """Refreshes of System 2 in the running episode, once it has given a condition."""
        if self._busy and self.condition is None:
            return 0
        return self._slow_loop.condition().version + self._freshness.num_refreshes

    def reset(self) -> None:
        self._episode += 1
        self.condition = self._busy = None
        if isinstance(self._system, BeginsEpisodes):
            self._system.begin_episode()
        self._images.reset()
        self._freshness.reset()
        self._slow_loop.reset(self._episode)

    def observe(self, observation: Observation) -> None:
        """Raises ValueError for a camera of either system whose image is missing or too small, an instruction that is
        none, or a state of another size or with numbers that are not finite, at any control step: not only where a plan
        needs it. Nothing has been taken in then."""
        if not isinstance(observation.instruction, str) or not observation.instruction.strip():
            raise ValueError(f"the instruction of an observation is a sentence, got {observation.instruction!r}")
        state_array(observation, self._system.config)
        for use in self._uses:
            use.read(observation.images)
        self._slow_loop.check(observation)
        self._images.append(observation)
        if isinstance(self._system, Observes):
            self._system.observe(observation)
        self._busy = None
        try:
            self._slow_loop.observe(observation)
        except HoldError as reason:  # the frame has been taken in; the next plan tells it
            self._busy = reason

    def infer(self, observation: Observation) -> ActionChunk:
        """Plan from one observation.

        Raises:
            HoldError: the condition is older than allowed, and `when_stale` is not error; or others were at System 2
                for too long when a refresh was due.
            RuntimeError: the slow loop offered a condition from another episode; or one is too old, and that is an
                error.
        """
        return self.begin(observation, None)().chunk

    def begin(self, observation: Observation, committed: Committed | None) -> Callable[[], Plan]:
        """Take what a plan needs now, and return the work of making it, which may run in another thread.

        Args:
            committed: the rest of the running plan, for a plan that continues it.
        """
        if self._busy:
            raise HoldError(str(self._busy), self._busy.kind)
        find_condition = self._freshness.choose(self._slow_loop, observation)
        complete, episode = self._images.complete(observation), self._episode
        if isinstance(self._system, ChecksState) and (problem := self._system.state_problem(observation)):
            self.incidents.note("state_clipped", f"the state is far outside the training data: {problem}; clipped")

        def work() -> Plan:
            condition = find_condition()
            if condition.episode != episode:
                raise RuntimeError(
                    f"a condition of episode {condition.episode} was offered in episode {episode}: what System 2 saw "
                    "in another episode must not be acted on. Let only this policy reset its slow loop, at the start "
                    "of each episode"
                )
            started = time.perf_counter()
            if committed is None:
                chunk = self._system.act(complete, condition)
            else:
                assert isinstance(self._system, Continuing)
                chunk = self._system.continue_plan(complete, condition, committed=committed, guidance=self._guidance)
            self._act_s.append(time.perf_counter() - started)
            self._staleness_s.append(observation.time - condition.observed_at)
            self.condition = condition
            return Plan(chunk, condition)

        return work

    def close(self) -> None:
        """End what the slow loop started."""
        self._slow_loop.close()


def check_finished(policy: Policy, config: RuntimeConfig, given: Mapping[str, object]) -> None:
    """Raise ValueError for options that a finished policy would ignore.

    Args:
        given: other options of System 2, with what was given for them.
    """
    usual = policy.runtime if isinstance(policy, DualPolicy) else RuntimeConfig()
    if names := without_effect(config, OF_SYSTEM2, given=given, usual=usual):
        raise ValueError(
            f"{type(policy).__name__} brings its own System 2, so {names} would have no effect: leave it "
            "out. Of a served policy the server has these options: `video2act serve --max-staleness-s ...`"
        )
    if config.overlap in ("rtc", "rtc_trained"):
        check_continues(policy)
