"""Which actions are changes or speeds travels from the recording to the robot, without anybody repeating it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video2act import Runner
from video2act.config import PolicyConfig
from video2act.data import DatasetError, DatasetWriter, Episode, LeRobotDataset, open_datasets
from video2act.data.fit import check_fit, relative_notes
from video2act.data.origin import ORIGIN_PATH, look_relative
from video2act.interfaces import HoldError
from video2act.policy import Video2Act
from video2act.presets import make_preset
from video2act.programs.info.dataset import describe_dataset
from video2act.serving.contract import Contract
from video2act.serving.session import PolicySession
from video2act.statistics import Statistics
from video2act.types import ActionChunk, Observation

NAMES = ("dx", "dy", "grip")
RELATIVE = ("dx", "dy")


def write(root: Path, relative: tuple[str, ...] = RELATIVE, names: tuple[str, ...] = NAMES) -> Path:
    sizes = {"fps": 20.0, "robot": "arm", "cameras": ("front",), "image_size": 64}
    with DatasetWriter.create(
        root, **sizes, state_names=("x",), action_names=names, relative_actions=relative
    ) as writer:
        frames, state = np.zeros((8, 64, 64, 3), np.uint8), np.zeros((8, 1), np.float32)
        action = np.linspace(-1, 1, 8 * len(names), dtype=np.float32).reshape(8, -1)
        writer.add_episode(Episode({"front": frames}, state, action, "push", 0))
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> LeRobotDataset:
    return LeRobotDataset(write(tmp_path / "set"))


@pytest.fixture
def policy(dataset: LeRobotDataset) -> Video2Act:
    return Video2Act(make_preset("tiny_system1", dataset), dataset.stats).eval()


def observation(time: float) -> Observation:
    return Observation({"front": np.zeros((64, 64, 3), np.uint8)}, np.zeros(1, np.float32), "push", time)


def test_a_robot_holds_still_as_its_data_were_recorded(policy: Video2Act, tmp_path: Path):
    """A bare `reset()` made every action a target: to hold, a robot that is told changes got the last one again."""
    policy.save(tmp_path / "run")
    for driven in (policy, tmp_path / "run"):
        with Runner(driven) as runner:
            runner.reset()
            runner.step(observation(0.0))
            last = np.array([0.3, -0.2, 0.7], np.float32)
            np.testing.assert_array_equal(runner.hold_action(last), np.array([0, 0, 0.7], np.float32))
    with Runner(policy, relative_actions=()) as runner:
        np.testing.assert_array_equal(runner.hold_action(last), last)


def test_messages_name_the_actions_of_the_data(policy: Video2Act):
    with Runner(policy) as runner, pytest.raises(ValueError, match="by hand is not finite: dy = nan"):
        runner.let(np.array([0, np.nan, 0], np.float32), observation(0.0))


def test_a_server_says_it_to_its_clients(policy: Video2Act):
    class Remote:
        contract = Contract.from_metadata(Contract.of(policy.config, "policy", action_names=NAMES).to_metadata())

        def reset(self) -> None: ...
        def observe(self, observation: Observation) -> None: ...
        def infer(self, observation: Observation) -> ActionChunk:
            raise NotImplementedError

    with Runner(Remote()) as runner:  # how often to plan is in its contract, too
        held = runner.hold_action(np.ones(3, np.float32))
    np.testing.assert_array_equal(held, np.array([0, 0, 1], np.float32))


def test_clients_of_other_programs_are_told_how_to_hold(policy: Video2Act):
    """They repeated the last action, which drove the arm on."""

    class Stale:
        def reset(self) -> None: ...
        def observe(self, observation: Observation) -> None: ...
        def close(self) -> None: ...
        def infer(self, observation: Observation) -> ActionChunk:
            raise HoldError("the condition is too old", "stale_condition")

    session = PolicySession(Stale(), Contract.of(policy.config, "policy", action_names=NAMES))
    message = {"images": observation(0.0).images, "state": np.zeros(1, np.float32), "prompt": "push"}
    with pytest.raises(HoldError, match="too old; to hold, send zeros of dx, dy and the last values of the others"):
        session.answer(message)


def test_other_names_need_other_relative_actions(policy: Video2Act):
    with pytest.raises(ValueError, match="relative_actions names dx, dy, but the actions are a, b, c"):
        Runner(policy, action_names=("a", "b", "c"))


def test_data_that_do_not_record_it_leave_it_to_the_user(tmp_path: Path):
    dataset = LeRobotDataset(write(tmp_path / "set", ()))
    config = make_preset("tiny_system1", dataset)
    assert config.relative_actions == ()
    check_fit(config.replace({"relative_actions": ("dx",)}), dataset)
    with pytest.raises(ValueError, match=r"relative-actions names z, but the actions are dx, dy, grip"):
        check_fit(config.replace({"relative_actions": ("z",)}), dataset)
    with pytest.raises(ValueError, match="relative action dx is given twice"):
        config.replace({"relative_actions": ("dx", "dx")})


def test_a_policy_of_other_actions_is_refused(dataset: LeRobotDataset):
    config = replace(make_preset("tiny_system1", dataset), relative_actions=("dx",))
    with pytest.raises(ValueError, match=r"policy has dx, the dataset dx, dy; set --policy\.relative-actions dx dy"):
        check_fit(config, dataset)


def test_corrections_join_data_of_another_program(tmp_path: Path):
    """A dataset of another program records no relative actions, a `run --record` does: both were refused together,
    whatever the user said."""
    write(tmp_path / "theirs", ())
    write(tmp_path / "ours", ("dx",))
    both = open_datasets([tmp_path / "theirs", tmp_path / "ours"])
    config = make_preset("tiny_system1", both)
    with pytest.raises(ValueError, match=r"policy has none, the dataset dx; set --policy\.relative-actions dx"):
        check_fit(config, both)
    told = config.replace({"relative_actions": ("dx",)})
    check_fit(told, both)
    (note,) = relative_notes(told, both)
    assert note.startswith(f"{tmp_path}/theirs does not record which actions are changes or speeds; dx is taken")
    assert relative_notes(told, open_datasets([tmp_path / "ours"])) == []


def test_two_datasets_agree_on_it(tmp_path: Path):
    write(tmp_path / "a")
    write(tmp_path / "b", ("dx",))
    with pytest.raises(DatasetError, match=r"relative_actions is \('dx', 'dy'\) in the first and \('dx',\)"):
        open_datasets([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("record", "message"),
    [("dx", "expected a list"), (["dx", 1], "expected a list"), (["z"], "names z, but"), (["dx", "dx"], "given twice")],
)
def test_a_damaged_record_is_named(tmp_path: Path, record: object, message: str):
    root = write(tmp_path / "set")
    (root / ORIGIN_PATH).write_text(json.dumps({"relative_actions": record}))
    with pytest.raises(DatasetError, match=f"{ORIGIN_PATH.name}: .*{message}"):
        LeRobotDataset(root)


def test_a_writer_refuses_what_is_no_action(tmp_path: Path):
    with pytest.raises(ValueError, match="relative_actions names z, but the actions are dx, dy, grip"):
        write(tmp_path / "set", ("z",))
    assert not (tmp_path / "set").exists()


def test_columns_that_were_chosen_keep_their_own(tmp_path: Path):
    root = write(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    assert info["features"]["action"]["names"] == list(NAMES)
    assert LeRobotDataset(root, action=["observation.state"]).relative_actions == ()
    assert LeRobotDataset(root, action=["action", "observation.state"]).relative_actions == RELATIVE


def test_an_older_run_has_no_such_field(small_config: PolicyConfig, small_statistics: dict[str, Statistics]):
    with Runner(Video2Act(small_config, small_statistics).eval()) as runner:
        last = np.array([0.5, 0.5], np.float32)
        np.testing.assert_array_equal(runner.hold_action(last), last)


@pytest.mark.parametrize("name", ["dx", "dYaw", "delta_x", "arm.delta_2", "joint_vel", "base speed", "velocity1"])
def test_a_name_that_looks_like_a_change_is_pointed_out(name: str, tmp_path: Path):
    """Data of which nobody had said that their actions are changes made a robot drive on while it held."""
    dataset = LeRobotDataset(write(tmp_path / "set", (), (name, "grip")))
    config = make_preset("tiny_system1", dataset)
    assert relative_notes(config, dataset)[0].endswith(f"add --policy.relative-actions {name}")
    assert f"if {name} are" in describe_dataset(dataset.root).replace("\n", " ")
    assert not relative_notes(config.replace({"relative_actions": (name,)}), dataset)


@pytest.mark.parametrize("name", ["x", "depth", "gripper", "model_x", "dial", "level", "relay"])
def test_other_names_are_targets(name: str):
    assert look_relative((name,)) == ()
