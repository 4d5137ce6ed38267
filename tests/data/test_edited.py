"""Datasets edited by LeRobot's `lerobot-edit-dataset` 0.6.1, their layouts made by hand: what it leaves out, numbers
anew and packs together. `tests/interop/lerobot_edited.py` runs the tool itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import CAMERAS, change_column, change_info, make_episode, write_dataset

from video2act.data import DatasetError, LeRobotDataset
from video2act.data.check import check_dataset
from video2act.data.lerobot_tables import OWN

LENGTHS = (7, 5, 6)
EPISODES = [
    make_episode(i, length, task)
    for i, (length, task) in enumerate(zip(LENGTHS, ("push", "pull", "push"), strict=True))
]
META = "meta/episodes/chunk-000/file-{:03d}.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three episodes; each has its own files, as ours are written."""
    return write_dataset(tmp_path / "set", EPISODES)


def delete_middle(root: Path) -> None:
    """As `delete_episodes [1]` and `split`: the files keep their numbers, so there is a gap; episodes and rows are
    numbered anew; the metadata lie in one file, with LeRobot's own columns only."""
    for path in root.rglob("file-001.*"):
        path.unlink()
    tables = [pq.read_table(root / META.format(i)) for i in (0, 2)]
    (root / META.format(2)).unlink()
    rows = pa.concat_tables([table.drop_columns([c for c in OWN if c in table.column_names]) for table in tables])
    pq.write_table(rows, root / META.format(0))
    for name, values in (
        ("episode_index", [0, 1]),
        ("dataset_from_index", [0, LENGTHS[0]]),
        ("dataset_to_index", [LENGTHS[0], LENGTHS[0] + LENGTHS[2]]),
        ("meta/episodes/file_index", [0, 0]),
    ):
        change_column(root, META.format(0), name, values)
    data = "data/chunk-000/file-002.parquet"
    change_column(root, data, "episode_index", [1] * LENGTHS[2])
    change_column(root, data, "index", list(range(LENGTHS[0], LENGTHS[0] + LENGTHS[2])))
    change_column(root, data, "task_index", [0] * LENGTHS[2])
    pq.write_table(pa.table({"task_index": [0], "task": ["push"]}), root / "meta/tasks.parquet")
    again = write_dataset(root.parent / "again", [EPISODES[0], EPISODES[2]])
    shutil.copy(again / "meta/stats.json", root / "meta/stats.json")
    change_info(root, total_episodes=2, total_frames=LENGTHS[0] + LENGTHS[2], total_tasks=1, splits={"train": "0:2"})


def assert_holds(root: Path, kept: list[int], cameras: tuple[str, ...] = CAMERAS) -> LeRobotDataset:
    assert not check_dataset(root)
    dataset = LeRobotDataset(root)
    assert dataset.lengths == tuple(LENGTHS[i] for i in kept)
    assert dataset.cameras == cameras
    for i, original in enumerate(kept):
        episode = dataset.episode(i)
        np.testing.assert_array_equal(episode.state, EPISODES[original].state)
        np.testing.assert_array_equal(episode.action, EPISODES[original].action)
        for camera in cameras:
            difference = dataset.frames(i, camera).astype(int) - EPISODES[original].frames[camera]
            assert np.abs(difference).mean() < 12
    return dataset


def test_deleted_episodes_leave_a_gap_in_the_numbers_of_files(root: Path):
    delete_middle(root)
    dataset = assert_holds(root, [0, 2])
    assert dataset.tasks == ("push",)


def test_it_drops_the_seeds_so_they_are_unknown(root: Path):
    """An evaluation then cannot tell which scenes were trained on: docs/interop.md says so."""
    assert [LeRobotDataset(root).entries[i].seed for i in range(3)] == [0, 1, 2]
    delete_middle(root)
    assert [LeRobotDataset(root).entries[i].seed for i in range(2)] == [None, None]


def test_merged_rows_lie_in_one_file(root: Path):
    data, meta = sorted(root.glob("data/*/*.parquet")), sorted(root.glob("meta/episodes/*/*.parquet"))
    for paths in (data, meta):
        packed = pa.concat_tables([pq.read_table(path) for path in paths])
        for path in paths[1:]:
            path.unlink()
        pq.write_table(packed, paths[0])
    for name in ("data/file_index", "meta/episodes/file_index"):
        change_column(root, META.format(0), name, [0, 0, 0])
    assert_holds(root, [0, 1, 2])


def test_a_removed_camera_is_gone(root: Path):
    key = f"observation.images.{CAMERAS[1]}"
    shutil.rmtree(root / "videos" / key)
    info = json.loads((root / "meta/info.json").read_text())
    change_info(root, features={name: feature for name, feature in info["features"].items() if name != key})
    stats = json.loads((root / "meta/stats.json").read_text())
    stats.pop(key)
    (root / "meta/stats.json").write_text(json.dumps(stats))
    # the columns of its videos stay in meta/episodes
    assert_holds(root, [0, 1, 2], CAMERAS[:1])


@pytest.mark.parametrize(
    ("half", "complaint"),
    [
        ("data/chunk-000/file-002.parquet", r"file-002\.parquet holds 0 frames of episode 1, expected 6"),
        (META.format(0), "expected episode 1 to begin at row 7, found episode 2"),
    ],
)
def test_an_edit_that_was_interrupted_is_refused_by_name(root: Path, half: str, complaint: str):
    """Rows and metadata are numbered anew, but one of them was not written."""
    kept = {path: path.read_bytes() for path in (root / half,)}
    delete_middle(root)
    if half.startswith("data"):
        for path, data in kept.items():
            path.write_bytes(data)
    else:
        change_column(root, half, "episode_index", [0, 2])
    with pytest.raises(DatasetError, match=complaint):
        LeRobotDataset(root).episode(1)
