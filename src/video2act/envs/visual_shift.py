"""Scenes that look otherwise than those of the training data: other colours, other light, a turned camera, or a disc
that moves across the picture.

A control: what does a policy hold on to? Benchmarks of generalisation vary the same (COLOSSEUM, arXiv 2402.08191). Only
the picture differs. The model is changed while a picture is drawn, and changed back, so physics, state and expert are
as without. The seed of the scene draws the change, so two policies meet the same one.
"""

from collections.abc import Iterator
from colorsys import hsv_to_rgb
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args
from zlib import crc32

import numpy as np
from jaxtyping import Float, UInt8

from video2act.config.frames import VisualShiftName

VISUAL_SHIFTS: tuple[str, ...] = get_args(VisualShiftName)
MIXED = VISUAL_SHIFTS[-1]
"""each scene shows one of the others"""

COLOUR_SHARE = 0.5
"""of the drawn colour in the new one"""
DARKER, BRIGHTER, TINT = (0.4, 0.7), (1.4, 1.9), (0.8, 1.2)
"""factors of the whole picture, and of each of red, green and blue"""
TURN_DEG = (3.0, 6.0)
"""by which a camera is turned, about an axis that is drawn"""
DISC_RADIUS, DISC_SPEED = 0.05, (0.3, 0.9)
"""in heights of the picture, and heights a second"""
DISC_HUE = (0.5, 0.85)
"""cyan to pink: most that is handled in the simulators here is yellow, red or green (ALOHA's insertion has a blue
socket)"""

DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo: a part of another colour shows it in place of its material's"""

_KEY = 733
"""so that a scene's shift is not drawn from the numbers that placed its objects"""


@dataclass(frozen=True)
class VisualShift:
    """How a scene looks at one moment."""

    name: str
    """one of `VISUAL_SHIFTS`"""
    seed: int
    """of the scene"""
    time_s: float
    """since its reset"""

    @property
    def of_scene(self) -> str:
        """The shift that the scene shows; never `mixed`. Four seeds, from a multiple of four on, show four shifts."""
        if self.name != MIXED:
            return self.name
        kinds = VISUAL_SHIFTS[:-1]
        block, place = divmod(self.seed, len(kinds))
        return kinds[np.random.default_rng([_KEY, block]).permutation(len(kinds))[place]]

    @contextmanager
    def shown(self, model: Any, data: Any) -> Iterator[None]:
        """While it is open, MuJoCo's `model` and `data` are drawn in the scene's colours and from its views."""
        random = np.random.default_rng([_KEY + 1, self.seed])
        kind = self.of_scene
        changes = _colours(model, random) if kind == "colours" else _turned(data, random) if kind == "camera" else []
        usual = [array.copy() for array, _ in changes]
        for array, value in changes:
            array[:] = value
        try:
            yield
        finally:
            for (array, _), value in zip(changes, usual, strict=True):
                array[:] = value

    def finish(self, image: UInt8[np.ndarray, "h w 3"], camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """A camera's picture in the scene's light, and with its disc."""
        kind = self.of_scene
        if kind == "light":
            random = np.random.default_rng([_KEY + 2, self.seed])
            factor = random.uniform(*(DARKER, BRIGHTER)[random.integers(2)]) * random.uniform(*TINT, 3)
            return np.clip(image * factor, 0, 255).astype(np.uint8)
        return self._with_disc(image, camera) if kind == "distractor" else image

    def _with_disc(self, image: UInt8[np.ndarray, "h w 3"], camera: str) -> UInt8[np.ndarray, "h w 3"]:
        random = np.random.default_rng([_KEY + 3, self.seed, crc32(camera.encode())])
        height, width, _ = image.shape
        sides = np.array([width / height, 1.0])
        angle, speed = random.uniform(0, 2 * np.pi), random.uniform(*DISC_SPEED)
        way = random.uniform(0, 1, 2) * sides + speed * self.time_s * np.array([np.cos(angle), np.sin(angle)])
        x, y = sides - np.abs(way % (2 * sides) - sides)  # it turns back at the border
        rows, columns = np.ogrid[:height, :width]
        is_disc = np.hypot(columns + 0.5 - x * height, rows + 0.5 - y * height) <= max(1.0, DISC_RADIUS * height)
        colour = np.multiply(255, hsv_to_rgb(random.uniform(*DISC_HUE), 1, 1)).astype(np.uint8)
        return np.where(is_disc[..., None], colour, image)


Changes = list[tuple[np.ndarray, np.ndarray]]
"""arrays of a model or its data, and what they hold while a picture is drawn"""


def _colours(model: Any, random: np.random.Generator) -> Changes:
    """Every material, and every colour of a part without one, mixed with another. Transparency stays."""
    materials = model.mat_rgba[:, :3]
    changes = [(materials, _mixed(materials, random.uniform(0, 1, materials.shape)))]
    for rgba, material in ((model.geom_rgba, model.geom_matid), (model.site_rgba, model.site_matid)):
        is_own = (material < 0) | (rgba != np.array(DEFAULT_RGBA, rgba.dtype)).any(1)
        _, which = np.unique(rgba[:, :3], axis=0, return_inverse=True)  # what is alike stays alike
        drawn = random.uniform(0, 1, (len(rgba), 3))[which.reshape(-1)]
        changes.append((rgba[:, :3], np.where(is_own[:, None], _mixed(rgba[:, :3], drawn), rgba[:, :3])))
    return changes


def _mixed(colours: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (1 - COLOUR_SHARE) * colours + COLOUR_SHARE * others


def _turned(data: Any, random: np.random.Generator) -> Changes:
    """Every camera, turned about its own centre."""
    views = data.cam_xmat.reshape(-1, 3, 3)
    turns = [_rotation(random.normal(size=3), np.radians(random.uniform(*TURN_DEG))) for _ in views]
    return [(data.cam_xmat, (views @ np.array(turns)).reshape(-1, 9))]


def _rotation(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns about an axis by an angle in rad (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
