"""Your own robot or simulator: any Gymnasium environment, described by a mapping and driven by a (random) policy."""

from typing import Any

import gymnasium
import numpy as np

from video2act.envs.gym import GymEnvironment, GymMapping
from video2act.runtime.control_loop import run_episode
from video2act.runtime.runner import Runner
from video2act.types import ActionChunk, Observation


class Dot(gymnasium.Env):
    """A dot that has to move to the middle of a 64 px image."""

    render_mode = "rgb_array"
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-0.8, 0.8, 2).astype(np.float32)
        return self.place, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 0.1 * action, -1, 1).astype(np.float32)
        return self.place, 0.0, False, False, {"arrived": bool(np.abs(self.place).max() < 0.1)}

    def render(self) -> np.ndarray:
        y, x = np.mgrid[-1:1:64j, -1:1:64j] - self.place[::-1, None, None]
        return np.where(np.hypot(x, y)[..., None] < 0.15, [220, 40, 40], 255).astype(np.uint8)


class RandomPolicy:
    def reset(self) -> None: ...
    def observe(self, observation: Observation) -> None: ...

    def infer(self, observation: Observation) -> ActionChunk:
        generator = np.random.default_rng(int(10 * observation.time))
        return ActionChunk(generator.uniform(-1, 1, (8, 2)), observation.time, period=1 / 10)


if __name__ == "__main__":
    mapping = GymMapping(
        name="dot",
        robot="dot",
        instruction="move to the middle",
        fps=10.0,
        max_steps=200,
        image_size=64,
        images={"camera": None},  # None: what render() returns
        state=None,  # None: the observation itself
        success="arrived",
        state_names=("x", "y"),
        action_names=("dx", "dy"),
        relative_actions=("dx", "dy"),  # changes: a robot that holds gets zeros of them
    )
    result = run_episode(GymEnvironment(Dot(), mapping), Runner(RandomPolicy(), execute_steps=4), seed=0)
    print(f"success: {result.success}, after {result.num_steps} control steps")
