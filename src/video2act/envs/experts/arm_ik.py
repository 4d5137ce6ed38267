"""Inverse kinematics of one ViperX arm: pose of the finger tips -> six joint angles.

Damped least squares on a copy of the simulation's state. Each search starts from the last solution, so that the joints
do not jump between two solutions of one pose.
"""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from video2act.envs.aloha import START_ARM
from video2act.envs.simulation import import_simulator

FINGER_TIPS_M = np.array([0.135, 0.0, 0.0])
"""where the fingers meet, in the frame of the body `gripper_link`, whose x axis points out of the hand"""

_ROTATION_WEIGHT = 0.3  # metres per radian: how far a wrong angle counts as a wrong place
_DAMPING = 1e-5
_MAX_TURN = 0.3  # radians per iteration; the linearisation is wrong beyond
_MAX_ITERATIONS = 30
_TOLERANCE = 1e-4  # metres and radians

Position = Float[np.ndarray, "3"]
Quaternion = Float[np.ndarray, "4"]


class ArmIK:
    """Solver for one arm of a two-armed model."""

    def __init__(self, model: Any, side: Literal["left", "right"]) -> None:
        self._mujoco = import_simulator("mujoco")
        self._model = model
        self._scratch = self._mujoco.MjData(model)
        self._hand = model.body(f"vx300s_{side}/gripper_link").id
        first = model.joint(f"vx300s_{side}/waist").qposadr[0]
        self._joints = np.arange(first, first + 6)
        # all hinges come before the free joints, so positions and velocities share their indices
        self._limits = model.jnt_range[self._joints]
        self._jacobian = np.zeros((6, model.nv))
        self.reset()
        self.home = self._pose()
        """position and orientation of the finger tips when an episode starts"""

    def reset(self) -> None:
        """Search from the arms' start pose again."""
        self._scratch.qpos[:16] = START_ARM * 2
        self._update()

    def solve(self, position: Position, orientation: Quaternion) -> Float[np.ndarray, "6"]:
        """The closest the arm can come to a pose of the finger tips, given in the world's frame."""
        joints = self._scratch.qpos
        for _ in range(_MAX_ITERATIONS):
            error = self._error(position, orientation)
            if np.abs(error).max() < _TOLERANCE:
                break
            jacobian = self._jacobian[:, self._joints]
            weight = np.array([1, 1, 1, _ROTATION_WEIGHT, _ROTATION_WEIGHT, _ROTATION_WEIGHT])
            jacobian, error = jacobian * weight[:, None], error * weight
            turn = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING * np.eye(6), error)
            turned = joints[self._joints] + turn.clip(-_MAX_TURN, _MAX_TURN)
            joints[self._joints] = turned.clip(self._limits[:, 0], self._limits[:, 1])
            self._update()
        return joints[self._joints].copy()

    def _update(self) -> None:
        self._mujoco.mj_kinematics(self._model, self._scratch)
        self._mujoco.mj_comPos(self._model, self._scratch)

    def _pose(self) -> tuple[Position, Quaternion]:
        rotation = self._scratch.xmat[self._hand].reshape(3, 3)
        return self._scratch.xpos[self._hand] + rotation @ FINGER_TIPS_M, self._scratch.xquat[self._hand].copy()

    def _error(self, position: Position, orientation: Quaternion) -> Float[np.ndarray, "6"]:
        """The error in metres and in radians; also updates the Jacobian."""
        tips, turned = self._pose()
        self._mujoco.mj_jac(self._model, self._scratch, self._jacobian[:3], self._jacobian[3:], tips, self._hand)
        inverse, difference, angle = np.zeros(4), np.zeros(4), np.zeros(3)
        self._mujoco.mju_negQuat(inverse, turned)
        self._mujoco.mju_mulQuat(difference, orientation, inverse)
        self._mujoco.mju_quat2Vel(angle, difference, 1.0)
        return np.concatenate([position - tips, angle])
