"""An `info.json` or a table that was made to take time, memory or a screen is refused at once, by its name."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import make_episode, write_dataset

from video2act.data import DatasetError, LeRobotDataset
from video2act.data.check import check_dataset

INFO, ORIGIN = "meta/info.json", "meta/video2act.json"
DATA = "data/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("hostile") / "set", [make_episode(0), make_episode(1, 5, "pull")])


@pytest.fixture
def root(recorded_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded_once, tmp_path / "set"))


def nested(depth: int) -> Any:
    names: Any = "x"
    for _ in range(depth):
        names = [names]
    return names


def many(features: dict[str, Any]) -> dict[str, Any]:
    return {f"c{i}": {"dtype": "float32", "shape": [3], "names": None} for i in range(20_000)} | features


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "names in 400 groups": lambda info: info["features"]["observation.state"].update(names=nested(400)),
    "a shape of a million axes": lambda info: info["features"]["observation.state"].update(shape=[2] * 10**6),
    "a picture of a million axes": lambda info: info["features"]["observation.images.front"].update(shape=[2] * 10**6),
    "axes of 4000 digits": lambda info: info["features"]["observation.state"].update(shape=[10**4000] * 1000),
    "a shape of truths": lambda info: info["features"]["observation.state"].update(shape=[True]),
    "20,000 features": lambda info: info.update(features=many(info["features"])),
    "a long version": lambda info: info.update(codebase_version=["v3.0"] * 10**5),
    "a long robot": lambda info: info.update(robot_type="x" * 10**6),
    "a robot that writes on the screen": lambda info: info.update(robot_type="arm\x1b[31m\n"),
    "a robot that is a map": lambda info: info.update(robot_type={"a": 1}),
    "a feature of two lines": lambda info: info["features"].update({"a\nb": info["features"]["action"]}),
    "half a letter": lambda info: info["features"].update({"\ud800": info["features"]["action"]}),
    "depth by a text": lambda info: info["features"]["observation.images.front"].update(info={"is_depth_map": "no"}),
}


@pytest.mark.parametrize("edit", HOSTILE.values(), ids=HOSTILE)
def test_a_description_that_was_made_to_harm_is_refused_in_a_short_message(
    edit: Callable[[dict[str, Any]], object], root: Path
):
    info = json.loads((root / INFO).read_text())
    edit(info)
    (root / INFO).write_text(json.dumps(info))
    started = time.process_time()
    with pytest.raises(DatasetError, match=r"info\.json: ") as error:
        LeRobotDataset(root)
    assert len(str(error.value)) < 1000
    assert [line for line in check_dataset(root) if "info.json" in line and len(line) < 1000]
    assert time.process_time() - started < 5


def test_a_dtype_that_numpy_cannot_make_is_named(root: Path):
    info = json.loads((root / INFO).read_text())
    info["features"]["observation.state"]["dtype"] = "(999999999,)f8"
    (root / INFO).write_text(json.dumps(info))
    assert any(
        "observation.state has the dtype '(999999999,)f8', which is none" in line for line in check_dataset(root)
    )
    assert "observation.state" not in LeRobotDataset(root).info.columns


def test_a_column_that_stands_twice_is_named(root: Path):
    table = pq.read_table(root / DATA)
    pq.write_table(table.append_column("action", table["action"]), root / DATA)
    with pytest.raises(DatasetError, match=rf"{DATA} has the column action twice; remove one of them"):
        LeRobotDataset(root)


def test_tasks_whose_numbers_are_lists_are_named(root: Path):
    path = root / "meta/tasks.parquet"
    table = pq.read_table(path)
    numbers = pa.array([[0], [1]], pa.list_(pa.int64()))
    pq.write_table(table.set_column(table.column_names.index("task_index"), "task_index", numbers), path)
    with pytest.raises(DatasetError, match=r"tasks\.parquet: expected a task_index and a sentence in each row, found"):
        LeRobotDataset(root)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("task_index", [0.5] * 7),
        ("task_index", [float("nan")] * 7),
        ("task_index", pa.array([2**63] * 7, pa.uint64())),
        ("frame_index", [0, 1, 2, 3, 4, 5, 6.5]),
        ("episode_index", [0.0] * 6 + [float("inf")]),
    ],
    ids=["half", "nan", "huge", "half frame", "inf"],
)
def test_numbers_of_tasks_frames_and_episodes_are_whole(name: str, values: Any, root: Path):
    table = pq.read_table(root / DATA)
    column = values if isinstance(values, pa.Array) else pa.array(values, pa.float64())
    pq.write_table(table.set_column(table.column_names.index(name), name, column), root / DATA)
    with pytest.raises(DatasetError, match=rf"{DATA}, row \d: {name} is .*, expected a whole number; copy"):
        LeRobotDataset(root)


@pytest.mark.parametrize("name", ["episode_index", "frame_index", "timestamp", "task_index"])
def test_numbers_in_lists_of_one_are_read_alike(name: str, root: Path):
    """One list a row ended in a raw error, or in the advice to sort a file that was sorted."""
    table, expected = pq.read_table(root / DATA), LeRobotDataset(root).episode(0)
    place = table.column_names.index(name)
    for width in (1, 2):
        values = pa.array(np.repeat(table[name].to_numpy(), width))
        column = pa.FixedSizeListArray.from_arrays(values, width)
        pq.write_table(table.set_column(place, name, column), root / DATA)
        if width == 1:
            episode = LeRobotDataset(root).episode(0)
            assert episode.timestamps.shape == (7,)
            assert episode.instruction == expected.instruction
            continue
        with pytest.raises(DatasetError, match=f"{DATA}: {name} has 2 numbers a row, expected one; copy"):
            LeRobotDataset(root)


@pytest.mark.parametrize("name", [["push"], {"push": 1}, 5, True], ids=str)
def test_an_environment_that_is_no_name_is_refused_when_the_data_are_opened(name: Any, root: Path):
    """A training ended in a TypeError after its weights were saved, and its record of the data was not written."""
    (root / ORIGIN).write_text(json.dumps({"environment": name}))
    with pytest.raises(DatasetError, match=rf"{ORIGIN}: environment is .*, expected a name; correct it"):
        LeRobotDataset(root)


def test_what_the_check_calls_sound_can_be_opened(root: Path):
    (root / ORIGIN).write_text("[" * 100_000)
    assert any(f"{ORIGIN} is not valid json" in line for line in check_dataset(root))
    (root / ORIGIN).write_text('{"environment": ["push"]}')
    assert any(f"{ORIGIN}: environment is ['push'], expected a name" in line for line in check_dataset(root))
    (root / ORIGIN).write_text('{"orientation": "sideways"}')
    assert any(f"{ORIGIN}: orientation is 'sideways'" in line for line in check_dataset(root))
