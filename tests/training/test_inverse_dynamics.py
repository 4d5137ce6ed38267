"""What the inverse-dynamics model reads: frames on both sides of a moment, and what changes between them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act.config import InverseTrainConfig
from video2act.data import FrameStore, LeRobotDataset
from video2act.training.inverse_dynamics import InverseDynamics, MomentReader, Surroundings

CONFIG = InverseTrainConfig(context=2, stride=3, image_px=32, channels=8)


@pytest.fixture
def reader(recorded: Path) -> MomentReader:
    data = LeRobotDataset(recorded)
    return MomentReader(data, FrameStore(data), config=CONFIG, cameras=("front", "wrist"))


@pytest.fixture
def model(recorded: Path) -> InverseDynamics:
    torch.manual_seed(0)
    return InverseDynamics(CONFIG, ("front", "wrist"), statistics=LeRobotDataset(recorded).stats).eval()


def test_a_moment_has_frames_and_states_before_and_after_it(reader: MomentReader):
    """Beyond an episode its first or last frame is repeated."""
    places = [(0, 6), (1, 0), (2, 11)]
    moments = reader.read(places, device=torch.device("cpu"), has_state=True)
    assert moments.frames["wrist"].shape == (3, 5, 3, 32, 32)
    for row, (episode, frames) in enumerate([(0, [0, 3, 6, 9, 11]), (1, [0, 0, 0, 3, 6]), (2, [5, 8, 11, 11, 11])]):
        state = torch.from_numpy(reader.data.episode(episode).state[frames])
        assert torch.equal(moments.state[row], state)
    assert torch.equal(moments.frames["front"][1, 0], moments.frames["front"][1, 2])
    assert reader.read(places, device=torch.device("cpu"), has_state=False).state.shape == (3, 5, 0)


def test_every_frame_and_the_state_count(reader: MomentReader, model: InverseDynamics):
    moments = reader.read([(0, 6)], device=torch.device("cpu"), has_state=True)
    before = model.predict(moments)
    for camera in ("front", "wrist"):
        for frame in range(5):
            frames = {name: grid.clone() for name, grid in moments.frames.items()}
            frames[camera][0, frame, :, 8:16, 8:16] *= -1
            assert not np.array_equal(model.predict(Surroundings(frames, moments.state)), before)
    assert not np.array_equal(model.predict(Surroundings(moments.frames, moments.state + 1)), before)


def test_labels_stay_within_the_recorded_range(reader: MomentReader, model: InverseDynamics):
    with torch.no_grad():
        last: Any = model.out[-1]
        last.bias.fill_(100.0)
    recorded = np.concatenate([reader.data.episode(i).actions for i in range(3)])
    found = reader.predict(model, 1, device=torch.device("cpu"))
    assert np.allclose(found, np.broadcast_to(recorded.max(axis=0), (12, 2)))
