"""Tasks of our own in which motion must be perceived: a Sawyer arm in the scene of MetaWorld's push.

* `moving:intercept`: a ball crosses the table at a constant speed that the seed draws (slow, medium or fast). The arm
  waits behind the lane and has to knock the ball off it, so the moment depends on the ball's speed. A ball that meets a
  resting gripper is lost.
* `moving:push`: the goal of a push drifts across the table at a drawn velocity, about as fast as the arm or faster,
  because the arm runs at 40 % of its usual speed. It often begins outside of the picture. The puck reaches the goal
  only where the arm aims ahead.
* `moving:hidden`: the goal is shown for 0.3 s, then hidden. This one needs memory, not motion.
* `moving:intercept_velocity`, `moving:push_velocity`: the same scenes, with the true velocity in the state. A policy
  that is trained there shows what perceiving the motion could bring at most.

One picture does not contain the answer, and neither does the state: it holds the gripper's own position and opening.
(In `push` the place where the goal begins tells something of its speed: a fast one must begin far away to be reached.)
Experts without velocity, or without memory, fall short (a test measures it). The physics, the arm and the action are
MetaWorld's; the tasks are not, so their rates compare with no other work.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from video2act.envs.choices import check_choice
from video2act.envs.metaworld import ACTION_NAMES, STATE_NAMES, UPSIDE_DOWN_CAMERAS, make_simulator
from video2act.envs.simulation import SimulatedTask, import_simulator
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

DEFAULT_CAMERAS = ("corner4", "topview")

BALL_RADIUS_M = 0.05
"""ten pixels across in the top view at 128 px"""
LANE_Y_M, BALL_START_X_M = (0.74, 0.80), 0.55
BALL_SPEED_M_S = ((0.25, 0.40), (0.50, 0.65), (0.75, 0.90))
"""slow, medium and fast"""
KNOCKED_OFF_M = 0.1
"""how far beyond the lane a ball that was struck has to be"""
SETTLE_STEPS = 120
"""in which the arm of the intercept task closes its gripper and comes to rest before an episode begins"""
STRIKE_SPEED_M_S = 0.3
"""slower than this the gripper does not strike, it only stands in the way"""

DRIFT_SPEED_M_S, DRIFT_ANGLE_RAD, PASSES_AFTER_S = (0.3, 0.5), 0.2, (1.3, 1.8)
GOAL_RADIUS_M = 0.05
"""as in MetaWorld's push"""

SHOWN_S = 0.3

VELOCITY_NAMES = ("velocity_x", "velocity_y")

_HAND = ("hand", "rightclaw", "leftclaw", "rightpad", "leftpad")


@dataclass(frozen=True)
class MovingTask:
    """What differs between the tasks."""

    instruction: str
    max_steps: int
    hand: tuple[float, float, float]
    """where the gripper starts, in metres"""
    arm_speed: float = 1.0
    """share of MetaWorld's 1 cm a step"""


TASKS = {
    "intercept": MovingTask("knock the rolling ball off its lane", 200, (0.0, 0.45, 0.08)),
    "push": MovingTask("push the puck to the moving goal", 260, (0.0, 0.6, 0.2), arm_speed=0.4),
    "hidden": MovingTask("push the puck to where the goal was shown", 200, (0.0, 0.6, 0.2)),
}
WITH_VELOCITY = "_velocity"
TASKS |= {f"{name}{WITH_VELOCITY}": TASKS[name] for name in ("intercept", "push")}


