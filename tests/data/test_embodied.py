from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import CAMERAS, FPS, SIZE, numbered_frames

from video2act.config import PolicyConfig
from video2act.data import DatasetError, DatasetWriter, Episode, FrameStore, LeRobotDataset, open_datasets, split
from video2act.data.batches import BatchLoader
from video2act.data.embodied import EmbodiedDataset
from video2act.embodiment import EMBODIMENTS, FIELDS, UNIFIED, UNIFIED_DIM

ROBOTS = ("one_arm_position", "two_arms_7")
SHARED = FIELDS["right_gripper_open"]


def record(root, robot: str, offset: float, fps: float = FPS):
    """Two episodes, of 5 and 6 steps, whose numbers are random around `offset`."""
    names = EMBODIMENTS[robot]
    sizes = {"image_size": SIZE, "state_names": names, "action_names": names}
    with DatasetWriter.create(root, fps=fps, robot=robot, cameras=CAMERAS, **sizes) as writer:
        for number in range(2):
            rng, length = np.random.default_rng(number), 5 + number
            state, action = (rng.normal(offset, 1, (length, len(names))).astype(np.float32) for _ in range(2))
            frames = numbered_frames(0, length)
            writer.add_episode(Episode(dict.fromkeys(CAMERAS, frames), state, action, f"use {robot}"))
    return root


@pytest.fixture
def folders(tmp_path):
    return [record(tmp_path / robot, robot, 10.0 * k) for k, robot in enumerate(ROBOTS)]


def test_every_number_is_at_its_place_and_what_a_robot_lacks_is_known_to_be_nothing(folders):
    mixed = open_datasets(folders, embodiments=ROBOTS)
    assert isinstance(mixed, EmbodiedDataset)
    assert (mixed.state_dim, mixed.action_dim, mixed.lengths) == (UNIFIED_DIM, UNIFIED_DIM, (5, 6, 5, 6))
    for i, (robot, folder, number) in enumerate(
        (r, f, n) for r, f in zip(ROBOTS, folders, strict=True) for n in range(2)
    ):
        own, unified, known = LeRobotDataset(folder).episode(number), mixed.episode(i), mixed.dimension_mask(i)
        places = [FIELDS[name] for name in EMBODIMENTS[robot]]
        assert own.action is not None
        assert unified.action is not None
        assert np.array_equal(unified.state[:, places], own.state)
        assert np.array_equal(unified.action[:, places], own.action)
        assert np.array_equal(np.flatnonzero(known), sorted(places))
        assert not unified.state[:, known == 0].any()


def test_statistics_of_a_place_are_of_the_robots_that_have_it(folders):
    mixed = open_datasets(folders, embodiments=ROBOTS)
    parts = [LeRobotDataset(folder) for folder in folders]
    x = FIELDS["right_eef_pos_x"]
    assert mixed.stats["state"].mean[x] == pytest.approx(parts[0].stats["state"].mean[0], rel=1e-12)
    both = np.concatenate(
        [
            part.episode(i).state[:, EMBODIMENTS[robot].index("right_gripper_open")]
            for robot, part in zip(ROBOTS, parts, strict=True)
            for i in range(2)
        ]
    )
    assert mixed.stats["state"].mean[SHARED] == pytest.approx(float(both.mean(dtype=np.float64)), rel=1e-6)
    assert mixed.stats["state"].max[SHARED] == both.max()
    nobody = FIELDS["base_vel_x"]
    assert (mixed.stats["state"].mean[nobody], mixed.stats["state"].std[nobody]) == (0.0, 0.0)


def test_a_split_keeps_the_unified_vector(folders):
    training, held_out = split(open_datasets(folders, embodiments=ROBOTS), 0.5)
    assert isinstance(training, EmbodiedDataset)
    assert (training.lengths, held_out.lengths, training.action_dim) == ((5, 5), (6, 6), UNIFIED_DIM)
    assert training.stats["state"].max[SHARED] < 20
    assert training.fingerprint.endswith("as one_arm_position two_arms_7")


def test_who_they_are_is_part_of_what_they_are(folders):
    assert open_datasets(folders, embodiments=ROBOTS).fingerprint.endswith("as one_arm_position two_arms_7")


