"""A training reports its losses to another tracker, and stays on this machine without a network."""

import json
import sys
from pathlib import Path

import pytest
import torch
from accelerate.utils import LoggerType
from torch import nn

from video2act.config import OptimizationConfig
from video2act.training import trackers
from video2act.training.loop import TrainingLoop
from video2act.training.pause import TrainingPausedError

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

WANDB = '''
"""A package of the same name that writes down what it gets."""
import json, pathlib
calls = pathlib.Path(__file__).with_name("calls.jsonl")

def note(**what):
    with calls.open("a") as file:
        file.write(json.dumps(what) + "\\n")

class Config:
    def update(self, values, **rest):
        note(config=values)

config = Config()

class Run:
    def log(self, values, step=None, **rest):
        note(step=step, values=values)
    def finish(self, **rest):
        note(finished=True)

def init(**options):
    note(init=options)
    return Run()
'''


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * x - 2).square().mean()


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package writes them."""
    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(WANDB)
    about = tmp_path / "packages" / "wandb-9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers
    return package / "calls.jsonl"


def test_every_step_is_reported_and_the_run_is_finished(
    calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = OptimizationConfig(num_steps=3, batch_size=1, warmup_steps=0, track="wandb", mixed_precision="no")
    with TrainingLoop(Line(), config, folder=tmp_path / "run", resume=False) as loop:
        loop.run(lambda step: (torch.ones(1),), "line")
        loop.finish()
    said = [json.loads(line) for line in calls.read_text().splitlines()]
    begun = said[0]["init"]
    assert (begun["project"], begun["name"], begun["mode"]) == ("video2act", "run", "offline")
    assert begun["dir"] == str(tmp_path / "run")
    assert said[1]["config"]["num_steps"] == 3
    steps = [line for line in said if "step" in line]
    assert [line["step"] for line in steps] == [0, 1, 2]
    own = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["values"]["loss"] for line in steps] == [line["loss"] for line in own]
    assert said[-1] == {"finished": True}
    assert "wandb works offline: 127.0.0.1 does not answer" in capsys.readouterr().out


def test_a_training_that_stops_finishes_its_run_too(calls: Path, tmp_path: Path):
    config = OptimizationConfig(num_steps=9, batch_size=1, track="wandb", mixed_precision="no", max_minutes=1e-9)
    with (
        pytest.raises(TrainingPausedError),
        TrainingLoop(Line(), config, folder=tmp_path / "run", resume=False) as loop,
    ):
        loop.run(lambda step: (torch.ones(1),), "line")
    assert json.loads(calls.read_text().splitlines()[-1]) == {"finished": True}


def test_a_tracker_that_accelerate_leaves_out_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    config = OptimizationConfig(num_steps=1, batch_size=1, track="wandb", mixed_precision="no")
    with pytest.raises(ImportError, match="pip install -U accelerate wandb"):
        TrainingLoop(Line(), config, folder=tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()


def test_a_package_that_is_missing_is_an_error_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(
        ImportError, match=r"--track trackio needs trackio.*pip install 'video2act(-runtime)?\[track\]'"
    ):
        trackers.check_tracker("trackio")
    trackers.check_tracker(None)


def test_the_users_own_mode_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert trackers.tracker_options("wandb", tmp_path)["mode"] == "disabled"
    assert trackers.tracker_options("trackio", tmp_path) == {"name": tmp_path.name}


def test_a_server_without_a_key_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import socket

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert trackers.tracker_options("wandb", tmp_path)["mode"] == "offline"
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert trackers.tracker_options("wandb", tmp_path)["mode"] == "online"
