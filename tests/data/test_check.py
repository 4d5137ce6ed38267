"""What can be wrong with a dataset on disk: each fault is put into a good one, found, and named with its file."""

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import change_column, change_info, copy, make_episode, numbered_frames, pack_videos, write_dataset

from video2act.data.check import check_dataset
from video2act.data.video_file import encode
from video2act.describe import check

DATA = "data/chunk-000/file-001.parquet"
ROW = "meta/episodes/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"
KEY = "observation.images.front"
LENGTH = 12


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    """Three datasets without fault: an mp4 per episode, one for all, images in the data files."""
    folder = tmp_path_factory.mktemp("sound")
    episodes = [make_episode(0, LENGTH), make_episode(1, LENGTH, "pull")]
    single = write_dataset(folder / "single", episodes)
    return {
        "single": single,
        "packed": pack_videos(copy(single, folder / "packed")),
        "images": write_dataset(folder / "images", episodes, storage="image"),
    }


@pytest.mark.parametrize("kind", ["single", "packed", "images"])
def test_a_sound_dataset_has_no_fault(sound, kind):
    assert check_dataset(sound[kind]) == []


def truncate(root: Path, file: str, share: float) -> None:
    content = (root / file).read_bytes()
    (root / file).write_bytes(content[: int(share * len(content))])


def scramble_video(root: Path) -> None:
    """A few bytes in the middle of the pictures: the index at the end stays whole."""
    with av.open(str(root / VIDEO)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    content = bytearray((root / VIDEO).read_bytes())
    content[places[5] + 12 : places[5] + 40] = bytes(range(28))
    (root / VIDEO).write_bytes(content)


def shorten_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH - 2), 20)


def slow_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH), 10)


def small_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH)[:, ::2, ::2], 20)


