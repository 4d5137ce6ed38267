"""A scripted expert for LIBERO: what its tasks ask for, as motions that follow each other.

It reads the scene where a motion begins and goes through the motion's stages. Drawers and knobs have motions of their
own; everything else is picked up and put somewhere.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from video2act.envs import libero
from video2act.envs.choices import check_choice
from video2act.envs.experts.libero_grasp import rotation_vector
from video2act.envs.experts.libero_motions import OPEN, Stage, carry, pull, turn_on
from video2act.envs.experts.libero_scene import Scene
from video2act.envs.libero import Libero

UNSCRIPTED = ("libero_goal/5",)
"""pushes a plate, whose rim is too low to hold"""
SUITES = ("libero_spatial", "libero_object", "libero_object_swap", "libero_goal")
TASKS = tuple(task for task in libero.TASKS if task.partition("/")[0] in SUITES and task not in UNSCRIPTED)
"""those that it can do; docs/environments.md has their rates"""
BEFORE = {
    "libero_goal/3": (
        ("on", "akita_black_bowl_1", "main_table_stove_front_region"),  # the open drawer would stand over it
        ("open", "wooden_cabinet_1_top_region"),
    )
}
"""what has to be done before a task's goal"""
MOTIONS = {"on": carry, "in": carry, "open": pull, "turnon": turn_on}

METRES_PER_ACTION, RADIANS_PER_ACTION = 0.05, 0.5
MAX_TURN = 0.7
TURNED = 0.1
"""rad, near enough"""


class LiberoExpert:
    """The demonstrator of a `Libero` environment."""

    def __init__(self, environment: Libero) -> None:
        task = environment.spec.name.removeprefix("libero:")
        check_choice("LIBERO task with a scripted expert", task, choices=TASKS)
        self._scene, self._before = Scene(environment), BEFORE.get(task, ())
        self._actions: Iterator[Float[np.ndarray, "7"]] = iter(())

    def reset(self) -> None:
        self._actions = self._act()

    def act(self) -> Float[np.ndarray, "7"]:
        return next(self._actions, np.array([0, 0, 0, 0, 0, 0, OPEN], dtype=np.float32))

    def _act(self) -> Iterator[Float[np.ndarray, "7"]]:
        for predicate, *names in (*self._before, self._scene.goal):
            yield from self._follow(MOTIONS[predicate](self._scene, *names))

    def _follow(self, stages: Iterable[Stage]) -> Iterator[Float[np.ndarray, "7"]]:
        for stage in stages:
            for _ in range(stage.max_steps):
                hand = self._scene.hand()
                error = np.zeros(3) if stage.position is None else stage.position - hand.position
                turn = rotation_vector(stage.rotation @ hand.rotation.T)
                if np.linalg.norm(error) < stage.tolerance_m and np.linalg.norm(turn) < TURNED:
                    break
                move = np.clip(error / METRES_PER_ACTION, -1, 1)
                turned = np.clip(turn / RADIANS_PER_ACTION, -MAX_TURN, MAX_TURN)
                yield np.array([*move, *turned, stage.gripper], dtype=np.float32)