class Moving(SimulatedTask):
    """One task of the suite as an `Environment`, 80 Hz."""

    def __init__(
        self,
        task: str,
        cameras: tuple[str, ...] = DEFAULT_CAMERAS,
        *,
        image_size: int | tuple[int, int] = 128,
        max_steps: int | None = None,
    ) -> None:
        check_choice("moving task", task, choices=TASKS)
        self.task, chosen = task.removesuffix(WITH_VELOCITY), TASKS[task]
        self._is_velocity_shown = task != self.task
        limit = chosen.max_steps
        max_steps = limit if max_steps is None else max_steps
        if not 1 <= max_steps <= limit:
            raise ValueError(f"moving:{task}: max_steps={max_steps} is not in 1..{limit}")
        self._simulator = make_simulator("push-v3")
        self._simulator.hand_init_pos = np.array(chosen.hand)
        self._mujoco = import_simulator("mujoco")
        spec = EnvironmentSpec(
            name=f"moving:{task}",
            robot="sawyer",
            instruction=chosen.instruction,
            cameras=cameras,
            image_size=image_size,
            state_names=(*STATE_NAMES, *VELOCITY_NAMES[: 2 * self._is_velocity_shown]),
            action_names=ACTION_NAMES,
            fps=1 / self._simulator.dt,
            max_steps=max_steps,
            relative_actions=ACTION_NAMES[:3],
        )
        model = self._simulator.model
        self._object, self._geom = model.joint("objjoint"), model.geom("objGeom")
        self._hand = {i for i in range(model.ngeom) if model.body(model.geom_bodyid[i]).name in _HAND}
        if self.task == "intercept":
            self._make_ball(model)
        super().__init__(spec, model, upside_down=UPSIDE_DOWN_CAMERAS)
        self.velocity: Float[np.ndarray, "2"] = np.zeros(2)
        """of the ball or the goal, m/s; like `privileged`, `object` and `goal` for tests and experts. A policy sees it
        only in the tasks that are named after it"""
        self.is_struck = False
        self.privileged: Float[np.ndarray, "39"] = np.zeros(39)
        """MetaWorld's own observation"""

    @property
    def object(self) -> Float[np.ndarray, "3"]:
        """Position of the ball or the puck, in metres."""
        start = self._object.qposadr[0]
        return self._simulator.data.qpos[start : start + 3].copy()

    @property
    def goal(self) -> Float[np.ndarray, "3"]:
        return self._simulator._target_pos.copy()

    @property
    def is_goal_shown(self) -> bool:
        return self.task == "push" or (self.task == "hidden" and self._episode.time < SHOWN_S)

    def reset(self, seed: int) -> Observation:
        simulator, random = self._simulator, np.random.default_rng(seed)
        simulator.seed(seed)
        simulator.reset()
        self.is_struck, self.velocity = False, np.zeros(2)
        self._begin(seed)
        if self.task == "intercept":
            side, lane = random.choice([-1, 1]), random.uniform(*LANE_Y_M)
            self.velocity = np.array([side * random.uniform(*random.choice(BALL_SPEED_M_S)), 0.0])
            self._settle(-side * BALL_START_X_M, lane)
        elif self.task == "push":
            side, angle = random.choice([-1, 1]), random.uniform(-DRIFT_ANGLE_RAD, DRIFT_ANGLE_RAD)
            self.velocity = random.uniform(*DRIFT_SPEED_M_S) * np.array([side * np.cos(angle), np.sin(angle)])
            passes = np.array([0.0, random.uniform(0.80, 0.86)])
            self._place_goal(passes - self.velocity * random.uniform(*PASSES_AFTER_S))
        else:
            self._place_goal(random.uniform((-0.2, 0.78), (0.2, 0.9)))
        self._show()
        self._mujoco.mj_forward(simulator.model, simulator.data)
        self.privileged = simulator._get_obs()
        return self._observation(simulator.data, self._state)

    def step(self, action: Float[np.ndarray, "_a"]) -> Step:
        self._episode.check(action)
        simulator, before = self._simulator, self.privileged[:3].copy()
        if self.task == "intercept" and not self.is_struck:
            start, speed = self._object.dofadr[0], self.velocity[0]
            simulator.data.qvel[start : start + 6] = speed, 0, 0, 0, speed / BALL_RADIUS_M, 0
        if self.task == "push":
            self._place_goal(self.goal[:2] + self.velocity / self.spec.fps)
        clipped = np.clip(action, -1, 1).astype(np.float32)
        clipped[:3] *= TASKS[self.task].arm_speed
        self.privileged = simulator.step(clipped)[0]
        success, is_lost = self._rate(forward_m_s=(self.privileged[1] - before[1]) * self.spec.fps)
        done = self._episode.advance(success or is_lost)
        self._show()
        return Step(self._observation(simulator.data, self._state), done=done, success=success)

    def close(self) -> None:
        super().close()
        self._simulator.close()

    @property
    def _state(self) -> Float[np.ndarray, "s"]:
        return np.concatenate([self.privileged[:4], self.velocity[: 2 * self._is_velocity_shown]])

    def _rate(self, *, forward_m_s: float) -> tuple[bool, bool]:
        """Whether the task is solved, and whether it no longer can be."""
        if self.task != "intercept":
            return bool(np.linalg.norm(self.object[:2] - self.goal[:2]) <= GOAL_RADIUS_M), False
        is_blocked = False
        if not self.is_struck and self._is_touched():
            self.is_struck = True
            is_blocked = forward_m_s < STRIKE_SPEED_M_S
        x, y, _ = self.object
        is_gone = abs(x) > BALL_START_X_M and x * self.velocity[0] > 0
        return bool(self.is_struck and not is_blocked and y > LANE_Y_M[1] + KNOCKED_OFF_M), bool(is_blocked or is_gone)

    def _is_touched(self) -> bool:
        data = self._simulator.data
        pairs = data.contact.geom[: data.ncon]
        return any(self._geom.id in pair and self._hand & set(pair) for pair in pairs.tolist())

    def _settle(self, x: float, y: float) -> None:
        """Come to rest, with the ball at its start. A gripper that is still closing would tell the time. With it, the
        ball's place would tell its speed."""
        for _ in range(SETTLE_STEPS):
            self._place_ball(x, y)
            towards = np.array(TASKS["intercept"].hand) - self._simulator._get_obs()[:3]
            self._simulator.step(np.clip([*(25 * towards), 1.0], -1, 1).astype(np.float32))
        self._place_ball(x, y)

    def _place_ball(self, x: float, y: float) -> None:
        data, place, speed = self._simulator.data, self._object.qposadr[0], self._object.dofadr[0]
        data.qpos[place : place + 3] = x, y, BALL_RADIUS_M
        data.qvel[speed : speed + 6] = 0

    def _place_goal(self, position: Float[np.ndarray, "2"]) -> None:
        self._simulator._target_pos = np.array([*position, 0.02])
        # the simulator's own way moves the marker only until the next forward pass
        self._simulator.model.site("goal").pos = self._simulator._target_pos

    def _show(self) -> None:
        """The goal's marker, as of the next picture."""
        self._simulator.model.site("goal").rgba[3] = float(self.is_goal_shown)

    def _make_ball(self, model: Any) -> None:
        """The puck becomes a light ball in a colour that nothing else has."""
        geom, body = self._geom.id, model.body("obj").id
        model.geom_type[geom] = self._mujoco.mjtGeom.mjGEOM_SPHERE
        model.geom_size[geom] = model.geom_rbound[geom] = BALL_RADIUS_M
        model.geom_matid[geom], model.geom_rgba[geom] = -1, (1.0, 0.85, 0.0, 1.0)
        model.body_mass[body] = 0.05
        model.body_inertia[body] = 0.4 * 0.05 * BALL_RADIUS_M**2
