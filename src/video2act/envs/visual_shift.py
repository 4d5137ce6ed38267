"""Scenes that look otherwise than those of the training data: other colours, other light, a turned camera, or a ball
that flies through the picture.

A control: what does a policy hold on to? Benchmarks of generalisation vary the same (COLOSSEUM, arXiv 2402.08191). Only
the picture differs. The model is changed while a picture is drawn, and changed back, so physics, state and expert are
as without. The seed of the scene draws the change, so two policies meet the same one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from video2act.config.frames import VisualShiftName

VISUAL_SHIFTS: tuple[str, ...] = get_args(VisualShiftName)
MIXED = VISUAL_SHIFTS[-1]
"""each scene draws one of the others"""

COLOUR_SHARE = 0.5
"""of the drawn colour in the new one"""
BRIGHTNESS, TINT = (0.5, 1.5), (0.8, 1.2)
"""factors of all light, and of each of red, green and blue"""
TURN_DEG = 5.0
"""the largest angle by which a camera is turned, about an axis that is drawn"""
BALL_RADIUS, BALL_SPEED = 0.04, (0.3, 0.9)
"""of the flying ball, in heights of the picture, and heights a second"""
BALL_DISTANCE = 1.5
"""in shares of the distance at which a camera begins to see, so the ball is in front of everything"""

_KEY = 733
"""so that a scene's shift is not drawn from the numbers that placed its objects"""


@dataclass(frozen=True)
class VisualShift:
    """How a scene looks at one moment."""

    name: str
    seed: int
    """of the scene"""
    time_s: float
    """since its reset"""

    @property
    def of_scene(self) -> str:
        """The shift that the scene shows; never `mixed`."""
        if self.name != MIXED:
            return self.name
        return str(np.random.default_rng([_KEY, self.seed]).choice(VISUAL_SHIFTS[:-1]))

    @contextmanager
    def shown(self, model: Any, data: Any) -> Iterator[None]:
        """While it is open, a picture of MuJoCo's `model` and `data` shows the shift."""
        random = np.random.default_rng([_KEY + 1, self.seed])
        changed = {"colours": _colours, "light": _light, "camera": _turned, "distractor": _nothing}[self.of_scene]
        changes = changed(model, data, random)
        usual = [array.copy() for array, _ in changes]
        for array, value in changes:
            array[:] = value
        try:
            yield
        finally:
            for (array, _), value in zip(changes, usual, strict=True):
                array[:] = value

    def add_to(self, scene: Any, model: Any, data: Any, *, camera: int) -> None:
        """Add what flies through the picture of one camera to MuJoCo's `scene`; nothing for the other shifts."""
        if self.of_scene != "distractor":
            return
        import mujoco  # whoever has a scene has it

        random = np.random.default_rng([_KEY + 2, self.seed, camera])
        distance = BALL_DISTANCE * model.vis.map.znear * model.stat.extent
        half = np.tan(np.radians(model.cam_fovy[camera]) / 2) * distance  # of the picture's height, in metres
        angle, speed = random.uniform(0, 2 * np.pi), random.uniform(*BALL_SPEED)
        way = random.uniform(0, 1, 2) + speed * self.time_s * np.array([np.cos(angle), np.sin(angle)])
        right, up = half * (2 * np.abs((way + 1) % 2 - 1) - 1)  # it turns back at the border
        place = data.cam_xpos[camera] + data.cam_xmat[camera].reshape(3, 3) @ (right, up, -distance)
        colour = np.array([*random.permutation([random.uniform(0, 1), 0.0, 1.0]), 1.0], np.float32)
        size, turned = np.full(3, 2 * half * BALL_RADIUS), np.eye(3).ravel()
        mujoco.mjv_initGeom(scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_SPHERE, size, place, turned, colour)
        scene.ngeom += 1


Changes = list[tuple[np.ndarray, np.ndarray]]
"""arrays of a model or its data, and what they hold while a picture is drawn"""


def _nothing(model: Any, data: Any, random: np.random.Generator) -> Changes:
    return []


def _colours(model: Any, data: Any, random: np.random.Generator) -> Changes:
    """Every material, and every geom without one, mixed with a colour of its own."""
    found = [model.mat_rgba[:, :3], model.geom_rgba[:, :3]]
    return [(each, (1 - COLOUR_SHARE) * each + COLOUR_SHARE * random.uniform(0, 1, each.shape)) for each in found]


def _light(model: Any, data: Any, random: np.random.Generator) -> Changes:
    """Brighter or darker, and of another colour."""
    factor = random.uniform(*BRIGHTNESS) * random.uniform(*TINT, 3)
    head = model.vis.headlight
    found = [head.ambient, head.diffuse, model.light_ambient, model.light_diffuse]
    return [(each, each * factor) for each in found]


def _turned(model: Any, data: Any, random: np.random.Generator) -> Changes:
    """Every camera, turned about its own centre."""
    turns = [_rotation(random.normal(size=3), np.radians(random.uniform(0, TURN_DEG))) for _ in range(model.ncam)]
    return [(data.cam_xmat, (data.cam_xmat.reshape(-1, 3, 3) @ np.reshape(turns, (-1, 3, 3))).reshape(-1, 9))]


def _rotation(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns about an axis by an angle in rad (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
