"""A policy in a simulator, one control step at a time: `run_episode` does the same in one call.

    python examples/03_drive_a_policy.py [run folder]

Without a run folder the weights are random, and so is what the arm does.
"""

import argparse

from video2act import Runner, Video2Act
from video2act.envs import make_environment
from video2act.presets import DataSpec, tiny
from video2act.statistics import Statistics

ENVIRONMENT, CONTROL_STEPS = "metaworld:push-v3", 24


def random_policy() -> Video2Act:
    """`tiny` for MetaWorld: 4 numbers of state and of action at 80 Hz, two cameras."""
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    config = tiny(DataSpec(state_dim=4, action_dim=4, fps=80.0, cameras=("corner4", "gripperPOV")))
    return Video2Act(config, {"state": unit, "action": unit}).eval()


def drive(policy: Video2Act) -> None:
    environment = make_environment(ENVIRONMENT, policy.config.all_cameras)
    observation = environment.reset(seed=1000)
    with Runner(policy) as runner:
        runner.reset(environment.spec)
        for step in range(CONTROL_STEPS):
            action = runner.step(observation)
            assert runner.decision is not None
            if runner.decision.is_new_plan:
                num_actions, age_ms = len(runner.decision.plan.chunk.actions), 1000 * (runner.staleness_s or 0)
                print(f"step {step:2}: a plan of {num_actions} actions, on video that is {age_ms:.0f} ms old")
            answer = environment.step(action)
            observation = answer.observation
            if answer.done:
                break
    environment.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", help="run folder; default: random weights")
    run = parser.parse_args().run
    drive(Video2Act.load(run) if run else random_policy())
