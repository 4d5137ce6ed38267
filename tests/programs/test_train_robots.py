"""One policy from the demonstrations of several robots, and a run folder for each of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainings import fill_cache, train, train_video, verify_cache
from video2act.config import BackboneConfig, PolicyConfig, TrainConfig, VideoTrainConfig
from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.embodiment import EMBODIMENTS, UNIFIED, UNIFIED_DIM, make_embodiment
from video2act.files.run_folder import load_config
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.statistics import Statistics
from video2act.types import Batch, Observation, Tokens, VideoCondition

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CONFIG = TrainConfig(num_steps=4, batch_size=4, warmup_steps=1, save_every=2, state_noise=0.0, mixed_precision="no")
ROBOTS = ("one_arm_position", "two_arms_7")


@pytest.fixture(autouse=True)
def small_presets(monkeypatch: pytest.MonkeyPatch, small_config: PolicyConfig) -> None:
    def small(spec: DataSpec) -> PolicyConfig:
        return replace(
            small_config,
            state_dim=spec.state_dim,
            action_dim=spec.action_dim,
            fps=spec.fps,
            cameras=spec.cameras,
            system2=None,
        )

    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setitem(
        PRESETS,
        "small_one_arm",
        lambda spec: replace(small(spec), system1=replace(small_config.system1, embodiment="one_arm_position")),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Of a robot of 4 numbers and one of 16, which are large."""
    paths = []
    for k, robot in enumerate(ROBOTS):
        path = tmp_path_factory.mktemp("data") / robot
        names = EMBODIMENTS[robot]
        sizes = {"image_size": 16, "state_names": names, "action_names": names}
        with DatasetWriter.create(path, fps=20.0, robot=robot, cameras=("front", "wrist"), **sizes) as writer:
            for number in range(2):
                rng = np.random.default_rng(number)
                state, action = (rng.normal(100 * k, 1 + k, (9, len(names))).astype(np.float32) for _ in range(2))
                frames = rng.integers(0, 255, (9, 16, 16, 3), np.uint8)
                writer.add_episode(
                    Episode({"front": frames, "wrist": frames}, state, action, f"use {robot}", seed=number)
                )
        paths.append(path)
    return tuple(paths)


def act(policy: Video2Act) -> np.ndarray:
    policy.seed(0)
    images = {camera: np.full((16, 16, 3), 90, np.uint8) for camera in ("front", "wrist")}
    state = np.asarray(policy.statistics["state"].mean, np.float32)
    condition = VideoCondition(Tokens.empty(1, 32, like=torch.zeros(1)), observed_at=0.0, episode=0)
    return policy.act(Observation(images, state, "use it", 0.0), condition).actions


def test_each_robot_gets_a_run_folder_of_its_own_and_all_have_the_same_weights(folders, tmp_path: Path):
    out = tmp_path / "run"
    train(folders, out, config=CONFIG, embodiments=ROBOTS, preset="small")
    policies = {robot: Video2Act.load(out / "robots" / robot) for robot in ROBOTS}
    for robot, folder in zip(ROBOTS, folders, strict=True):
        policy, size = policies[robot], len(EMBODIMENTS[robot])
        assert (policy.config.state_dim, policy.config.action_dim, policy.config.system1.embodiment) == (
            size,
            size,
            robot,
        )
        actions, own = act(policy), LeRobotDataset(folder).stats["action"]
        assert actions.shape == (policy.config.horizon, size)
        if (
            robot == "one_arm_position"
        ):  # whose x, y, z the other lacks: their statistics are its own, and it acts within them
            assert policy.statistics["action"].mean[:3] == pytest.approx(own.mean[:3], rel=1e-12)
            middle, half = (np.array(own.max) + own.min)[:3] / 2, (np.array(own.max) - own.min)[:3] / 2
            assert (np.abs(actions[:, :3] - middle) < 3 * half).all()
    first, second = (policies[robot].system1.state_dict() for robot in ROBOTS)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert json.loads((out / "robots" / ROBOTS[0] / "instructions.json").read_text()) == [
        f"use {robot}" for robot in ROBOTS
    ]


