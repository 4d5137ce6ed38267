"""RoboTwin's evaluation script drives our policy: the folder that is copied into it, against a task with just its
interface."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.presets import RELEASED_FRAMES, SIGLIP_FRAMES
from video2act.programs import serve as program
from video2act.statistics import Statistics

FOLDER = Path(__file__).parents[1] / "robotwin"
NUM_JOINTS = 14


class Task:
    """RoboTwin's task object, as far as its evaluation script and policies touch it. Succeeds after so many actions."""

    def __init__(self, succeeds_at: int | None = None, step_lim: int = 20):
        self.step_lim = step_lim
        self.succeeds_at = succeeds_at
        self.num_rendered = 0
        self.setup(seed=0)

    def setup(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.take_action_cnt = 0
        self.eval_success = False
        self.actions: list[np.ndarray] = []

    def set_instruction(self, instruction: str) -> None:
        self.instruction = instruction

    def get_instruction(self) -> str:
        return self.instruction

    def get_obs(self) -> dict[str, Any]:
        self.num_rendered += 1
        cameras = ("head_camera", "left_camera", "right_camera")
        pictures = {name: {"rgb": self.rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)} for name in cameras}
        return {"observation": pictures, "joint_action": {"vector": np.linspace(0, 1, NUM_JOINTS)}, "endpose": {}}

    def take_action(self, action: np.ndarray, action_type: str = "qpos") -> None:
        assert action_type == "qpos"
        assert action.shape == (NUM_JOINTS,)
        if self.take_action_cnt == self.step_lim or self.eval_success:
            return
        self.take_action_cnt += 1
        self.actions.append(action)
        self.eval_success = self.take_action_cnt == self.succeeds_at


def play(deployed: ModuleType, model: Any, task: Task, instruction: str, seed: int = 0) -> bool:
    """One episode, as `script/eval_policy.py` plays it."""
    task.setup(seed)
    task.set_instruction(instruction)
    deployed.reset_model(model)
    while task.take_action_cnt < task.step_lim:
        deployed.eval(task, model, task.get_obs())
        if task.eval_success:
            return True
    return False


def words(**changes: Any) -> dict[str, Any]:
    """The yml, with what the script puts in place of null and adds."""
    own = yaml.safe_load((FOLDER / "Video2Act" / "deploy_policy.yml").read_text())
    filled = {
        "task_name": "beat_block_hammer",
        "task_config": "demo_clean",
        "ckpt_setting": "test",
        "seed": 0,
        "device": "cpu",
    }
    return {**own, **filled, "left_arm_dim": 6, "right_arm_dim": 6, **changes}


@pytest.fixture(scope="module")
def deployed() -> Iterator[ModuleType]:
    """The folder as RoboTwin's script imports it."""
    sys.path.append(str(FOLDER))
    yield importlib.import_module("Video2Act")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def config(small_config: PolicyConfig) -> PolicyConfig:
    """Cameras as converters of RoboTwin's data name them, at their own shape."""
    assert small_config.system2 is not None
    streams = tuple(
        replace(stream, camera="cam_high", frame=RELEASED_FRAMES) for stream in small_config.system2.streams
    )
    system2 = replace(small_config.system2, streams=streams)
    cameras = ("cam_high", "left_camera")
    return replace(
        small_config, state_dim=NUM_JOINTS, action_dim=NUM_JOINTS, cameras=cameras, image=SIGLIP_FRAMES, system2=system2
    )


