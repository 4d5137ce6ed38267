"""Your own demonstrations: numpy arrays -> a LeRobotDataset v3.0 folder, which `video2act train` and LeRobot read.

python examples/02_own_data.py [folder]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from video2act.data import DatasetWriter, Episode
from video2act.programs.info.dataset import describe_dataset


def demonstration(seed: int, length: int = 20) -> Episode:
    """A square that is pushed to the right edge. `state[k]` and frame k were observed before `action[k]`."""
    generator = np.random.default_rng(seed)
    x = np.linspace(generator.integers(8, 24), 56, length)
    frames = np.full((length, 64, 64, 3), 255, np.uint8)
    for frame, centre in zip(frames, x.astype(int), strict=True):
        frame[28:36, centre - 4 : centre + 4] = (40, 90, 200)
    state = np.stack([x, np.full(length, 32.0)], axis=1).astype(np.float32)
    action = np.diff(state, axis=0, append=state[-1:])  # no motion after the last frame
    return Episode({"front": frames}, state, action, instruction="push the square to the right", seed=seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", help="the dataset to write; default: a temporary one")
    folder = Path(parser.parse_args().folder or Path(tempfile.mkdtemp()) / "squares")
    with DatasetWriter.create(
        folder,
        fps=10.0,
        robot="square",
        cameras=("front",),
        image_size=64,
        state_names=("x", "y"),
        action_names=("dx", "dy"),
        relative_actions=("dx", "dy"),  # changes, not targets: a robot that holds gets zeros of them
    ) as writer:
        for seed in range(3):
            writer.add_episode(demonstration(seed))
    print(describe_dataset(folder))
