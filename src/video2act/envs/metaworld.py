"""MetaWorld: a Sawyer arm on a table, 50 tasks, goals and objects placed anew by every seed.

A policy gets camera images and the gripper's position and opening, not the poses of objects or goal. An action moves
the gripper by up to 1 cm per axis and sets how hard the fingers close. An episode ends at the first success, because in
several tasks success is a moment (a button springs back). The simulator has five traps, marked (a) to (e) below; each
has a test of its name.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.envs.choices import check_choice
from video2act.envs.metaworld_tasks import INSTRUCTIONS
from video2act.envs.simulation import SimulatedTask, import_simulator
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

DEFAULT_CAMERAS = ("corner4", "gripperPOV")
"""the one third-person view that is close and rarely hides anything, and the view from the wrist"""

DEFAULT_MAX_STEPS = 200

STATE_NAMES = ("gripper_x", "gripper_y", "gripper_z", "gripper_opening")
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "gripper_effort")

# trap (d): these cameras are mounted on their head; topview, behindGripper and gripperPOV are upright
UPSIDE_DOWN_CAMERAS = frozenset({"corner", "corner2", "corner3", "corner4"})


def check_version(cameras: tuple[str, ...], known: list[str]) -> None:
    """Raise ValueError where the simulator is too old for the default view: LeRobot 0.6 asks for metaworld 3.0.0."""
    if DEFAULT_CAMERAS[0] in cameras and DEFAULT_CAMERAS[0] not in known:
        raise ValueError(
            f"this metaworld has no camera {DEFAULT_CAMERAS[0]}, which 3.1 brought: pip install 'metaworld>=3.1', or "
            f"choose others of {', '.join(known)}"
        )


class MetaWorld(SimulatedTask):
    """One MetaWorld task as an `Environment`."""

    def __init__(
        self,
        task: str,
        cameras: tuple[str, ...] = DEFAULT_CAMERAS,
        *,
        image_size: int | tuple[int, int] = 128,
        max_steps: int = DEFAULT_MAX_STEPS,
    ) -> None:
        """`cameras` may be empty: then nothing is rendered, for a policy that sees nothing or to rate an expert."""
        check_choice("MetaWorld task", task, choices=INSTRUCTIONS)
        self._simulator = make_simulator(task)
        model = self._simulator.model
        check_version(cameras, [model.camera(index).name for index in range(model.ncam)])
        limit = self._simulator.max_path_length
        if not 1 <= max_steps <= limit:
            raise ValueError(
                f"metaworld:{task}: the simulator ends an episode after {limit} steps; max_steps={max_steps} is not in "
                f"1..{limit}"
            )
        spec = EnvironmentSpec(
            name=f"metaworld:{task}",
            robot="sawyer",
            instruction=INSTRUCTIONS[task],
            cameras=cameras,
            image_size=image_size,
            state_names=STATE_NAMES,
            action_names=ACTION_NAMES,
            fps=1 / self._simulator.dt,  # frame_skip 5 x 2.5 ms = 80 Hz
            max_steps=max_steps,
            relative_actions=ACTION_NAMES[:3],
        )
        self.privileged: Float[np.ndarray, "39"] = np.zeros(39)
        """the simulator's own observation, with the poses of objects and goal; for experts, never for a policy"""
        super().__init__(spec, self._simulator.model, upside_down=UPSIDE_DOWN_CAMERAS)

    def reset(self, seed: int) -> Observation:
        # trap (b): reset(seed=...) is ignored; only seed() reaches the generator that places goal and objects
        self._simulator.seed(seed)
        self._simulator.reset()
        self._refresh_scene()
        self._begin(seed)
        return self._observe()

    def step(self, action: Float[np.ndarray, "_a"]) -> Step:
        self._episode.check(action)
        clipped = np.clip(action, -1, 1).astype(np.float32)  # as the simulator's action space documents
        self.privileged, _, _, is_truncated, info = self._simulator.step(clipped)
        success = bool(info["success"])
        done = self._episode.advance(success or is_truncated)
        return Step(self._observe(), done=done, success=success)

    def close(self) -> None:
        super().close()
        self._simulator.close()

    def _refresh_scene(self) -> None:
        """Bring what is seen after a reset in line with what will be simulated."""
        mujoco, simulator = import_simulator("mujoco"), self._simulator
        # trap (e): a reset moves drawers, windows, pegs, ... in the model but not their computed poses, which the first
        # frame shows: up to 20 cm off. Kinematics alone: mj_forward would also disturb the solver's warm start.
        mujoco.mj_kinematics(simulator.model, simulator.data)
        mujoco.mj_camlight(simulator.model, simulator.data)
        # trap (c): a reset leaves the goal's marker at its place in the XML, so the first frame would be wrong
        for site, position in simulator._target_site_config:
            simulator._set_pos_site(site, position)
        self.privileged = simulator._get_obs()
        self.privileged[18:36] = self.privileged[:18]  # the previous frame, as in its own reset: the same again

    def _observe(self) -> Observation:
        return self._observation(self._simulator.data, self.privileged[:4])


def make_simulator(task: str) -> Any:
    """MetaWorld's own environment of `task`, with goals that vary by seed and that its experts can read."""
    simulator = import_simulator("metaworld.env_dict").ALL_V3_ENVIRONMENTS[task]()
    # trap (a): the flag alone is not enough. step() clips to an observation space that was cached before, with the
    # goal's bounds at zero; experts then aim at the origin.
    simulator._partially_observable = False
    simulator.__dict__.pop("sawyer_observation_space", None)
    # set_task() would freeze one placement; this draws a new one at each reset, with the generator of seed()
    simulator._freeze_rand_vec = False
    simulator.seeded_rand_vec = True
    simulator._set_task_called = True
    return simulator
