"""What an episode did, without its pictures: small enough to keep every episode, and enough to play it again.

A simulator that starts from the same seed and gets the same actions shows the same episode; `states` prove it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from video2act.interfaces import Decision
from video2act.types import Observation


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
        self._steps: list[tuple[Observation, Decision]] = []

    def on_reset(self, observation: Observation) -> None:
        self._steps = []

    def on_step(self, observation: Observation, decision: Decision) -> None:
        bare = Observation({}, observation.state, observation.instruction, observation.time)
        self._steps.append((bare, decision))

    def trace(self) -> Trace:
        """The episode so far. Raises ValueError: nothing was watched."""
        if not self._steps:
            raise ValueError("no step was watched; pass the tracer to run_episode or to the Runner as a watcher first")
        times = np.array([observation.time for observation, _ in self._steps])

        def step_of(time: float) -> int:
            """A plan or condition has the time of an observation: the nearest one."""
            return int(np.abs(times - time).argmin())

        decisions = [decision for _, decision in self._steps]
        begun = [(step, decision.plan.chunk) for step, decision in enumerate(decisions) if decision.is_new_plan]
        seen = [
            observation.time if decision.plan.condition is None else decision.plan.condition.observed_at
            for observation, decision in self._steps
        ]
        return Trace(
            times=times,
            states=np.stack([observation.state for observation, _ in self._steps]),
            actions=np.stack([decision.action for decision in decisions]),
            plans=np.stack([chunk.actions for _, chunk in begun]),
            plan_steps=np.array([step_of(chunk.observed_at) for _, chunk in begun]),
            taken_steps=np.array([step for step, _ in begun]),
            condition_steps=np.array([step_of(time) for time in seen]),
        )