def test_of_one_robot_it_is_what_that_robots_embodiment_is(folders, tmp_path: Path):
    """The same losses, and the same policy, as where the embodiment is the policy's and not the sample's."""
    train(folders[:1], tmp_path / "mixed", config=CONFIG, embodiments=ROBOTS[:1], preset="small")
    train(folders[:1], tmp_path / "single", config=CONFIG, preset="small_one_arm")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("mixed", "single")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    mixed, single = Video2Act.load(tmp_path / "mixed" / "robots" / ROBOTS[0]), Video2Act.load(tmp_path / "single")
    assert mixed.config == replace(single.config, preset="small")
    assert np.allclose(act(mixed), act(single), atol=1e-3)


def test_the_folder_of_all_robots_says_that_one_must_be_chosen(folders, tmp_path: Path):
    out = tmp_path / "run"
    train(folders, out, config=CONFIG, embodiments=ROBOTS, preset="small")
    for load in (load_config, Video2Act.load):
        with pytest.raises(
            FileNotFoundError, match=r"is of several robots; name the folder of one of them: .*robots/one_arm"
        ):
            load(out)


def test_an_embodiment_that_is_named_twice_over_is_refused(folders, tmp_path: Path):
    with pytest.raises(ValueError, match=r"leave system1\.embodiment=one_arm_position out"):
        train(folders, tmp_path / "run", config=CONFIG, embodiments=ROBOTS, preset="small_one_arm")


def test_a_cache_is_filled_for_several_robots_and_read(
    folders, small_config: PolicyConfig, small_backbone: BackboneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def seeing(spec: DataSpec) -> PolicyConfig:
        return replace(
            small_config, state_dim=spec.state_dim, action_dim=spec.action_dim, fps=spec.fps, cameras=spec.cameras
        )

    monkeypatch.setitem(PRESETS, "small_seeing", seeing)
    model, cache = tmp_path / "model", tmp_path / "cache"
    train_video(
        folders[:1],
        model,
        config=VideoTrainConfig(num_steps=1, batch_size=2, num_frames=9, sizes_px=(16,), mixed_precision="no"),
        backbone=small_backbone,
    )
    fill_cache(folders, cache, preset="small_seeing", video_model=model, embodiments=ROBOTS)
    assert "4 episodes as they were written" in verify_cache(cache)
    train(
        folders,
        tmp_path / "run",
        config=CONFIG,
        embodiments=ROBOTS,
        preset="small_seeing",
        video_model=model,
        cache=cache,
    )
    assert Video2Act.load(tmp_path / "run" / "robots" / ROBOTS[1]).config.action_dim == 16


@pytest.fixture
def unified(small_config: PolicyConfig, make_batch: Callable[..., Batch]) -> tuple[Video2Act, Batch]:
    """A policy in the unified vector, and a batch of one sample of each robot."""
    system1 = replace(small_config.system1, embodiment=UNIFIED)
    config = replace(small_config, state_dim=UNIFIED_DIM, action_dim=UNIFIED_DIM, system1=system1, system2=None)
    some = Statistics(*(tuple([value] * UNIFIED_DIM) for value in (1.0, 2.0, -3.0, 5.0)))  # type: ignore[arg-type]
    torch.manual_seed(0)
    policy = Video2Act(config, {"state": some, "action": some})
    batch = make_batch(config)
    robots = [make_embodiment(name, len(EMBODIMENTS[name]), action_dim=len(EMBODIMENTS[name])) for name in ROBOTS]
    return policy, replace(batch, dimension_mask=torch.stack([robot.known(batch.state) for robot in robots]))


def test_what_a_robot_lacks_changes_nothing(unified: tuple[Video2Act, Batch]):
    policy, batch = unified
    assert batch.dimension_mask is not None

    def loss(batch: Batch) -> float:
        return policy(batch, torch.Generator().manual_seed(0)).item()

    lacking = 1 - batch.dimension_mask
    other = replace(batch, state=batch.state + 7 * lacking, actions=batch.actions + 7 * lacking[:, None])
    assert loss(other) == loss(batch)
    assert loss(replace(batch, state=batch.state + 7 * batch.dimension_mask)) != loss(batch)


def test_only_a_policy_of_several_robots_has_one_of_them(make_policy, small_config: PolicyConfig):
    with pytest.raises(ValueError, match=r"of one robot \(its own vector\), not of several"):
        make_policy(small_config).of_robot("one_arm_position")
