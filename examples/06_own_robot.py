"""Your own robot: the whole program that runs on it, with cameras, motors and a policy whose System 2 works in a
thread.

    python examples/06_own_robot.py [run folder]

Write the class `Robot` for your hardware. Without a run folder the weights are random.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from video2act import Runner, Video2Act
from video2act.presets import DataSpec, tiny
from video2act.runtime.control_loop import Pace
from video2act.statistics import Statistics
from video2act.types import Observation


class Robot:
    """Stands for the real one: read your cameras and joints here, and send the joint targets."""

    def observations(self, policy: Video2Act, num_steps: int) -> Iterator[Observation]:
        pace = Pace(policy.config.fps)
        for _ in range(num_steps):
            images = {camera: np.zeros((96, 96, 3), np.uint8) for camera in policy.config.all_cameras}
            state = np.zeros(policy.config.state_dim, np.float32)
            yield Observation(images, state, "push the puck", time=time.monotonic())
            pace.wait()

    def send(self, action: np.ndarray) -> None: ...


def drive(policy: Video2Act, robot: Robot) -> None:
    oldest_s = 2 * policy.config.refresh_every / policy.config.fps
    with Runner(policy, system2="thread", max_staleness_s=oldest_s, limits="data+10%") as runner:
        runner.reset()
        for observation in robot.observations(policy, num_steps=40):
            robot.send(runner.step(observation))
        print(runner.rates)
        print(*(incident.text for incident in runner.incidents), sep="\n")


def random_policy() -> Video2Act:
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    return Video2Act(tiny(DataSpec(4, 4, 20.0, ("head", "wrist"))), {"state": unit, "action": unit}).eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", help="run folder; default: random weights")
    run = parser.parse_args().run
    drive(Video2Act.from_pretrained(run) if run else random_policy(), Robot())
