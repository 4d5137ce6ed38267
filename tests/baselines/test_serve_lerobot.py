"""The adapter that serves a policy of LeRobot, over a stand-in for it; `make test-interop` takes the real one."""

import importlib.util
import json
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from video2act.serving.client import RemoteError, RemotePolicy
from video2act.types import Observation

SCRIPT = Path(__file__).parents[2] / "baselines" / "serve_lerobot.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_lerobot", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_policy(folder: Path, **changed: Any) -> Path:
    """The config of a policy that fits the dataset of the fixture `recorded`, with changed features."""
    shapes = {"observation.images.front": [3, 64, 64], "observation.images.wrist": [3, 64, 64]}
    inputs = {key: {"type": "VISUAL", "shape": shape} for key, shape in shapes.items()}
    inputs["observation.state"] = {"type": "STATE", "shape": [3]}
    outputs = {"action": {"type": "ACTION", "shape": [2]}}
    config: dict[str, Any] = {"type": "act", "input_features": inputs, "output_features": outputs}
    for key, shape in changed.items():
        for features in (inputs, outputs):
            if key in features:
                features[key]["shape"] = shape
            if shape is None:
                features.pop(key, None)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def recipe(script: ModuleType, tmp_path: Path, recorded: Path) -> Any:
    return script.read_recipe(write_policy(tmp_path / "policy"), recorded)


def test_rate_cameras_and_instructions_come_from_the_data(recipe: Any):
    assert (recipe.fps, recipe.state_dim, recipe.action_dim) == (20.0, 3, 2)
    assert recipe.images == {"front": (64, 64), "wrist": (64, 64)}
    assert recipe.instructions


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"observation.state": [7]}, r"observation.state: the policy was trained with \[7\], the dataset has \[3\]"),
        ({"observation.images.wrist": [3, 96, 64]}, r"\[3, 96, 64\], the dataset has \[3, 64, 64\]"),
        ({"action": None}, "the policy has no action"),
    ],
)
def test_a_policy_of_other_features_is_refused(
    script: ModuleType, tmp_path: Path, recorded: Path, changed: dict[str, Any], complaint: str
):
    with pytest.raises(ValueError, match=complaint):
        script.read_recipe(write_policy(tmp_path / "policy", **changed), recorded)


def test_a_camera_that_the_data_lack_is_named(script: ModuleType, tmp_path: Path, recorded: Path):
    policy = write_policy(tmp_path / "policy")
    text = (policy / "config.json").read_text().replace("images.wrist", "images.side")
    (policy / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"observation\.images\.side.*the dataset has .*observation\.images\.wrist"):
        script.read_recipe(policy, recorded)


def test_without_lerobot_it_says_where_to_run_it(
    script: ModuleType, tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setitem(sys.modules, "lerobot", None)
    policy = write_policy(tmp_path / "policy")
    for name, text in (("list", "[]"), ("cut", '{"fps": 1'), ("empty", "{}")):
        (tmp_path / name / "meta").mkdir(parents=True)
        (tmp_path / name / "meta" / "info.json").write_text(text)
    (tmp_path / "list" / "config.json").write_text("[]")
    for words, complaint in (
        ([policy, "--data", recorded], "make baselines-venv"),
        ([policy, "--data", tmp_path / "list"], "info.json does not describe a LeRobotDataset"),
        ([policy, "--data", tmp_path / "empty"], "info.json does not describe a LeRobotDataset"),
        ([policy, "--data", tmp_path / "cut"], "info.json is not valid json"),
        ([tmp_path / "list", "--data", recorded], "config.json does not describe a policy that lerobot-train wrote"),
        ([policy, "--data", tmp_path], "is not a LeRobotDataset"),
        ([tmp_path, "--data", recorded], "is not a policy that lerobot-train wrote"),
    ):
        monkeypatch.setattr(sys, "argv", ["serve_lerobot.py", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert "Traceback" not in error


class Counting:
    """LeRobot's policy and both pipelines in one: an action tells how many steps and resets there were."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.num_resets = 0

    def reset(self) -> None:
        self.num_resets += 1
        self.batches = []

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        self.batches.append(batch)
        return torch.tensor([[float(len(self.batches)), float(self.num_resets)]])

    def __call__(self, batch: Any) -> Any:
        return batch


def seen(step: int, px: int = 64) -> Observation:
    images = {camera: np.full((px, px, 3), 51, np.uint8) for camera in ("front", "wrist")}
    return Observation(images, np.arange(3, dtype=np.float32), "push", step / 20)


def test_every_observation_is_one_control_step(script: ModuleType, recipe: Any):
    policy = Counting()
    parts = (policy, lambda batch: batch, lambda action: action)
    for part in parts[1:]:
        part.reset = lambda: None  # type: ignore[attr-defined]
    with (
        script.make_server(recipe, parts, host="127.0.0.1", port=0).running() as server,
        closing(RemotePolicy(server.address)) as remote,
    ):
        assert (remote.contract.horizon, remote.contract.execute_steps) == (1, 1)
        for episode in (1, 2):
            remote.reset()
            for step in range(3):
                remote.observe(seen(step))
                assert remote.infer(seen(step)).actions.tolist() == [[step + 1, episode]]
        with pytest.raises(RemoteError, match=r"trained with \(64, 64\), got \(32, 32\); it does not resize"):
            remote.infer(seen(4, px=32))
        # a second client would have taken actions from the queue of the first
        with pytest.raises(ConnectionError, match="the server is full: 1 clients are connected"):
            RemotePolicy(server.address)
    batch = policy.batches[-1]
    assert batch["observation.images.front"].shape == (3, 64, 64)
    assert float(batch["observation.images.front"].max()) == pytest.approx(0.2)
    assert batch["task"] == "push"
