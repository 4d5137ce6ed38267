"""The notebooks in `examples/` run cell by cell, with smaller numbers. The first is also the README's script."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import video2act as v2a
from video2act.config import TrainConfig, VideoTrainConfig
from video2act.data import DatasetWriter, Episode
from video2act.envs import metaworld
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny, tiny_system1
from video2act.programs import train, train_video
from video2act.statistics import Statistics
from video2act.training import video_report

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FIRST = "07_first_policy"

SMALLER = {
    FIRST: {
        "num_steps=500": "num_steps=1",
        "num_steps=1500": "num_steps=1",
        "episodes=50": "episodes=1",
        "(40)": "(6)",
    },
    "08_own_data": {"range(20)": "range(2)", "num_steps=300": "num_steps=1"},
    "09_own_robot": {"drive(200": "drive(8"},
    "10_what_system2_sees": {},
    "11_comparing_two_policies": {"50, 2000": "2, 2000"},
}
"""all that differs from the notebooks as they are written"""
SAYS: dict[str, tuple[str, ...]] = {
    FIRST: ("/1 = ", "Rates(control_hz="),
    "08_own_data": ("push the square to the right", "nothing is wrong", "policy [", "demonstrator ["),
    "09_own_robot": ("80.0 Hz", "Rates(control_hz=", "missed_deadlines="),
    "10_what_system2_sees": (),
    "11_comparing_two_policies": ("A ", "neither ", "p = 1 from 0 scenes"),
}


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def code_cells(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code"]


def test_the_first_notebook_and_the_readme_hold_the_same_script():
    (script,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    written = [line for cell in code_cells(ROOT / "examples" / f"{FIRST}.ipynb") for line in cell.splitlines()]
    assert [line for line in written if line] == [line for line in script.splitlines() if line]
    assert len([line for line in script.splitlines() if line]) <= 15


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path):
    for cell in cells(path):
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


def test_the_readme_lists_every_notebook():
    named = set(re.findall(r"\(examples/(\w+)\.ipynb\)", (ROOT / "README.md").read_text()))
    assert named == {path.stem for path in NOTEBOOKS} == set(SMALLER)


@pytest.fixture
def small_world(short_episodes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two short recordings of MetaWorld's robot with made-up pictures, small batches and short episodes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_report, "NUM_CLIPS", 2)
    monkeypatch.setattr(train_video, "VideoTrainConfig", partial(VideoTrainConfig, batch_size=2, num_frames=9))
    monkeypatch.setattr(train, "TrainConfig", partial(TrainConfig, batch_size=2))
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


@pytest.fixture
def save_run(tmp_path: Path, small_world: None) -> Callable[[Any], None]:
    """`runs/push`, as the first notebook leaves it, with random weights."""

    def save(preset: Any) -> None:
        unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
        config = preset(DataSpec(4, 4, 80.0, tuple(map(str, metaworld.DEFAULT_CAMERAS))))
        Video2Act(config, {"state": unit, "action": unit}).save(tmp_path / "runs" / "push")

    return save


@pytest.mark.usefixtures("small_world", "fresh_accelerator")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_as_it_is_written(
    path: Path, tmp_path: Path, save_run: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
):
    if path.stem not in (FIRST, "08_own_data"):
        save_run(tiny_system1 if path.stem.startswith("11") else tiny)
    names: dict[str, Any] = {}
    used: set[str] = set()
    for cell in code_cells(path):
        for number, smaller in SMALLER[path.stem].items():
            used |= {number} if number in cell else set()
            cell = cell.replace(number, smaller)
        exec(compile(cell, str(path), "exec"), names)
    assert used == set(SMALLER[path.stem])
    out = capsys.readouterr().out
    assert not [said for said in SAYS[path.stem] if said not in out], out
    if path.stem == FIRST:
        assert names["policy"].folder == Path("runs/python/push")
        assert (names["config"].horizon, names["config"].system2.filter_on) == (16, "latents")
    if path.stem.startswith("10"):
        assert (tmp_path / "what_system2_sees.mp4").is_file()
        assert names["picture"]("motion").size == (256, 256)


def test_every_public_name_is_there_and_another_is_refused_by_name():
    for name in v2a.__all__:
        assert getattr(v2a, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute 'trian'; did you mean 'train'\?"):
        v2a.trian  # noqa: B018
