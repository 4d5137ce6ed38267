"""A file of a few kilobytes that claims to be large, or that leads elsewhere, is refused before it takes memory."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import change_info, make_episode, write_dataset

from video2act.data import DatasetError, LeRobotDataset
from video2act.data.check import check_dataset
from video2act.data.video_boxes import MAX_EDITS

KEY = "observation.images.front"
VIDEO = f"videos/{KEY}/chunk-000/file-000.mp4"
EPISODES, TASKS = "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"
DATA = "data/chunk-000/file-000.parquet"
MANY = 3 * 10**7


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("hostile_files") / "set", [make_episode(0)])


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def put(path: Path, name: bytes, offset: int, *numbers: int) -> None:
    """Write numbers into the first box of a name; `offset` counts from the name."""
    content = bytearray(path.read_bytes())
    place = content.index(name) + offset
    content[place : place + 4 * len(numbers)] = struct.pack(f">{len(numbers)}I", *numbers)
    path.write_bytes(content)


def fragmented(path: Path) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as film:
        stream = film.add_stream("libx264", rate=20)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(7):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = number
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))


def claim_in_a_fragment(path: Path) -> None:
    fragmented(path)
    put(path, b"trun", 4, 1, MANY)


CLAIMS: dict[str, Callable[[Path], None]] = {
    "equal sizes": lambda path: put(path, b"stsz", 8, 10, MANY),
    "times": lambda path: put(path, b"stts", 8, 1, MANY),
    "a fragment": claim_in_a_fragment,
    "pieces": lambda path: put(path, b"elst", 8, MAX_EDITS + 1),
    "a compressed tree": lambda path: put(path, b"mdia", 0, int.from_bytes(b"cmov", "big")),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_video_that_claims_more_frames_than_it_has_bytes(
    claim: Callable[[Path], None], root: Path, monkeypatch: pytest.MonkeyPatch
):
    """3 KB took 2 GB when FFmpeg opened them, or minutes."""
    claim(root / VIDEO)
    monkeypatch.setattr("video2act.data.video_file.av.open", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(DatasetError, match=r"file-000\.mp4 claims \d+ (frames|pieces), more than its \d+ bytes"):
        LeRobotDataset(root).frames(0, "front")


def test_a_video_in_fragments_is_read(root: Path):
    fragmented(root / VIDEO)
    assert LeRobotDataset(root).frames(0, "front").shape == (7, 64, 64, 3)


def test_a_list_of_films_is_not_followed(root: Path):
    """FFmpeg knows playlists by their content, whatever their name is."""
    shutil.copy(root / VIDEO, root / VIDEO.replace("file-000", "other"))
    for text in ("ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n"):
        (root / VIDEO).write_text(text)
        with pytest.raises(DatasetError, match=r"file-000\.mp4 cannot be decoded"):
            LeRobotDataset(root).frames(0, "front")


def shared(text: str | bytes, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


def replace_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**30)


def tasks_that_share(root: Path) -> None:
    change_info(root, total_tasks=100)
    table = pa.table({"task_index": pa.array(range(100), pa.int64()), "task": shared("a" * 10**6, 100)})
    pq.write_table(table, root / TASKS, compression="zstd", dictionary_pagesize_limit=2**30)


def one_long_task(root: Path) -> None:
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": ["a" * 10**8]})
    pq.write_table(table, root / TASKS, compression="zstd")


def a_list_that_shares(root: Path) -> None:
    texts = pa.ListArray.from_arrays(pa.array([0, 100], pa.int32()), shared("a" * 10**6, 100))
    replace_column(root / EPISODES, "tasks", texts)


def pictures_that_share(root: Path) -> None:
    shutil.rmtree(root)
    write_dataset(root, [make_episode(0)], storage="image")
    picture = pq.read_table(root / DATA)[KEY].to_pylist()[0]["bytes"] + bytes(2 * 10**7)
    cells = pa.StructArray.from_arrays([shared(picture, 7), pa.array(["p"] * 7)], ["bytes", "path"])
    replace_column(root / DATA, KEY, cells)


@pytest.mark.parametrize("edit", [tasks_that_share, one_long_task, a_list_that_shares, pictures_that_share])
def test_texts_and_pictures_far_larger_than_their_file(edit: Callable[[Path], None], root: Path):
    """A column of one long text that all rows share is written out as that many texts."""
    edit(root)
    with pytest.raises(DatasetError, match=r"holds \d{9} bytes of texts or pictures, far more than its size"):
        LeRobotDataset(root).frames(0, "front")
    assert any("bytes of texts or pictures" in fault for fault in check_dataset(root))


def test_texts_in_several_row_groups_are_read(tmp_path: Path):
    root = write_dataset(tmp_path / "set", [make_episode(i, instruction=f"push {i}") for i in range(3)])
    files = sorted((root / "meta/episodes").glob("*/*.parquet"))
    names = pq.read_table(files[0]).column_names
    table = pa.concat_tables([pq.read_table(path).select(names) for path in files])
    for path in files[1:]:
        path.unlink()
    pq.write_table(table, files[0], row_group_size=1)
    assert [entry.tasks for entry in LeRobotDataset(root).entries] == [("push 0",), ("push 1",), ("push 2",)]


@pytest.mark.parametrize("content", ["abc", [1, 2], 7], ids=["text", "list", "number"])
def test_a_picture_whose_bytes_are_none_names_its_file(content: Any, tmp_path: Path):
    """It was a TypeError that named neither file nor row."""
    root = write_dataset(tmp_path / "set", [make_episode(0)], storage="image")
    replace_column(root / DATA, KEY, pa.array([{"bytes": content, "path": None}] * 7))
    expected = rf"{DATA}, row 0: {KEY} holds an image as (str|list|int), expected bytes; record it again"
    with pytest.raises(DatasetError, match=expected):
        LeRobotDataset(root).frames(0, "front")
    assert any("expected bytes" in fault for fault in check_dataset(root))


def test_a_number_that_is_too_large_for_a_float32_is_named_as_it_was_recorded(root: Path):
    values = pq.read_table(root / DATA)["action"].to_pylist()
    values[3] = [1e300, 0.0]
    replace_column(root / DATA, "action", pa.array(values, pa.list_(pa.float64())))
    with pytest.raises(DatasetError, match=r"frame 3: action\[0\] is 1e\+300, which is too large for a float32"):
        LeRobotDataset(root)
