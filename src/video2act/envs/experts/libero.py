"""A scripted expert for LIBERO's tasks of the form "pick this up and put it there".

It reads where the object and its goal are when the episode begins, and moves through fixed stages: above the object,
down, close, up, over the goal, down, open, up. Boxes and bottles are held across their narrow side, bowls at their rim.
Drawers, knobs and pushing have no script.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from video2act.envs.libero import TASKS_OF_SUITES, Libero

TASKS = tuple(f"libero_object/{number}" for number in range(TASKS_OF_SUITES["libero_object"]))
"""those that it can do; docs/environments.md has their rates"""

OPEN, CLOSED = -1.0, 1.0
METRES_PER_ACTION, RADIANS_PER_ACTION = 0.05, 0.5
GAIN = 0.5
"""share of the way that is asked for in one control step"""
CARRYING_SPEED = 0.6
"""share of the full speed while something is held"""
LOWEST_M = 0.0105
"""of the point between the fingers, above what the object stands on: the finger tips reach 9 mm below it"""
ABOVE_M, LIFT_M = 0.12, 0.25
CLOSING_STEPS = 10
"""the fingers take eight to close"""
WIDEST_M = 0.075
"""of what fits between the fingers"""
TURN_COSTS_M = 0.02
"""a turn of 1 rad is worth an object that is this much narrower"""
RIM_DEPTH_M = 0.015
PALM_ABOVE_M, PALM_HALF_M = 0.039, (0.105, 0.035)
"""of the palm: how high above the point between the fingers, and half of its extent along and beside the way of the
fingers"""


@dataclass(frozen=True)
class Stage:
    """A place to go to, with the fingers open or closed."""

    position: Float[np.ndarray, "3"] | None
    """None: stay"""
    yaw: float
    """turn of the hand, rad; at 0 the fingers close along y"""
    gripper: float
    max_steps: int
    tolerance_m: float = 0.0
    """the stage is over when the gripper is this near"""
    is_carrying: bool = False
    """something is held, so the hand goes slower"""


@dataclass(frozen=True)
class Grasp:
    """Where the fingers close."""

    position: Float[np.ndarray, "3"]
    yaw: float


class LiberoExpert:
    """The demonstrator of a `Libero` environment."""

    def __init__(self, environment: Libero) -> None:
        task = environment.spec.name.removeprefix("libero:")
        if task not in TASKS:
            raise ValueError(f"the expert has no script for {environment.spec.name}; it can do {', '.join(TASKS)}")
        self._environment = environment
        self._actions: Iterator[Float[np.ndarray, "7"]] = iter(())

    def reset(self) -> None:
        self._actions = self._act()

    def act(self) -> Float[np.ndarray, "7"]:
        return next(self._actions, np.array([0, 0, 0, 0, 0, 0, OPEN], dtype=np.float32))

    def _act(self) -> Iterator[Float[np.ndarray, "7"]]:
        _, thing, place = self._environment.simulator.parsed_problem["goal_state"][0]
        points = self._points(thing)
        grasp = choose_grasp(points, self._others(thing, place))
        goal = self._goal(place)
        # the object's middle, not the hand, has to arrive over the goal
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        over = goal[:2] + grasp.position[:2] - middle[:2]
        hold_m = grasp.position[2] - points[:, 2].min()
        top = grasp.position[2] + LIFT_M
        start, end = grasp.position, np.array([*over, goal[2] + hold_m + self._clearance_m(place)])
        yield from self._follow(
            Stage(start + np.array([0, 0, ABOVE_M]), grasp.yaw, OPEN, 50, 0.015),
            Stage(start, grasp.yaw, OPEN, 30, 0.003),
            Stage(start, grasp.yaw, CLOSED, CLOSING_STEPS),
            Stage(np.array([*start[:2], top]), grasp.yaw, CLOSED, 40, 0.03, is_carrying=True),
            Stage(np.array([*over, top]), grasp.yaw, CLOSED, 60, 0.015, is_carrying=True),
            Stage(end, grasp.yaw, CLOSED, 30, 0.02, is_carrying=True),
            Stage(None, grasp.yaw, OPEN, 8),
            Stage(np.array([*over, top]), grasp.yaw, OPEN, 20, 0.03),
        )

    def _others(self, thing: str, place: str) -> list[Float[np.ndarray, "_n 3"]]:
        """Corners of the objects that stand around."""
        names = (name for name in self._environment.simulator.objects_dict if name != thing)
        return [self._points(name) for name in names if not place.startswith(name)]

    def _follow(self, *stages: Stage) -> Iterator[Float[np.ndarray, "7"]]:
        for stage in stages:
            for _ in range(stage.max_steps):
                hand, yaw = self._hand()
                error = np.zeros(3) if stage.position is None else stage.position - hand
                left = (stage.yaw - yaw + np.pi / 2) % np.pi - np.pi / 2  # half a turn is the same grasp
                if np.linalg.norm(error) < stage.tolerance_m and abs(left) < 0.1:
                    break
                speed = CARRYING_SPEED if stage.is_carrying else 1.0
                move = np.clip(GAIN * error / METRES_PER_ACTION, -1, 1) * speed
                turn = GAIN * np.array([*self._tilt(), left]) / RADIANS_PER_ACTION
                yield np.array([*move, *np.clip(turn, -0.7, 0.7), stage.gripper], dtype=np.float32)

    def _hand(self) -> tuple[Float[np.ndarray, "3"], float]:
        """Position of the point between the fingers, and the turn of the hand from where the fingers close along y."""
        robot, data = self._environment.simulator.robots[0], self._environment.simulator.sim.data
        x, y, _ = data.site_xmat[robot.eef_site_id].reshape(3, 3)[:, 0]
        yaw = np.arctan2(-x, y)
        return data.site_xpos[robot.eef_site_id].copy(), float((yaw + np.pi / 2) % np.pi - np.pi / 2)

    def _tilt(self) -> Float[np.ndarray, "2"]:
        """The turn about x and y that would make the hand point straight down again, rad."""
        robot, data = self._environment.simulator.robots[0], self._environment.simulator.sim.data
        x, y, z = data.site_xmat[robot.eef_site_id].reshape(3, 3)[:, 2]
        return np.sign(z) * np.array([y, -x])

    def _goal(self, place: str) -> Float[np.ndarray, "3"]:
        simulator = self._environment.simulator
        data = simulator.sim.data
        if place in simulator.obj_body_id:
            return data.body_xpos[simulator.obj_body_id[place]].copy()
        basket = place.removesuffix("_contain_region")
        if basket in simulator.obj_body_id:
            return data.body_xpos[simulator.obj_body_id[basket]].copy()
        return data.get_site_xpos(place).copy()

    def _clearance_m(self, place: str) -> float:
        """How far above its place an object is let go; a basket's rim is high."""
        return 0.09 if place.startswith("basket") else 0.03

    def _points(self, thing: str) -> Float[np.ndarray, "n 3"]:
        """Corners of the object's collision shapes, in metres."""
        simulator = self._environment.simulator
        model, data, body = simulator.sim.model._model, simulator.sim.data._data, simulator.obj_body_id[thing]
        corners = []
        for geom in range(model.ngeom):
            if model.body_rootid[model.geom_bodyid[geom]] != body or model.geom_group[geom] != 0:
                continue
            if (mesh := model.geom_dataid[geom]) >= 0:
                first = model.mesh_vertadr[mesh]
                local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            else:  # a box or a cylinder, whose size is half of its extent
                radius, height = model.geom_size[geom][0], model.geom_size[geom][1]
                is_box = model.geom_type[geom] == 6
                half = model.geom_size[geom] if is_box else np.array([radius, radius, height])
                local = half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            corners.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
        return np.concatenate(corners)


