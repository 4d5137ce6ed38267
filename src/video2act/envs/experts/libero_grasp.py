"""Where a Panda's fingers close: across the narrow side of an object, or on the rim of a bowl.

Pure geometry. A hand is the point between its fingers and a rotation, whose columns are the way of the fingers, the
third direction, and the direction in which the hand points.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "_n 3"]
Rotation = Float[np.ndarray, "3 3"]
Heights = Callable[[Float[np.ndarray, "_n 2"]], Float[np.ndarray, "_n"]]
"""how high the scene is at places on the floor"""

DOWN = np.array([0.0, 0.0, -1.0])
LOWEST_M = 0.0105
"""of the point between the fingers, above what the object stands on: the finger tips reach 9 mm below it"""
HIGHEST_M = 0.034
"""of an object above that point: there the palm begins"""
WIDEST_M = 0.075
"""of what fits between the fingers"""
TURN_COSTS_M = 0.02
"""a turn of 1 rad is worth an object that is this much narrower"""
RIM_DEPTH_M, RIM_M = 0.017, 0.004
"""how deep a rim is held (a bowl's sloping wall creeps out of the fingers: 12 mm was too little), and down to where an
object's highest points are its rim"""
MARGIN_M = 0.001


@dataclass(frozen=True)
class Layer:
    """A part of the open hand that points down: what stands under it is lower than `above_m`."""

    above_m: float
    """of its lower face, above the point between the fingers"""
    along: tuple[float, float]
    """its extent on both sides of that point, on the way of the fingers"""
    beside: float


HAND = (
    Layer(-0.009, (0.0386, 0.053), 0.009),  # finger tips
    Layer(0.025, (0.041, 0.065), 0.0105),  # fingers
    Layer(0.036, (0.0, 0.105), 0.032),  # palm
)


@dataclass(frozen=True)
class Grasp:
    """A hand that points down, where its fingers close; at yaw 0 along y."""

    position: Float[np.ndarray, "3"]
    yaw: float
    cost_m: float = 0.0

    @property
    def rotation(self) -> Rotation:
        return hand_rotation(DOWN, np.array([-np.sin(self.yaw), np.cos(self.yaw), 0.0]))


def hand_rotation(pointing: Float[np.ndarray, "3"], fingers: Float[np.ndarray, "3"]) -> Rotation:
    return np.column_stack([fingers, np.cross(pointing, fingers), pointing])


def rotation_vector(rotation: Rotation) -> Float[np.ndarray, "3"]:
    """An axis times its angle from 0 to pi, in rad."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine = np.linalg.norm(axis)
    return axis if sine < 1e-8 else axis / sine * np.arctan2(sine, np.trace(rotation) - 1)


def choose_grasp(
    points: Points, axis: Float[np.ndarray, "3"], heights: Heights, *, base: Float[np.ndarray, "3"]
) -> Grasp:
    """The cheapest grasp for which the hand has room; the cheapest, if it has none anywhere.

    Args:
        points: corners of the object.
        axis: of the object, upwards.
        heights: of the scene, with the object.
        base: of the robot, whose arm is straight 0.75 m away: near grasps are cheaper.
    """
    grasps = [*_side_grasps(points)] or [*_rim_grasps(points, axis)]
    grasps.sort(key=lambda grasp: grasp.cost_m + float(np.linalg.norm((grasp.position - base)[:2])))
    return next((grasp for grasp in grasps if has_room(grasp, heights)), grasps[0])


def has_room(grasp: Grasp, heights: Heights) -> bool:
    """Whether the open hand comes down on nothing."""
    along, beside = grasp.rotation[:2, 0], grasp.rotation[:2, 1]
    for layer in HAND:
        step = np.linspace(*layer.along, max(2, round((layer.along[1] - layer.along[0]) / 0.015) + 1))
        places = [a * along + b * beside for a in (*step, *-step) for b in np.linspace(-layer.beside, layer.beside, 4)]
        if (heights(grasp.position[:2] + np.array(places)) > grasp.position[2] + layer.above_m - MARGIN_M).any():
            return False
    return True


def _side_grasps(points: Points) -> Iterator[Grasp]:
    """Across each side that fits between the fingers."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    position = np.array([*middle[:2], max(low[2] + LOWEST_M, middle[2], high[2] - HIGHEST_M)])
    for yaw in np.linspace(-np.pi / 2, np.pi / 2, 37):
        width = float(np.ptp(points[:, :2] @ np.array([-np.sin(yaw), np.cos(yaw)])))
        if width <= WIDEST_M:
            yield Grasp(position, float(yaw), width + TURN_COSTS_M * abs(yaw))


def _rim_grasps(points: Points, axis: Float[np.ndarray, "3"]) -> Iterator[Grasp]:
    """One finger inside and one outside, all around."""
    along = points @ axis
    rim = points[along > along.max() - RIM_M]
    middle = (rim.min(axis=0) + rim.max(axis=0)) / 2
    radius = float(np.linalg.norm(rim - middle, axis=1).mean())
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        outwards = np.array([np.cos(angle), np.sin(angle), 0.0])
        outwards[2] = -(outwards @ axis) / axis[2]  # in the plane of the rim
        yaw = (angle % np.pi) - np.pi / 2
        position = middle + radius * outwards / np.linalg.norm(outwards) + RIM_DEPTH_M * DOWN
        yield Grasp(position, float(yaw), TURN_COSTS_M * abs(yaw))
