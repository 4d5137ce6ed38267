"""MetaWorld's own scripted policies as `Expert`s: one per task, proportional control through a few waypoints."""

import warnings

import numpy as np
from jaxtyping import Float

from video2act.envs.metaworld import MetaWorld
from video2act.envs.simulation import import_simulator


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
        with warnings.catch_warnings():
            # its gains ask for more than 1 far from the goal; the clip below is what the environment does with that
            warnings.filterwarnings("ignore", message="Constant", category=UserWarning)
            action = self._policy.get_action(self._environment.privileged)
        return np.clip(action, -1, 1).astype(np.float32)
