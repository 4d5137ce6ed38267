"""A parked joint must not ruin plans, and a state that training never saw must not either: whole policies."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainings import train
from video2act.config import PolicyConfig, TrainConfig
from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.interfaces import ChecksState
from video2act.normalize import Mode, Normalizer
from video2act.policy import Video2Act
from video2act.programs.info.dataset import describe_dataset
from video2act.runtime.runner import Runner
from video2act.statistics import Statistics
from video2act.types import Observation, VideoCondition

PARKED = {
    "state": Statistics(
        (0.2, 0.3, 1.0), (0.3, 1e-5, 0.2), (-1.0, 0.29997, 0.2), (1.4, 0.30003, 1.8), names=("elbow", "wrist", "lift")
    ),
    "action": Statistics((0.0, 0.3), (0.3, 1e-5), (-1.0, 0.29997), (1.0, 0.30003), names=("elbow", "wrist")),
}


@pytest.fixture(params=["mean_std", "min_max"])
def policy(request: pytest.FixtureRequest, small_config: PolicyConfig) -> Video2Act:
    torch.manual_seed(0)
    config = replace(small_config, normalize_state=request.param, normalize_action=request.param)
    return Video2Act(config, PARKED).eval()


def observation(*state: float) -> Observation:
    images = {camera: np.zeros((16, 16, 3), np.uint8) for camera in ("front", "wrist")}
    return Observation(images, np.array(state, np.float32), "push", 0.0)


def plan(policy: Video2Act, *state: float) -> np.ndarray:
    policy.seed(0)
    return policy.act(observation(*state), VideoCondition(policy._no_tokens(1), 0.0, 0)).actions


def test_a_trembling_joint_moves_the_plan_less_than_a_joint_that_moves(policy: Video2Act):
    still = plan(policy, 0.2, 0.3, 1.0)
    trembling = np.abs(plan(policy, 0.2, 0.3001, 1.0) - still).max()
    moving = np.abs(plan(policy, 0.25, 0.3, 1.0) - still).max()
    assert trembling < moving


def test_its_action_stays_where_it_is_parked(policy: Video2Act):
    assert np.abs(plan(policy, 0.2, 0.3, 1.0)[:, 1] - 0.3).max() < 0.02


def test_it_is_named_with_its_spread_in_state_and_action(policy: Video2Act):
    lines = policy.scale_warnings()
    assert [line.partition(" hardly")[0] for line in lines] == ["state: wrist", "action: wrist"]
    assert all("e-05 around 0.3" in line for line in lines)


def test_a_state_that_training_never_saw_is_clipped(policy: Video2Act):
    assert isinstance(policy, ChecksState)
    assert policy.state_problem(observation(0.2, 0.3, 1.0)) == ""
    assert np.array_equal(plan(policy, 1e6, 0.3, 1.0), plan(policy, 1e9, 0.3, 1.0))
    assert policy.state_problem(observation(50.0, 0.3, 1.0)) == "elbow = 50 (trained on -1 to 1.4)"


def test_the_runtime_reports_it(policy: Video2Act):
    with Runner(policy) as runner:
        runner.reset()
        runner.step(observation(0.2, 0.3, 1.0))
        assert runner.incidents.counts == {}
        runner.reset()
        runner.step(observation(0.2, 7.0, 1.0))
        assert runner.incidents.counts == {"state_clipped": 1}
        assert "wrist = 7 (trained on 0.3 to 0.3); clipped" in runner.incidents[0].text


@pytest.mark.usefixtures("fresh_accelerator", "small_preset")
def test_training_and_info_name_the_dimension_that_is_parked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_preset: Callable
):
    rng = np.random.default_rng(0)
    names = {"state_names": ("elbow", "wrist", "lift"), "action_names": ("elbow", "wrist")}
    root = tmp_path / "set"
    with DatasetWriter.create(root, fps=20.0, robot="arm", cameras=("front",), image_size=16, **names) as writer:
        for seed in range(2):
            state = rng.normal(size=(10, 3)).astype(np.float32) * np.array([0.3, 1e-5, 0.2], np.float32)
            state[:, 1] += 0.3
            frames = np.zeros((10, 16, 16, 3), np.uint8)
            writer.add_episode(Episode({"front": frames}, state, state[:, :2], "push", seed=seed))
    assert LeRobotDataset(root).stats["state"].names == ("elbow", "wrist", "lift")
    expected = ("state: wrist hardly moves: it varies by ", "action: wrist hardly moves: it varies by ")
    assert all(f"note: {line}" in describe_dataset(root) for line in expected)
    config = TrainConfig(num_steps=1, batch_size=2)
    train((root,), tmp_path / "run", config=config, preset="small", changes={"system2": None})
    said = capsys.readouterr().out
    assert all(f"note: {line}" in said for line in expected)


@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_a_small_unit_is_no_parked_joint(mode: Mode):
    """A range of 1e-7 was taken for one that never moves: nothing of it was learned, and nobody said so."""
    alone = Statistics((0.0, 0.0), (1e-7, 2e-7), (-2e-7, -4e-7), (2e-7, 4e-7))
    assert Normalizer(alone, mode).scale.max() < 1e-6
    beside = Normalizer(Statistics((0.0, 0.0), (0.5, 1e-7), (-1.0, -2e-7), (1.0, 2e-7), names=("lift", "drift")), mode)
    assert [line.partition(" hardly")[0] for line in beside.parked()] == ["drift"]
    still = Statistics((1e6, 0.3), (1e-10, 5e-17), (1e6, 0.3), (1e6, 0.3))
    assert Normalizer(still, mode).scale.tolist() == [1.0, 1.0]
    assert Normalizer(still, mode).parked() == []
