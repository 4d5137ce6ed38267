"""The README's Python script, which is also the notebook in `examples/`: it runs cell by cell, with smaller numbers."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import video2act as v2a
from video2act.config import TrainConfig, VideoTrainConfig
from video2act.data import DatasetWriter, Episode
from video2act.envs import metaworld
from video2act.programs import train, train_video
from video2act.training import video_report

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "07_from_data_to_robot.ipynb"

SMALLER = {
    "range(50)": "range(2)",
    "num_steps=500": "num_steps=1",
    "num_steps=1500": "num_steps=1",
    "episodes=50": "episodes=1",
    "range(200)": "range(8)",
}
"""all that differs from the script as it is written"""


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def code_cells() -> list[str]:
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]


def test_the_notebook_and_the_readme_hold_the_same_script():
    (script,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    written = [line for cell in code_cells() for line in cell.splitlines()]
    assert [line for line in written if line] == [line for line in script.splitlines() if line]


def test_the_notebook_is_committed_without_outputs():
    for cell in cells():
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.fixture
def small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short recordings of MetaWorld's robot with made-up pictures, small batches and short episodes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_report, "NUM_CLIPS", 2)
    monkeypatch.setattr(train_video, "VideoTrainConfig", partial(VideoTrainConfig, batch_size=2, num_frames=9))
    monkeypatch.setattr(train, "TrainConfig", partial(TrainConfig, batch_size=2))
    monkeypatch.setattr(metaworld, "DEFAULT_MAX_STEPS", 8)
    rng = np.random.default_rng(0)
    writer = DatasetWriter.create(
        tmp_path / "data" / "push",
        fps=80.0,
        robot="sawyer",
        cameras=metaworld.DEFAULT_CAMERAS,
        image_size=64,
        state_names=("gripper_x", "gripper_y", "gripper_z", "gripper_opening"),
        action_names=("delta_x", "delta_y", "delta_z", "gripper_effort"),
    )
    with writer:
        for seed in range(2):
            frames = rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
            state, action = rng.uniform(-1, 1, (2, 20, 4)).astype(np.float32)
            pictures = {str(camera): frames for camera in metaworld.DEFAULT_CAMERAS}
            writer.add_episode(Episode(pictures, state, action, metaworld.INSTRUCTIONS["push-v3"], seed=seed))


@pytest.mark.usefixtures("small_world", "fresh_accelerator")
def test_it_runs_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    used: list[str] = []
    for cell in code_cells():
        for number, smaller in SMALLER.items():
            used += [number] * cell.count(number)
            cell = cell.replace(number, smaller)
        exec(compile(cell, str(NOTEBOOK), "exec"), names)
    assert used == list(SMALLER)
    out = capsys.readouterr().out
    assert "0/1 = 0 % (0-79 %)" in out or "1/1 = 100 % (21-100 %)" in out
    assert "Rates(control_hz=" in out
    policy = names["policy"]
    assert policy.folder == Path("runs/push")
    assert (policy.config.horizon, policy.config.system2.filter_on) == (16, "latents")
    assert len(names["data"]) == 2


def test_every_public_name_is_there_and_another_is_refused_by_name():
    for name in v2a.__all__:
        assert getattr(v2a, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'trian'; did you mean 'train'\?"):
        v2a.trian  # noqa: B018