def meets_palm(grasp: Grasp, other: Float[np.ndarray, "n 3"]) -> bool:
    """Whether the palm would come down on another object, on which it comes to rest."""
    if other[:, 2].max() < grasp.position[2] + PALM_ABOVE_M:
        return False
    across = np.array([-np.sin(grasp.yaw), np.cos(grasp.yaw)])
    relative = other[:, :2] - grasp.position[:2]
    along, beside = relative @ across, relative @ np.array([across[1], -across[0]])
    is_beside = beside.min() > PALM_HALF_M[1] or beside.max() < -PALM_HALF_M[1]
    return not is_beside and bool(np.abs(along).min() < PALM_HALF_M[0])


def choose_grasp(points: Float[np.ndarray, "n 3"], others: Sequence[Float[np.ndarray, "_n 3"]] = ()) -> Grasp:
    """Across the narrow side, with as little turning as possible; at the rim, if nothing fits between the fingers.

    Args:
        others: corners of the objects around it. Where another turn also fits, the palm comes down beside them.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    position = np.array([*middle[:2], max(low[2] + LOWEST_M, middle[2])])
    grasps = [Grasp(position, float(yaw)) for yaw in np.linspace(-np.pi / 2, np.pi / 2, 37)]
    # of the object, in the direction in which the fingers close
    widths = [float(np.ptp(points[:, :2] @ np.array([-np.sin(grasp.yaw), np.cos(grasp.yaw)]))) for grasp in grasps]
    fitting = [(grasp, width) for grasp, width in zip(grasps, widths, strict=True) if width <= WIDEST_M]
    if not fitting:
        return Grasp(np.array([middle[0], high[1] - 0.005, high[2] - RIM_DEPTH_M]), 0.0)
    free = [pair for pair in fitting if not any(meets_palm(pair[0], other) for other in others)]
    return min(free or fitting, key=lambda pair: pair[1] + TURN_COSTS_M * abs(pair[0].yaw))[0]
