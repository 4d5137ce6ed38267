"""MetaWorld's own scripted policies as `Expert`s: one per task, proportional control through a few waypoints."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.envs.metaworld import MetaWorld
from video2act.envs.simulation import import_simulator


def scripted_action(policy: Any, privileged: Float[np.ndarray, "39"]) -> Float[np.ndarray, "4"]:
    """What one of MetaWorld's policies does, not clipped. Far from the goal its gains ask for more than 1."""
    with warnings.catch_warnings():
        # the caller clips, as the environment does
        warnings.filterwarnings("ignore", message="Constant", category=UserWarning)
        return policy.get_action(privileged)


class MetaWorldExpert:
    """The scripted policy that belongs to the environment's task."""

    def __init__(self, environment: MetaWorld) -> None:
        task = environment.spec.name.removeprefix("metaworld:")
        self._environment = environment
        self._policy_class = import_simulator("metaworld.policies").ENV_POLICY_MAP[task]
        self._policy = self._policy_class()

    def reset(self) -> None:
        self._policy = self._policy_class()

    def act(self) -> Float[np.ndarray, "4"]:
        action = scripted_action(self._policy, self._environment.privileged)
        return np.clip(action, -1, 1).astype(np.float32)