def uneven_video(root: Path) -> None:
    with av.open(str(root / VIDEO), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        # as late in the end as in the beginning, so that the mean rate is right
        for number, image in enumerate(numbered_frames(100, LENGTH)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = 2 * number + (number in (4, 5))
            frame.time_base = stream.codec_context.time_base = Fraction(1, 40)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def number_vectors(root: Path, name: str, frame: int, value: float) -> None:
    values = pq.read_table(root / DATA)[name].to_pylist()
    values[frame][1] = value
    change_column(root, DATA, name, values)


def duplicate_index(root: Path) -> None:
    values = pq.read_table(root / DATA)["index"].to_pylist()
    change_column(root, DATA, "index", [*values[:4], values[3], *values[5:]])


def drop_rows(root: Path) -> None:
    pq.write_table(pq.read_table(root / DATA).slice(0, LENGTH - 1), root / DATA)


def drop_column(root: Path) -> None:
    pq.write_table(pq.read_table(root / DATA).drop_columns(["action"]), root / DATA)


def add_column(root: Path) -> None:
    pq.write_table(pq.read_table(root / DATA).append_column("next.reward", pa.nulls(LENGTH)), root / DATA)


def narrow_action(root: Path) -> None:
    table = pq.read_table(root / DATA)
    narrow = pa.array(np.zeros((LENGTH, 1), np.float32).tolist(), pa.list_(pa.float32(), 1))
    pq.write_table(table.set_column(table.column_names.index("action"), "action", narrow), root / DATA)


def wall_clock(root: Path) -> None:
    change_column(root, DATA, "timestamp", [1000 + k / 20 + 0.003 * (k % 3) for k in range(LENGTH)])


def renumber_tasks(root: Path) -> None:
    change_column(root, "meta/tasks.parquet", "task_index", [1, 0])


def forget_stats(root: Path) -> None:
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["max"] = [0.0, 0.0]
    path.write_text(json.dumps(stats))


def stranger(root: Path) -> None:
    (root / "data/chunk-000/file-007.parquet").write_bytes((root / DATA).read_bytes())


def scramble_png(root: Path) -> None:
    cells = pq.read_table(root / DATA)[KEY].to_pylist()
    cells[3]["bytes"] = cells[3]["bytes"][:200]
    change_column(root, DATA, KEY, cells)


def overlap(root: Path) -> None:
    change_column(root, ROW, f"videos/{KEY}/from_timestamp", [0.3])


CORRUPTIONS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "another version": ("single", lambda r: change_info(r, codebase_version="v2.1"), r"LeRobotDataset v2\.1.*convert_dataset"),
    "broken info.json": ("single", lambda r: truncate(r, "meta/info.json", 0.5), "info.json is not valid json"),
    "wrong number of episodes": ("single", lambda r: change_info(r, total_episodes=5), "lists 2 episodes .*total_episodes=5"),
    "wrong number of frames": ("single", lambda r: change_info(r, total_frames=25), "lists 24 frames .*total_frames=25"),
    "wrong number of tasks": ("single", lambda r: change_info(r, total_tasks=3), "lists 2 tasks .*total_tasks=3"),
    "missing tasks": ("single", lambda r: (r / "meta/tasks.parquet").unlink(), "tasks.parquet does not exist"),
    "tasks out of order": ("single", renumber_tasks, r"task_index \[1, 0\], expected 0, 1, 2"),
    "unknown task": ("single", lambda r: change_column(r, DATA, "task_index", [9] * LENGTH), "file-001.*task_index 9"),
    "missing parquet": ("single", lambda r: (r / DATA).unlink(), f"{DATA} does not exist"),
    "truncated parquet": ("single", lambda r: truncate(r, DATA, 0.7), f"{DATA} is not a readable parquet file"),
    "missing row": ("single", drop_rows, f"{DATA} holds 11 frames of episode 1, expected 12"),
    "missing column": ("single", drop_column, f"{DATA} lacks the column action"),
    "undeclared column": ("single", add_column, f"{DATA} has the column next.reward, which .* does not declare"),
    "column of another size": ("single", narrow_action, r"action has 1 numbers a row, .* declares the shape \(2,\)"),
    "NaN in the state": (
        "single",
        lambda r: number_vectors(r, "observation.state", 3, float("nan")),
        r"episode 1, frame 3: observation.state\[1\] is nan",
    ),
    "infinite action": (
        "single",
        lambda r: number_vectors(r, "action", 5, float("inf")),
        r"episode 1, frame 5: action\[1\] is inf",
    ),
    "duplicate index": ("single", duplicate_index, f"{DATA}, row 4: index is 15 after 15"),
    "duplicate frame": (
        "single",
        lambda r: change_column(r, DATA, "frame_index", [0, 1, 1, *range(3, LENGTH)]),
        "episode 1 are not in the order of frame_index",
    ),
    "wall clock for a time": ("single", wall_clock, r"episode 1, frame 0: timestamp is 1000 s, expected 0 s"),
    "missing episode row": ("single", lambda r: (r / ROW).unlink(), "lists 1 episodes .*total_episodes=2"),
    "gap between episodes": (
        "single",
        lambda r: change_column(r, ROW, "dataset_from_index", [13]),
        "expected episode 1 to begin at row 12",
    ),
    "missing stats": ("single", lambda r: (r / "meta/stats.json").unlink(), "stats.json does not exist"),
    "stats of other data": ("single", forget_stats, r"stats.json: max of action is \[0.0, 0.0\]"),
    "file of no episode": ("single", stranger, "file-007.parquet belongs to no episode"),
    "missing mp4": ("single", lambda r: (r / VIDEO).unlink(), f"{VIDEO} does not exist"),
    "truncated mp4": ("single", lambda r: truncate(r, VIDEO, 0.6), f"{VIDEO} cannot be decoded"),
    "damaged pictures": ("single", scramble_video, f"{VIDEO}.* damaged"),
    "too few pictures": ("single", shorten_video, f"{VIDEO} holds 10 frames, its episodes 12"),
    "mixed fps": ("single", slow_video, f"{VIDEO} plays at 10 fps, but the dataset says 20 fps"),
    "pictures of another size": ("single", small_video, f"{VIDEO} has frames of 32 x 32, .* says 64 x 64"),
    "uneven pictures": ("single", uneven_video, f"{VIDEO}: its frames do not follow each other evenly"),
    "overlapping episodes": ("packed", overlap, r"episode 1 begins at 0.3 s, before the end of episode 0"),
    "damaged png": ("images", scramble_png, rf"{DATA}, row 3: {KEY} is not a readable image"),
}


def test_the_table_is_long_enough():
    assert len(CORRUPTIONS) >= 20


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_and_named(sound, tmp_path, name):
    kind, corrupt, message = CORRUPTIONS[name]
    root = copy(sound[kind], tmp_path / "set")
    corrupt(root)
    with pytest.raises(ValueError, match=message):
        check(root)


def test_faults_do_not_hide_each_other(sound, tmp_path):
    root = copy(sound["single"], tmp_path / "set")
    corrupted = ("NaN in the state", "missing stats", "too few pictures", "wrong number of tasks")
    for name in corrupted:
        CORRUPTIONS[name][1](root)
    found = "\n".join(check_dataset(root))
    for name in corrupted:
        assert re.search(CORRUPTIONS[name][2], found), name
