"""A robot whose policy runs on another machine: what it sends and receives, and what it does without an answer.

video2act serve RUN                                  # there
python examples/04_remote_robot.py ws://there:8000   # here; needs no GPU
"""

import argparse
import time
from contextlib import ExitStack, closing

import numpy as np

from video2act import Runner, Video2Act
from video2act.presets import DataSpec, tiny
from video2act.programs.serve import serving
from video2act.serving.client import RemotePolicy
from video2act.serving.contract import Contract
from video2act.statistics import Statistics
from video2act.types import Observation


def random_policy() -> Video2Act:
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    return Video2Act(tiny(DataSpec(4, 4, 20.0, ("head", "wrist"))), {"state": unit, "action": unit}).eval()


def look(contract: Contract) -> Observation:
    """Read your cameras and joints here; the contract has their names, and the sizes of the training data."""
    sizes = {camera: contract.frame_sizes.get(camera, contract.image_size) for camera in contract.cameras}
    images = {camera: np.zeros((*size, 3), np.uint8) for camera, size in sizes.items()}
    instruction = (*contract.instructions, "push the puck")[0]
    return Observation(images, np.zeros(contract.state_dim, np.float32), instruction, time.monotonic())


def drive(policy: RemotePolicy, control_steps: int = 24) -> None:
    # without an answer the robot holds: zeros of its relative actions, its last other targets. system1="thread" would
    # execute the rest of a plan while the next is on its way
    with Runner(policy) as runner:
        runner.reset()
        for step in range(control_steps):
            decision = runner.decide(look(policy.contract))  # every frame is sent: System 2 needs those between plans
            if decision.is_new_plan:
                print(f"step {step:2}: a plan of {len(decision.plan.chunk.actions)} actions")
            for incident in decision.incidents:
                print(f"step {step:2}: {incident.kind}: {incident.text}")
            send(decision.action)
            time.sleep(policy.contract.period_s)


def send(action: np.ndarray) -> None:
    """Your motors here."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address", nargs="?", help="of a server; default: one that starts here, with random weights")
    with ExitStack() as ending:
        address = parser.parse_args().address or ending.enter_context(serving(random_policy())).address
        drive(ending.enter_context(closing(RemotePolicy(address))))
