"""What an episode did, without its pictures: small enough to keep every episode, and enough to play it again.

A simulator that starts from the same seed and gets the same actions shows the same episode; `states` prove it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from video2act.interfaces import Decision
from video2act.types import ActionChunk, Observation


@dataclass(frozen=True)
class Trace:
    """One episode. `t` counts control steps, `p` plans."""

    times: Float[np.ndarray, "t"]
    """of the observations, seconds on the robot's clock"""
    states: Float[np.ndarray, "t s"]
    actions: Float[np.ndarray, "t a"]
    """what was sent, in the dtype in which it was sent: a simulator rounds by it"""
    plans: Float[np.ndarray, "p horizon a"]
    plan_steps: Int[np.ndarray, "p"]
    """control steps of the observations that the plans were made on; the first action is meant for that step"""
    taken_steps: Int[np.ndarray, "p"]
    """control steps at which the plans took over"""
    condition_steps: Int[np.ndarray, "t"]
    """for each control step, the step of the newest frame in the condition that was used"""

    def arrays(self) -> dict[str, np.ndarray]:
        return {part.name: getattr(self, part.name) for part in fields(self)}


def trace_of(arrays: Mapping[str, np.ndarray]) -> Trace:
    """The inverse of `Trace.arrays`. Raises LookupError: one is missing."""
    return Trace(**{part.name: arrays[part.name] for part in fields(Trace)})


class Tracer:
    """A watcher that keeps the trace of one episode at a time."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._times: list[float] = []
        self._states: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._seen_at: list[float] = []
        """of the newest frame in the condition"""
        self._plans: list[tuple[int, ActionChunk]] = []
        """control step at which it took over, and the plan"""

    def on_reset(self, observation: Observation) -> None:
        self._begin()

    def on_step(self, observation: Observation, decision: Decision) -> None:
        plan, step = decision.plan, len(self._times)
        if decision.is_new_plan:
            self._plans.append((step, plan.chunk))
        self._times.append(observation.time)
        self._states.append(observation.state)
        self._actions.append(decision.action)
        # not the condition itself: its tokens would stay in the memory of the device
        self._seen_at.append(observation.time if plan.condition is None else plan.condition.observed_at)

    def trace(self) -> Trace:
        """The episode so far. Raises ValueError: nothing was watched."""
        if not self._times:
            raise ValueError("no step was watched; pass the tracer to run_episode or to the Runner as a watcher first")
        times, plans = np.array(self._times), [chunk.actions for _, chunk in self._plans]

        def step_of(time: float) -> int:
            """A plan or condition has the time of an observation: the nearest one."""
            return int(np.abs(times - time).argmin())

        return Trace(
            times=times,
            states=np.stack(self._states),
            actions=np.stack(self._actions),
            plans=np.stack(plans) if plans else np.empty((0, 0, len(self._actions[0]))),
            plan_steps=np.array([step_of(chunk.observed_at) for _, chunk in self._plans], int),
            taken_steps=np.array([step for step, _ in self._plans], int),
            condition_steps=np.array([step_of(time) for time in self._seen_at]),
        )
