"""The two systems by hand, without the runtime: what `InlineSlowLoop`, `DualPolicy` and `run_episode` do in one loop.

    python examples/03_drive_a_policy.py [run folder]

Without a run folder the weights are random, and so is what the arm does.
"""

import sys

from video2act import Video2Act
from video2act.clips import FrameHistory
from video2act.envs import make_environment
from video2act.normalize import Statistics
from video2act.presets import DataSpec, tiny
from video2act.types import VideoCondition

ENVIRONMENT, CONTROL_STEPS = "metaworld:push-v3", 24


def random_policy() -> Video2Act:
    """`tiny` for MetaWorld: 4 numbers of state and of action at 80 Hz, two cameras."""
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    config = tiny(DataSpec(state_dim=4, action_dim=4, fps=80.0, cameras=("corner4", "gripperPOV")))
    return Video2Act(config, {"state": unit, "action": unit}).eval()


def drive(policy: Video2Act) -> None:
    config = policy.config
    environment = make_environment(ENVIRONMENT, config.all_cameras)
    observation = environment.reset(seed=1000)
    history = FrameHistory(config.system2.streams if config.system2 else ())
    condition = chunk = None
    for step in range(CONTROL_STEPS):
        history.append(observation)  # every frame: a clip needs those between two refreshes
        if condition is None or step % config.refresh_every == 0:
            tokens = policy.perceive(history.clips(config.fps), [observation.instruction])  # slow
            condition = VideoCondition(tokens, observed_at=observation.time, episode=0)
        if chunk is None or step % config.execute_steps == 0:
            chunk = policy.act(observation, condition)  # fast
            staleness_ms = 1000 * (observation.time - condition.observed_at)
            print(f"step {step:2}: a plan of {len(chunk.actions)} actions, on video that is {staleness_ms:.0f} ms old")
        answer = environment.step(chunk.actions[step % config.execute_steps])
        observation = answer.observation
        if answer.done:
            break
    environment.close()


if __name__ == "__main__":
    drive(Video2Act.load(sys.argv[1]) if len(sys.argv) > 1 else random_policy())
