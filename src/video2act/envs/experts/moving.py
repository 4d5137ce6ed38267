"""Scripted experts for the suite `moving`: they lead what moves, and remember what is hidden.

`is_handicapped=True` takes exactly that away. Such an expert is the same controller without velocity (or without
memory), at the setting that serves it best. How far it falls short shows that the task needs motion, or memory.
"""

import numpy as np
from jaxtyping import Float

from video2act.envs.experts.metaworld import scripted_action
from video2act.envs.moving import BALL_RADIUS_M, TASKS, Moving
from video2act.envs.simulation import import_simulator

ARM_SPEED_M_S = 0.75
"""of the gripper under full action"""
STARTS_AFTER_S = 0.12
"""what the arm loses while it accelerates"""
STRIKE_DISTANCE_M = 0.22
"""without velocity: the ball's distance at which the strike begins; best of 0.16, 0.22, 0.28"""
GAIN = 4
"""of MetaWorld's push policy, whose own is too soft for a goal that moves"""
MIDDLE = (0.0, 0.84)
"""without memory: the middle of the goals of `hidden`"""


class MovingExpert:
    """The demonstrator of a `Moving` environment."""

    def __init__(self, environment: Moving, *, is_handicapped: bool = False) -> None:
        self._environment, self._is_handicapped = environment, is_handicapped
        self._policy_class = import_simulator("metaworld.policies").ENV_POLICY_MAP["push-v3"]
        self.reset()

    def reset(self) -> None:
        self._policy = self._policy_class()
        self._seen: list[Float[np.ndarray, "2"]] = []
        self._strikes = False

    def act(self) -> Float[np.ndarray, "4"]:
        environment = self._environment
        if environment.task == "intercept":
            action = self._strike(environment.object)
        else:
            action = self._push(environment.privileged.copy())
        return np.clip(action, -1, 1).astype(np.float32)

    def _velocity(self, position: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
        """From the last two looks, m/s; zero at the first look and for an expert without velocity."""
        self._seen = [*self._seen[-1:], position]
        if self._is_handicapped or len(self._seen) < 2:
            return np.zeros(2)
        return (self._seen[1] - self._seen[0]) * self._environment.spec.fps

    def _strike(self, ball: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4"]:
        """Wait behind the lane; go forward when the ball will arrive as soon as the gripper does."""
        hand, speed = self._environment.privileged[:3], abs(self._velocity(ball[:2])[0])
        takes_s = STARTS_AFTER_S + (ball[1] - BALL_RADIUS_M - hand[1]) / ARM_SPEED_M_S
        distance = abs(ball[0] - hand[0])
        self._strikes |= bool(distance < (STRIKE_DISTANCE_M if self._is_handicapped else speed * takes_s))
        target = (0.0, 0.9 if self._strikes else hand[1], TASKS["intercept"].hand[2])
        return np.array([*(25 * (target - hand)), 1.0])

    def _push(self, privileged: Float[np.ndarray, "39"]) -> Float[np.ndarray, "4"]:
        """MetaWorld's push policy, with a goal of ours."""
        hand, puck, goal = privileged[:3], privileged[4:7], self._environment.goal[:2]
        if self._environment.task == "push":
            goal = self._meet(goal, self._velocity(goal), puck=puck[:2])
        elif self._is_handicapped and not self._environment.is_goal_shown:
            goal = np.array(MIDDLE)
        is_held = np.linalg.norm(hand[:2] - puck[:2]) < 0.03 and abs(hand[2] - puck[2]) < 0.045
        privileged[36:38] = goal + (hand[:2] - puck[:2] if is_held else 0)
        action = scripted_action(self._policy, privileged)
        action[:3] *= GAIN if self._environment.task == "push" else 1
        return action

    def _meet(
        self, goal: Float[np.ndarray, "2"], velocity: Float[np.ndarray, "2"], *, puck: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "2"]:
        """The first place where the puck can be as early as the goal."""
        reach_m_s = ARM_SPEED_M_S * TASKS["push"].arm_speed
        for seconds in np.arange(0, 2, 0.02):
            ahead = goal + velocity * seconds
            if np.linalg.norm(ahead - puck) <= reach_m_s * max(seconds - STARTS_AFTER_S, 0):
                return ahead
        return goal + velocity * STARTS_AFTER_S
