"""A world with pictures that evaluations and live runs of tests take place in: `report_world:make`."""

import numpy as np

from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

FPS, NUM_STEPS = 20.0, 12


class Squares:
    """A bright square that the action moves. An even seed succeeds, at a step that the seed decides."""

    def __init__(self, cameras: tuple[str, ...] = ("front", "wrist")):
        names = {"state_names": ("x", "y", "grip"), "action_names": ("dx", "dy"), "relative_actions": ("dx", "dy")}
        self.spec = EnvironmentSpec(
            "report_world:make", "arm", "push the square", cameras, 64, **names, fps=FPS, max_steps=NUM_STEPS
        )

    def reset(self, seed: int) -> Observation:
        self.place, self.count, self.seed = np.array([32.0, 20.0 + seed % 7]), 0, seed
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        self.place = np.clip(self.place + 3 * action, 8, 56)
        self.count += 1
        success = self.seed % 2 == 0 and self.count == 6 + self.seed % 4
        return Step(self._observe(), success or self.count == NUM_STEPS, success)

    def _observe(self) -> Observation:
        x, y = self.place.astype(int)
        frame = np.full((64, 64, 3), 40, np.uint8)
        frame[y - 8 : y + 8, x - 8 : x + 8] = 200
        state = np.array([*self.place / 64, 0.0], np.float32)
        images = {name: frame if name == "front" else frame[:, ::-1] for name in self.spec.cameras}
        return Observation(images, state, self.spec.instruction, self.count / FPS)

    def close(self) -> None: ...


def make(cameras: tuple[str, ...] | None = None) -> Squares:
    return Squares(cameras or ("front", "wrist"))
