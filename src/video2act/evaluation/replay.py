"""An episode of an evaluation, played again: the same scene and the same actions, with pictures.

No policy is needed, and a slow or asynchronous one is no obstacle. The states prove that it is the same episode.
"""

from dataclasses import dataclass

import numpy as np

from video2act.interfaces import Environment, RealTimeEnvironment
from video2act.trace import Trace
from video2act.types import Observation


@dataclass(frozen=True)
class Replay:
    """What the cameras saw."""

    observations: list[Observation]
    success: bool
    difference: float
    """largest difference between the states now and those of the evaluation; 0: it is the same episode to the bit"""


def replay(environment: Environment, seed: int, *, trace: Trace) -> Replay:
    """Play the actions of a trace again. The episode ends where the trace does, or where the environment ends it.

    Raises:
        ValueError: a robot would get all actions at once, and its scene is another one now.
    """
    if isinstance(environment, RealTimeEnvironment):
        raise ValueError(
            f"{environment.spec.name} goes on in its own time (it has `observe`), so its episodes cannot be played "
            "again; leave films=yes out"
        )
    observation, success = environment.reset(seed), False
    observations = []
    for action in trace.actions:
        observations.append(observation)
        step = environment.step(action)
        observation, success = step.observation, success or step.success
        if step.done:
            break
    states = np.stack([each.state for each in observations]).astype(trace.states.dtype)
    return Replay(observations, success, float(np.abs(states - trace.states[: len(states)]).max(initial=0.0)))