def test_without_their_names_different_robots_are_refused_with_the_way_out(folders):
    with pytest.raises(
        DatasetError, match=r"robot is one_arm_position .* two_arms_7 .* or train with each one's --embodiments"
    ):
        open_datasets(folders)


def test_wrong_names_are_refused(tmp_path, folders):
    with pytest.raises(ValueError, match=r"2 datasets need as many embodiments, one each, got 1: one_arm_position"):
        open_datasets(folders, embodiments=ROBOTS[:1])
    with pytest.raises(ValueError, match=r"'one_arm_7' has 8 numbers .* this robot's state 4"):
        open_datasets(folders, embodiments=("one_arm_7", "two_arms_7"))
    slow = record(tmp_path / "slow", "two_arms_7", 0.0, fps=10.0)
    with pytest.raises(
        DatasetError, match=r"fps is 20\.0 in the first and 10\.0 in the second; .*, train on them apart$"
    ):
        open_datasets([folders[0], slow], embodiments=ROBOTS)


FIELDS_OF_TWO = ("right_joint_0_pos,right_joint_1_pos", "left_joint_0_pos,left_joint_1_pos")


def record_own(folder: Path, robot: str, names: tuple[str, ...] = ("a", "b")) -> Path:
    """Of a robot of two numbers that has no name among `EMBODIMENTS`."""
    sizes = {"image_size": 16, "state_names": names, "action_names": names}
    with DatasetWriter.create(folder, fps=20.0, robot=robot, cameras=("front",), **sizes) as writer:
        state = np.ones((4, 2), np.float32)
        writer.add_episode(Episode({"front": np.zeros((4, 16, 16, 3), np.uint8)}, state, state, "go", seed=0))
    return folder


def test_two_robots_of_one_name_are_refused_before_one_is_written_over_the_other(tmp_path):
    one, other = (record_own(tmp_path / name, "arm") for name in ("one", "other"))
    with pytest.raises(
        ValueError, match=r"other: two robots are called 'arm', with the fields right_joint_0.* and left_joint_0"
    ):
        open_datasets([one, other], embodiments=FIELDS_OF_TWO)
    same = open_datasets([one, other], embodiments=FIELDS_OF_TWO[:1] * 2)
    assert isinstance(same, EmbodiedDataset)
    assert same.robots == {FIELDS_OF_TWO[0]: "arm"}


def test_an_embodiment_in_another_order_than_its_data_is_refused(tmp_path):
    """Fields that the data name, too, were put at each other's places."""
    own = record_own(tmp_path / "own", "arm", names=("right_joint_1_pos", "right_joint_0_pos"))
    with pytest.raises(ValueError, match=r"own: state\[0\] is right_joint_1_pos, but the embodiment .* list the rob"):
        open_datasets([own], embodiments=FIELDS_OF_TWO[:1])
    assert len(open_datasets([own], embodiments=["right_joint_1_pos,right_joint_0_pos"])) == 1


@pytest.mark.parametrize("robot", ["../../elsewhere", "/tmp/arm", ".", "an arm"])
def test_a_robots_name_that_is_no_folders_is_refused(tmp_path, robot):
    with pytest.raises(ValueError, match=r"calls its robot .* use letters, digits"):
        open_datasets([record_own(tmp_path / "own", robot)], embodiments=FIELDS_OF_TWO[:1])


def test_each_sample_of_a_batch_says_which_dimensions_its_robot_has(folders, small_config: PolicyConfig):
    mixed = open_datasets(folders, embodiments=ROBOTS)
    assert isinstance(mixed, EmbodiedDataset)
    config = replace(
        small_config,
        state_dim=UNIFIED_DIM,
        action_dim=UNIFIED_DIM,
        fps=FPS,
        cameras=(),
        system1=replace(small_config.system1, embodiment=UNIFIED),
        system2=None,
    )
    loader = BatchLoader(mixed, FrameStore(mixed), config=config, batch_size=mixed.total_frames, seed=0)
    batch = loader[0]
    assert batch.dimension_mask is not None
    for known, (episode, frame), state in zip(batch.dimension_mask, loader.places(0), batch.state, strict=True):
        assert np.array_equal(known.numpy(), mixed.dimension_mask(episode))
        assert np.array_equal(state.numpy(), mixed.episode(episode).state[frame])
    assert len({tuple(known.tolist()) for known in batch.dimension_mask}) == 2
