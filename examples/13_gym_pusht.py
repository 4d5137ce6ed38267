"""gym-pusht through the ordinary Gymnasium mapping, with LeRobot's names: `pip install 'gym-pusht' 'pymunk<7'`.

PYTHONPATH=examples video2act eval RUN --env 13_gym_pusht:push_t
"""

import gym_pusht  # noqa: F401 - registers the environment
import gymnasium
import numpy as np

from video2act.envs.gym import GymEnvironment, GymMapping
from video2act.runtime.control_loop import run_episode
from video2act.runtime.runner import Runner
from video2act.types import ActionChunk, Observation

MOTORS = ("motor_0", "motor_1")


def push_t() -> GymEnvironment:
    mapping = GymMapping(
        name="pusht",
        robot="pusht",
        instruction="Push the T-shaped block onto the T-shaped target.",
        fps=10.0,
        max_steps=300,
        image_size=96,
        images={"image": "pixels"},  # in a dataset: observation.images.image
        state="agent_pos",
        success="is_success",
        state_names=MOTORS,
        action_names=MOTORS,  # a position to move to, 0 to 512
    )
    return GymEnvironment(gymnasium.make("gym_pusht/PushT-v0", obs_type="pixels_agent_pos"), mapping)


class TowardsTheTarget:
    def reset(self) -> None: ...

    def observe(self, observation: Observation) -> None: ...

    def infer(self, observation: Observation) -> ActionChunk:
        way = np.linspace(observation.state, (256.0, 256.0), 9, dtype=np.float32)[1:]
        return ActionChunk(way, observation.time, period=1 / 10)


if __name__ == "__main__":
    result = run_episode(push_t(), Runner(TowardsTheTarget(), execute_steps=4), seed=0)
    print(f"success: {result.success}, after {result.num_steps} control steps")
