"""The examples run as they stand, without arguments, and stay short enough to be read."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from video2act.data import LeRobotDataset
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny_system1
from video2act.statistics import Statistics

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def run(path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_says_what_happened(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if path.stem == "12_mikasa_intercept":
        pytest.skip("runs in an environment of its own, made by make mikasa-venv")
    if path.stem == "13_gym_pusht":
        pytest.importorskip("gym_pusht", reason="make dev installs it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(path, monkeypatch)
    expected = {
        "01_own_environment": "success: ",
        "02_own_data": "push the square to the right",
        "03_drive_a_policy": "step  0: a plan of",
        "04_remote_robot": "step  0: a plan of 8 actions",
        "06_own_robot": "Rates(control_hz=",
        "13_gym_pusht": "success: False, after 300 control steps",
        "05_new_backbone": "latents [1, 4, 3, 4, 4] at 4 Hz, features [1, 32, 3, 2, 2]",
    }
    assert expected[path.stem] in capsys.readouterr().out


@pytest.mark.parametrize("name", ["02_own_data", "03_drive_a_policy", "04_remote_robot", "06_own_robot"])
def test_help_is_no_folder_and_no_address(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        run(FOLDER / f"{name}.py", monkeypatch, "--help")
    assert f"usage: {name}.py" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short(path: Path):
    told = path.read_text().partition("def write_tiny")[0]  # what follows only makes weights to try it with
    assert len(told.splitlines()) < 60


def test_the_written_dataset_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    run(FOLDER / "02_own_data.py", monkeypatch, str(tmp_path / "squares"))
    dataset = LeRobotDataset(tmp_path / "squares")
    assert (len(dataset), dataset.lengths, dataset.cameras) == (3, (20, 20, 20), ("front",))
    episode = dataset.episode(1)
    assert episode.action is not None
    np.testing.assert_allclose(episode.state[1:] - episode.state[:-1], episode.action[:-1], atol=1e-5)


def test_a_run_folder_can_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Also one without System 2 and without most of the cameras."""
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    Video2Act(tiny_system1(DataSpec(4, 4, 80.0, ("corner4",))), {"state": unit, "action": unit}).save(tmp_path)
    run(FOLDER / "03_drive_a_policy.py", monkeypatch, str(tmp_path))
    assert "step  0: a plan of" in capsys.readouterr().out
