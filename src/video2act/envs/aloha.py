"""ALOHA: two ViperX arms over a table, in the scenes of gym-aloha, stepped by MuJoCo directly.

Resets, stepping and reward equal those of gym-aloha's environments, to the bit (a test compares them). Those always
render three large pictures per step: 4 steps per second on a CPU. An action is 14 absolute joint targets at 50 Hz; the
simulator clamps each to its actuator's range. An episode ends at the first success, reward 4, as in gym-aloha.
"""

import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Float

from video2act.envs.choices import check_choice
from video2act.envs.simulation import SimulatedTask, import_simulator
from video2act.extras import extra
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

DEFAULT_CAMERAS = ("angle", "top")
DEFAULT_MAX_STEPS = 300

INSTRUCTIONS = {
    "transfer_cube": "pick up the red cube with the right arm and hand it over to the left arm",
    "insertion": "pick up the peg and the socket and insert the peg into the socket",
}

CONTROL_PERIOD_S = 0.02

START_ARM = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.02239, -0.02239)
"""joint positions of either arm at a reset: six joints in radians, two fingers in metres"""

FINGER_CLOSED_M, FINGER_OPEN_M = 0.01844, 0.058
"""finger positions that state and action call 0 and 1"""

SUCCESS_REWARD = 4

_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
_JOINT_NAMES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in _JOINTS)


class Aloha(SimulatedTask):
    """One ALOHA task as an `Environment`."""

    def __init__(
        self,
        task: str,
        cameras: tuple[str, ...] = DEFAULT_CAMERAS,
        *,
        image_size: int | tuple[int, int] = 128,
        max_steps: int = DEFAULT_MAX_STEPS,
    ) -> None:
        check_choice("ALOHA task", task, choices=INSTRUCTIONS)
        if max_steps < 1:
            raise ValueError(f"aloha:{task}: max_steps must be positive, got {max_steps}")
        self._mujoco = import_simulator("mujoco")
        self.task = task
        self.model = self._mujoco.MjModel.from_xml_path(str(_assets() / f"bimanual_viperx_{task}.xml"))
        """the simulation, with `data` its state; for experts, never for a policy"""
        self.data = self._mujoco.MjData(self.model)
        self.reward = 0
        """stage of the task that has been reached, from 0 to 4"""
        spec = EnvironmentSpec(
            name=f"aloha:{task}",
            robot="aloha",
            instruction=INSTRUCTIONS[task],
            cameras=cameras,
            image_size=image_size,
            state_names=_JOINT_NAMES,
            action_names=_JOINT_NAMES,
            fps=1 / CONTROL_PERIOD_S,
            max_steps=max_steps,
        )
        super().__init__(spec, self.model)

    def reset(self, seed: int) -> Observation:
        mujoco, model, data = self._mujoco, self.model, self.data
        flags = model.opt.disableflags
        model.opt.disableflags = flags | mujoco.mjtDisableBit.mjDSBL_ACTUATION
        mujoco.mj_resetData(model, data)
        # The original runs these three passes, the first before the arms are placed and all without actuation. Each
        # warm-starts the contact solver of the next, so leaving one out changes the episode.
        mujoco.mj_forward(model, data)
        data.qpos[:16] = data.ctrl[:] = START_ARM * 2
        data.qpos[16:] = _place_objects(self.task, seed)
        mujoco.mj_forward(model, data)
        mujoco.mj_forward(model, data)
        model.opt.disableflags = flags
        self.reward = 0
        self._begin(seed)
        return self._observe()

    def step(self, action: Float[np.ndarray, "_a"]) -> Step:
        self._episode.check(action)
        mujoco, model, data = self._mujoco, self.model, self.data
        data.ctrl[:] = np.concatenate([_actuator_targets(action[:7]), _actuator_targets(action[7:])])
        # the original's order: positions are current before the action, so only the second half of a step is due; at
        # the end, the first half of the next step updates contacts and pictures
        mujoco.mj_step2(model, data)
        mujoco.mj_step(model, data, nstep=round(CONTROL_PERIOD_S / model.opt.timestep) - 1)
        mujoco.mj_step1(model, data)
        self.reward = self._rate()
        success = self.reward == SUCCESS_REWARD
        done = self._episode.advance(success)
        return Step(self._observe(), done=done, success=success)

    def _observe(self) -> Observation:
        left, right = self.data.qpos[:8], self.data.qpos[8:16]
        return self._observation(self.data, np.array([*left[:6], _opening(left), *right[:6], _opening(right)]))

    def _rate(self) -> int:
        """The stage of the task, out of what touches what; gym-aloha's rule."""
        contacts = {frozenset(pair) for pair in self.data.contact.geom.tolist()}

        def touch(first: str, second: str) -> bool:
            return frozenset((self.model.geom(first).id, self.model.geom(second).id)) in contacts

        left, right = "vx300s_left/10_left_gripper_finger", "vx300s_right/10_right_gripper_finger"
        if self.task == "transfer_cube":
            is_lifted = not touch("red_box", "table")
            if touch("red_box", left):
                return 3 + is_lifted
            return 1 + is_lifted if touch("red_box", right) else 0
        sockets = ("socket-1", "socket-2", "socket-3", "socket-4")
        are_lifted = not touch("red_peg", "table") and not any(touch(socket, "table") for socket in sockets)
        if touch("red_peg", "pin"):
            return SUCCESS_REWARD
        if are_lifted and any(touch("red_peg", socket) for socket in sockets):
            return 3
        are_held = touch("red_peg", right) and any(touch(socket, left) for socket in sockets)
        return 1 + are_lifted if are_held else 0


def _assets() -> Path:
    """The scenes' folder, found without importing gym-aloha, which would import a second simulator stack."""
    spec = importlib.util.find_spec("gym_aloha")
    if spec is None or not spec.submodule_search_locations:
        with extra("sim", "an ALOHA scene"):
            raise ImportError("not installed", name="gym_aloha")
    return Path(spec.submodule_search_locations[0]) / "assets"


def _place_objects(task: str, seed: int) -> Float[np.ndarray, "_q"]:
    """Positions and orientations of the objects; the same draws as gym-aloha's."""
    random = np.random.RandomState(seed)
    upright = (1, 0, 0, 0)
    if task == "transfer_cube":
        return np.array([*random.uniform((0, 0.4, 0.05), (0.2, 0.6, 0.05)), *upright])
    peg = random.uniform((0.1, 0.4, 0.05), (0.2, 0.6, 0.05))
    socket = random.uniform((-0.2, 0.4, 0.05), (-0.1, 0.6, 0.05))
    return np.array([*peg, *upright, *socket, *upright])


def _actuator_targets(arm: Float[np.ndarray, "7"]) -> Float[np.ndarray, "8"]:
    """Seven targets of one arm -> its eight actuators: the two fingers mirror each other."""
    finger_m = FINGER_CLOSED_M + float(arm[6]) * (FINGER_OPEN_M - FINGER_CLOSED_M)
    return np.array([*arm[:6], finger_m, -finger_m], dtype=np.float64)


def _opening(arm: Float[np.ndarray, "8"]) -> float:
    """The gripper's opening from an arm's joint positions; one finger stands for both, as in the original."""
    return float((arm[6] - FINGER_CLOSED_M) / (FINGER_OPEN_M - FINGER_CLOSED_M))
