"""The motions of LIBERO's expert, as stages for the hand: carry a thing to a place, pull a drawer, turn a knob.

Each reads the scene when it begins, `carry` once more when the thing hangs in the hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from video2act.envs.experts.libero_grasp import DOWN, Grasp, Rotation, choose_grasp, hand_rotation
from video2act.envs.experts.libero_scene import Scene

OPEN, CLOSED = -1.0, 1.0
UP = -DOWN
BEFORE_M = 0.12
"""of the hand from where it closes, before it comes to there"""
OVER_M, HALF_WIDTH_M = 0.03, 0.06
"""of a thing above everything on its way, which is so wide to both sides"""
CLOSING_STEPS = 10
"""the fingers take eight to close"""
CLEARANCE_M = {"basket": 0.09, "akita_black_bowl": 0.07}
"""how far above the place a thing is let go; a basket's and a bowl's rim are high"""
USUAL_CLEARANCE_M = 0.01
PULL_M, PULLING_PITCH = 0.155, np.radians(10)
"""a drawer is open at 0.14; the hand points down a little: its palm passes over a plate and under the handle above"""
KNOB_TURN = 0.9
"""rad; on from 0.5"""


@dataclass(frozen=True)
class Stage:
    """A place for the hand to go to, with the fingers open or closed."""

    position: Float[np.ndarray, "3"] | None
    """None: stay"""
    rotation: Rotation
    gripper: float
    max_steps: int
    tolerance_m: float = 0.0
    """the stage is over when the hand is this near"""


def carry(scene: Scene, thing: str, place: str) -> Iterator[Stage]:
    grasp = choose_grasp(scene.points(thing), scene.upwards(thing), scene.heights, base=scene.base())
    start, turn = grasp.position, grasp.rotation
    lowest, way_m = scene.points(thing)[:, 2].min(), _highest(scene, start, scene.place(place))
    top = way_m + OVER_M + start[2] - lowest
    yield from _take(start, turn)
    yield Stage(np.array([*start[:2], top]), turn, CLOSED, 40, 0.02)
    # the thing, not the hand, has to arrive over the place
    points, hand = scene.points(thing), scene.hand().position
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    held = hand - np.array([*middle[:2], points[:, 2].min()])
    kind = next((kind for kind in CLEARANCE_M if place.startswith(kind)), None)
    end = scene.place(place) + held + UP * (USUAL_CLEARANCE_M if kind is None else CLEARANCE_M[kind])
    over = np.array([*end[:2], max(top, end[2])])
    yield Stage(over, turn, CLOSED, 60, 0.025)
    yield Stage(end, turn, CLOSED, 45, 0.01)
    yield Stage(None, turn, OPEN, 8)
    yield Stage(over, turn, OPEN, 20, 0.03)


def _highest(scene: Scene, start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]) -> float:
    """The highest point of the scene on the way from one place to the other."""
    along = end[:2] - start[:2]
    aside = np.array([-along[1], along[0]]) / max(np.linalg.norm(along), 1e-6) * HALF_WIDTH_M
    places = [start[:2] + part * along + side * aside for part in np.linspace(0, 1, 16) for side in (-1, 0, 1)]
    return float(scene.heights(np.array(places)).max())


def _take(position: Float[np.ndarray, "3"], turn: Rotation) -> Iterator[Stage]:
    """Come the way in which the hand points, and close the fingers."""
    yield Stage(position - BEFORE_M * turn[:, 2], turn, OPEN, 60, 0.015)
    yield Stage(position, turn, OPEN, 30, 0.003)
    yield Stage(position, turn, CLOSED, CLOSING_STEPS)


def pull(scene: Scene, drawer: str) -> Iterator[Stage]:
    """Open a drawer by its handle, with the fingers above and below it."""
    joint = scene.joint(drawer)
    outwards = -joint.axis  # a drawer's joint is negative where it is open
    bar = max(scene.shapes(joint.body), key=lambda corners: (corners @ outwards).max())
    handle = (bar.min(axis=0) + bar.max(axis=0)) / 2
    cos, sin = np.cos(PULLING_PITCH), np.sin(PULLING_PITCH)
    turn = hand_rotation(-cos * outwards + sin * DOWN, sin * outwards + cos * DOWN)
    open_at = handle + PULL_M * outwards
    yield from _take(handle, turn)
    yield Stage(open_at, turn, CLOSED, 60, 0.01)
    yield Stage(None, turn, OPEN, 6)
    yield Stage(open_at - BEFORE_M * turn[:, 2], turn, OPEN, 20, 0.03)


def turn_on(scene: Scene, stove: str) -> Iterator[Stage]:
    """Turn a knob by its ridge."""
    joint = scene.joint(stove)
    points = np.concatenate(scene.shapes(joint.body))
    ridge = points[points[:, 2] > points[:, 2].max() - 0.02]
    grasp = choose_grasp(ridge, UP, scene.heights, base=scene.base())
    at = np.array([*joint.anchor[:2], grasp.position[2]])
    yield from _take(at, grasp.rotation)
    yield Stage(at, Grasp(at, grasp.yaw + KNOB_TURN * joint.axis[2]).rotation, CLOSED, 40)
