"""What the tests of exported policies look at."""

import numpy as np

from video2act.config import PolicyConfig
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step


def observations(config: PolicyConfig, number: int = 12) -> list[Observation]:
    """Consecutive ones of a camera of 40x40 px that sees noise."""
    draw = np.random.default_rng(0)
    return [
        Observation(
            {camera: draw.integers(0, 256, (40, 40, 3), dtype=np.uint8) for camera in config.all_cameras},
            draw.normal(size=config.state_dim).astype(np.float32),
            "push the block",
            step / config.fps,
        )
        for step in range(number)
    ]


class World:
    """A scene whose cameras see noise; it ends after 6 steps."""

    def __init__(self) -> None:
        cameras, names = ("front", "wrist"), (("x", "y", "z"), ("dx", "dy"))
        self.spec = EnvironmentSpec("engine_fakes:world", "fake", "push the block", cameras, 40, *names, 20.0, 6)
        self._step = 0

    def reset(self, seed: int) -> Observation:
        self._draw, self._step = np.random.default_rng(seed), 0
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        self._step += 1
        # what is seen depends on what was done
        return Step(self._observe(float(action.sum())), self._step == self.spec.max_steps, False)

    def _observe(self, moved: float = 0.0) -> Observation:
        images = {camera: self._draw.integers(0, 256, (40, 40, 3), dtype=np.uint8) for camera in self.spec.cameras}
        state = self._draw.normal(size=3).astype(np.float32) + np.float32(moved)
        return Observation(images, state, self.spec.instruction, self._step / self.spec.fps)

    def close(self) -> None: ...


def world() -> World:
    return World()