@pytest.fixture(scope="module")
def run(config: PolicyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    n = NUM_JOINTS
    unit = Statistics(mean=(0.0,) * n, std=(1.0,) * n, min=(-1.0,) * n, max=(1.0,) * n)
    path = tmp_path_factory.mktemp("runs") / "test"
    Video2Act(config, {"state": unit, "action": unit}).save(path)
    return path


@pytest.fixture
def asked(deployed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every message to the policy, noted on its way."""
    module = importlib.import_module("Video2Act.deploy_policy")
    messages: list[dict[str, Any]] = []
    ask = module._LocalDriver.ask
    monkeypatch.setattr(
        module._LocalDriver, "ask", lambda self, message: messages.append(message) or ask(self, message)
    )
    return messages


def test_an_episode_is_played_to_its_end(deployed: ModuleType, run: Path, asked: list[dict[str, Any]]):
    task = Task(step_lim=11)
    model = deployed.get_model(words(run=str(run)))
    assert not play(deployed, model, task, "beat the block")
    assert len(task.actions) == 11
    assert all(np.isfinite(action).all() for action in task.actions)
    # every control step is observed once, rendered once, and a plan made at every second one
    assert [round(message["time"] * 20) for message in asked] == list(range(11))
    assert [message["plan"] for message in asked] == [step % 2 == 0 for step in range(11)]
    assert [message["reset"] for message in asked] == [True] + [False] * 10
    assert task.num_rendered == 11
    assert {message["prompt"] for message in asked} == {"beat the block"}


def test_it_stops_when_the_task_is_done(deployed: ModuleType, run: Path):
    task = Task(succeeds_at=3)
    assert play(deployed, deployed.get_model(words(run=str(run), action_step=4)), task, "beat the block")
    assert len(task.actions) == 3


def test_an_episode_leaves_nothing_to_the_next(deployed: ModuleType, run: Path, asked: list[dict[str, Any]]):
    """The released code kept what its slow system had seen; the same scene must give the same actions, whatever came
    before."""

    def last_actions(earlier: list[int]) -> list[list[float]]:
        model = deployed.get_model(words(run=str(run)))
        for seed in earlier:
            play(deployed, model, Task(step_lim=5), "something else", seed)
        task = Task(step_lim=6)
        play(deployed, model, task, "beat the block", seed=9)
        return [action.tolist() for action in task.actions]

    assert last_actions([]) == last_actions([1, 2])
    assert asked[-6]["reset"]
    assert asked[-6]["prompt"] == "beat the block"


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # websockets' of how openpi-client calls it
def test_a_served_policy_acts_as_one_in_the_same_process(deployed: ModuleType, run: Path):
    """Through openpi's client, which RoboTwin's environment can hold."""
    pytest.importorskip("openpi_client", reason="make dev installs openpi-client")
    tasks = [Task(step_lim=6), Task(step_lim=6)]
    play(deployed, deployed.get_model(words(run=str(run))), tasks[0], "beat the block")
    policy = Video2Act.load(run)
    policy.seed(0)
    with program.serving(policy, "inline", api_key="secret") as server:
        model = deployed.get_model(words(server=server.address, api_key="secret"))
        play(deployed, model, tasks[1], "beat the block")
    np.testing.assert_array_equal(tasks[0].actions, tasks[1].actions)


def test_cameras_may_be_named(deployed: ModuleType, run: Path):
    model = deployed.get_model(words(run=str(run)))
    assert model.cameras == {"cam_high": "head_camera", "left_camera": "left_camera"}
    model = deployed.get_model(words(run=str(run), cameras={"cam_high": "right_camera"}))
    assert model.cameras["cam_high"] == "right_camera"


def test_the_run_folder_may_follow_the_task(deployed: ModuleType, run: Path):
    model = deployed.get_model(words(run=str(run.parent / "{ckpt_setting}")))
    assert model.action_step == 2


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, "must name either run"),
        ({"run": "a", "server": "ws://b"}, "must name either run"),
        ({"run": "a", "acton_step": 4}, "unknown in deploy_policy.yml: acton_step; ours are action_step, api_key"),
        (
            {"run": "a", "fixed_lang_embed": True},
            "fixed_lang_embed is a word of the released code's.*gets RoboTwin's instruction",
        ),
        (
            {"run": "a", "model_config_path": "x.yaml"},
            "model_config_path is a word of the released code's.*config.json",
        ),
        ({"run": "a", "test_num": 10}, "test_num is a word of the released code's.*runs 100 episodes"),
        ({"action_step": 5}, r"action_step must lie in 1\.\.4, the actions of a plan; got 5"),
        ({"left_arm_dim": 7}, "the policy has state_dim 14, RoboTwin's robot has 15 joints and grippers"),
    ],
)
def test_a_wrong_yml_is_told(deployed: ModuleType, run: Path, changes: dict[str, Any], fault: str):
    if "run" not in changes and changes:
        changes = {**changes, "run": str(run)}
    with pytest.raises(ValueError, match=fault):
        deployed.get_model(words(**changes))


def test_without_the_arms_sizes_it_was_not_robotwin_that_called(deployed: ModuleType, run: Path):
    given = words(run=str(run))
    del given["left_arm_dim"]
    with pytest.raises(ValueError, match=r"left_arm_dim is missing: RoboTwin's script/eval_policy.py adds it"):
        deployed.get_model(given)


def test_an_observation_without_pictures_or_joints_is_told(deployed: ModuleType):
    seen = Task().get_obs()
    with pytest.raises(KeyError, match="no picture; set data_type: rgb"):
        deployed.encode_obs({**seen, "observation": {"head_camera": {}}})
    with pytest.raises(KeyError, match="no joint_action/vector; set data_type: qpos"):
        deployed.encode_obs({**seen, "joint_action": {}})


def test_a_camera_that_is_switched_off_is_told(deployed: ModuleType, run: Path):
    task = Task()
    task.set_instruction("beat the block")
    model = deployed.get_model(words(run=str(run)))
    seen = task.get_obs()
    del seen["observation"]["left_camera"]
    with pytest.raises(
        KeyError, match="'left_camera', which is RoboTwin's 'left_camera', but the observation has head_camera"
    ):
        deployed.eval(task, model, seen)


def test_a_camera_of_another_robot_is_told(deployed: ModuleType):
    module = importlib.import_module("Video2Act.deploy_policy")
    with pytest.raises(ValueError, match=r"looks through 'corner4'.*cameras: \{corner4: head_camera\}"):
        module._robotwin_camera("corner4", {})


def test_the_folder_needs_nothing_but_what_robotwin_has():
    """At its head it imports numpy alone; all else when it is needed."""
    tree = ast.parse((FOLDER / "Video2Act" / "deploy_policy.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert imported == {"numpy", "pathlib", "typing"}


@pytest.mark.parametrize("where", ["ws://127.0.0.1:8000", "/data/run"])
def test_the_script_calls_robotwins(where: str, tmp_path: Path):
    """With a stand-in for `python script/eval_policy.py` that tells how it was called."""
    policy = tmp_path / "RoboTwin" / "policy" / "Video2Act"
    policy.mkdir(parents=True)
    (policy / "eval.sh").write_bytes((FOLDER / "Video2Act" / "eval.sh").read_bytes())
    (tmp_path / "python").write_text('#!/bin/bash\necho "$PWD" "$CUDA_VISIBLE_DEVICES" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    arguments = ["beat_block_hammer", "demo_clean", "wan22", "3", "1", where]
    command = ["bash", str(policy / "eval.sh"), *arguments]
    done = subprocess.run(
        command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    option = "--server" if where.startswith("ws") else "--run"
    assert done.stdout.split() == [
        str(tmp_path / "RoboTwin"),
        "1",
        *("script/eval_policy.py", "--config", "policy/Video2Act/deploy_policy.yml", "--overrides"),
        *("--task_name", "beat_block_hammer", "--task_config", "demo_clean", "--ckpt_setting", "wan22", "--seed", "3"),
        *("--policy_name", "Video2Act", option, where),
    ]
    assert subprocess.run(["bash", str(policy / "eval.sh")], capture_output=True).returncode == 2
