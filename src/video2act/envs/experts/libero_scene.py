"""What LIBERO's expert reads from the simulator: objects, places, joints, the hand, and how high the scene is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.envs.experts.libero_grasp import Points, Rotation
from video2act.envs.libero import COLLISION_GROUP, Libero
from video2act.envs.simulation import import_simulator

_BOX, _MESH = 6, 7
_ABOVE_ALL_M = 2.0


@dataclass(frozen=True)
class Hand:
    position: Float[np.ndarray, "3"]
    """between the fingers"""
    rotation: Rotation


@dataclass(frozen=True)
class Joint:
    """A drawer's or a knob's."""

    body: int
    axis: Float[np.ndarray, "3"]
    """the joint's value grows along it, or around it"""
    anchor: Float[np.ndarray, "3"]


class Scene:
    """The simulator of a `Libero`, as it is at each call."""

    def __init__(self, environment: Libero) -> None:
        self._simulator = environment.simulator

    @property
    def goal(self) -> list[str]:
        """A predicate and its arguments: on, bowl, plate."""
        return self._simulator.parsed_problem["goal_state"][0]

    def hand(self) -> Hand:
        robot, data = self._simulator.robots[0], self._data
        return Hand(data.site_xpos[robot.eef_site_id].copy(), data.site_xmat[robot.eef_site_id].reshape(3, 3).copy())

    def base(self) -> Float[np.ndarray, "3"]:
        """Where the robot stands."""
        return self._data.xpos[self._robot].copy()

    def place(self, name: str) -> Float[np.ndarray, "3"]:
        """The middle of a region, or where an object stands."""
        bodies = self._simulator.obj_body_id
        body = bodies.get(name, bodies.get(name.removesuffix("_contain_region")))
        return self._simulator.sim.data.get_site_xpos(name).copy() if body is None else self._data.xpos[body].copy()

    def points(self, thing: str) -> Points:
        """Corners of an object's collision shapes."""
        root = self._simulator.obj_body_id[thing]
        return self._corners(self._model.body_rootid[self._model.geom_bodyid] == root)

    def upwards(self, thing: str) -> Float[np.ndarray, "3"]:
        """The axis of an object that points up when it stands."""
        return self._data.xmat[self._simulator.obj_body_id[thing]].reshape(3, 3)[:, 2].copy()

    def joint(self, name: str) -> Joint:
        """The joint that moves a drawer's region, or the only joint of a fixture."""
        sites = self._simulator.object_sites_dict
        joints = sites[name].joints if name in sites else self._simulator.get_object(name).joints
        number = self._simulator.sim.model.joint_name2id(joints[0])
        body = int(self._model.jnt_bodyid[number])
        return Joint(body, self._data.xaxis[number].copy(), self._data.xanchor[number].copy())

    def shapes(self, body: int) -> list[Points]:
        """Corners of each collision shape of one body."""
        own = np.flatnonzero((self._model.geom_bodyid == body) & (self._model.geom_group == COLLISION_GROUP))
        return [self._corners(np.arange(self._model.ngeom) == geom) for geom in own]

    def heights(self, places: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
        """How high the scene is there, without the robot."""
        return np.array([self._height(place) for place in places])

    def _height(self, place: Float[np.ndarray, "2"]) -> float:
        mujoco = import_simulator("mujoco")
        group, geom = np.eye(1, 6, COLLISION_GROUP, dtype=np.uint8)[0], np.zeros(1, dtype=np.int32)
        start = np.array([*place, _ABOVE_ALL_M])
        while True:
            far = mujoco.mj_ray(self._model, self._data, start, np.array([0, 0, -1.0]), group, 1, -1, geom)
            if far < 0:
                return -np.inf
            start[2] -= far
            if self._model.body_rootid[self._model.geom_bodyid[geom[0]]] != self._robot:
                return float(start[2])
            start[2] -= 1e-6

    def _corners(self, chosen: np.ndarray) -> Points:
        model, data = self._model, self._data
        corners = []
        for geom in np.flatnonzero(chosen & (model.geom_group == COLLISION_GROUP)):
            if model.geom_type[geom] == _MESH:
                mesh = model.geom_dataid[geom]
                first = model.mesh_vertadr[mesh]
                local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            else:  # a box or a cylinder, whose size is half of its extent
                radius, height = model.geom_size[geom][:2]
                half = model.geom_size[geom] if model.geom_type[geom] == _BOX else np.array([radius, radius, height])
                local = half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
            corners.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
        return np.concatenate(corners)

    @property
    def _robot(self) -> int:
        return int(self._model.body_rootid[self._model.site_bodyid[self._simulator.robots[0].eef_site_id]])

    @property
    def _model(self) -> Any:
        return self._simulator.sim.model._model

    @property
    def _data(self) -> Any:
        return self._simulator.sim.data._data
