"""Encoded pictures in parquet files: which row groups are read, and what stays in memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import CAMERAS, change_column, make_episode, write_dataset

from video2act.data import LeRobotDataset, picture_groups
from video2act.data.check import check_dataset
from video2act.data.dataset_files import DatasetError
from video2act.data.picture_groups import GroupCache

LENGTHS = (4, 5, 6)


def column(num_bytes: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(np.zeros(num_bytes, np.uint8))])


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Three episodes in one row group of one file, as LeRobot's converter writes them."""
    root = write_dataset(tmp_path / "set", [make_episode(i, n) for i, n in enumerate(LENGTHS)], storage="image")
    files = sorted(root.glob("data/*/*.parquet"))
    pq.write_table(pa.concat_tables(map(pq.read_table, files)), files[0])
    for i in range(1, 3):
        files[i].unlink()
        change_column(root, f"meta/episodes/chunk-000/file-{i:03d}.parquet", "data/file_index", [0])
    return root


@pytest.fixture
def num_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the row groups that were read."""
    found, read = [], picture_groups.read_groups

    def counted(*args, **options):
        found.extend(options["groups"])
        return read(*args, **options)

    monkeypatch.setattr(picture_groups, "read_groups", counted)
    return found


def test_a_large_row_group_is_not_read_again_for_every_frame(joined: Path, num_read: list[int]):
    """Each frame of a converted dataset took as long as its whole file."""
    dataset = LeRobotDataset(joined)
    for i, length in enumerate(LENGTHS):
        expected = make_episode(i, length).frames
        for camera in CAMERAS:
            for k in range(length):
                assert np.array_equal(dataset.frames(i, camera, numbers=[k]), expected[camera][[k]])
    assert num_read == [0] * len(CAMERAS)


def test_a_check_reads_each_row_group_once_and_lists_an_image_of_each_episode(joined: Path, num_read: list[int]):
    """It read the whole file for each episode."""
    assert check_dataset(joined) == []
    assert num_read == [0] * len(CAMERAS)
    path = next(joined.glob("data/*/*.parquet"))
    table = pq.read_table(path)
    key = "observation.images.front"
    cells = table[key].to_pylist()
    for row in (1, 2, 9):
        cells[row]["bytes"] = b"no picture"
    place = table.column_names.index(key)
    pq.write_table(table.set_column(place, key, pa.array(cells, table.schema.field(key).type)), path)
    faults = check_dataset(joined)
    assert [fault.split(":")[0] for fault in faults] == [f"{path}, row {row}" for row in (1, 9)]


def test_a_file_that_was_replaced_is_read_again(joined: Path):
    dataset = LeRobotDataset(joined)
    dataset.frames(0, "front")
    path = next(joined.glob("data/*/*.parquet"))
    table = pq.read_table(path)
    front, wrist = (table.column_names.index(f"observation.images.{camera}") for camera in CAMERAS)
    pq.write_table(table.set_column(front, table.column_names[front], table[wrist]), path)
    assert np.array_equal(dataset.frames(0, "front"), make_episode(0, LENGTHS[0]).frames["wrist"])


def test_kept_groups_are_bounded_but_for_the_last():
    cache, calls = GroupCache(max_bytes=100), []

    def get(key: str, num_bytes: int = 40) -> None:
        cache.column(key, lambda: calls.append(key) or column(num_bytes))

    for key in "abacb":  # c takes the place of b, which was asked for before a
        get(key)
    assert calls == ["a", "b", "c", "b"]
    assert cache.num_bytes == 80
    get("large", 1000)
    get("large", 1000)
    assert calls[4:] == ["large"]
    assert cache.num_bytes == 1000
    get("a")
    assert cache.num_bytes == 40


def test_two_threads_read_a_group_once_and_an_error_is_not_kept():
    cache, calls = GroupCache(), []

    def slow() -> pa.ChunkedArray:
        calls.append(1)
        sleep(0.1)
        if len(calls) == 1:
            raise DatasetError("damaged")
        return column(8)

    with pytest.raises(DatasetError, match="damaged"):
        cache.column("a", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: cache.column("a", slow), range(4)))
    assert len(calls) == 2
    assert all(each is found[0] for each in found)
