"""What can be wrong with a dataset on disk: each fault is put into a good one, found, and named with its file."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import change_column, change_info, copy, make_episode, numbered_frames, pack_videos, write_dataset

from video2act.data import Episode
from video2act.data.check import check_dataset
from video2act.data.pictures import encode_png
from video2act.data.video_file import encode
from video2act.programs.info import check

DATA = "data/chunk-000/file-001.parquet"
ROW = "meta/episodes/chunk-000/file-001.parquet"
VIDEO = "videos/observation.images.front/chunk-000/file-001.mp4"
KEY = "observation.images.front"
LENGTH = 12
DOCS = Path(__file__).parents[2] / "docs/data.md"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    """Datasets without fault: an mp4 per episode, one for all, images in the data files, cameras of other colours."""
    folder = tmp_path_factory.mktemp("sound")
    episodes = [make_episode(0, LENGTH), make_episode(1, LENGTH, "pull")]
    single = write_dataset(folder / "single", episodes)
    return {
        "single": single,
        "packed": pack_videos(copy(single, folder / "packed")),
        "images": write_dataset(folder / "images", episodes, storage="image"),
        "colours": write_dataset(folder / "colours", [redden(episode) for episode in episodes]),
    }


@pytest.mark.parametrize("kind", ["single", "packed", "images", "colours"])
def test_a_sound_dataset_has_no_fault(sound, kind):
    assert check_dataset(sound[kind]) == []


def redden(episode: Episode) -> Episode:
    """One camera sees more red than the other."""
    return replace(
        episode, frames=dict(episode.frames) | {"wrist": episode.frames["wrist"] // np.array([1, 2, 2], np.uint8)}
    )


def test_times_that_drift_are_no_fault(sound, tmp_path):
    """By most of a frame at every episode, as sums of rounded durations do."""
    episodes = [make_episode(i, 5 + i) for i in range(4)]
    assert check_dataset(pack_videos(write_dataset(tmp_path / "set", episodes), 0.04)) == []


@pytest.mark.parametrize("kind", [pa.float64()], ids=str)
def test_wider_numbers_are_no_fault(sound, tmp_path, kind):
    """LeRobot converts them as it reads."""
    root = copy(sound["single"], tmp_path / "set")
    retype("timestamp", kind)(root)
    assert check_dataset(root) == []


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
    encode(root / VIDEO, numbered_frames(100, LENGTH - 2), fps=20)


def slow_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH), fps=10)


def small_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH)[:, ::2, ::2], fps=20)


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


def number_index(first: int) -> Callable[[Path], object]:
    return lambda root: change_column(root, DATA, "index", list(range(first, first + LENGTH)))


def change_time(name: str, value: float | None) -> Callable[[Path], object]:
    return lambda root: change_column(root, ROW, f"videos/{KEY}/{name}", [value])


def change_feature(key: str, **changes: object) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        features = json.loads((root / "meta/info.json").read_text())["features"]
        change_info(root, features=features | {key: features[key] | changes})

    return change


def change_stats(key: str, **changes: object) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        path = root / "meta/stats.json"
        stats = json.loads(path.read_text())
        path.write_text(json.dumps(stats | {key: stats[key] | changes}))

    return change


def retype(name: str, kind: pa.DataType) -> Callable[[Path], object]:
    """A column of another type, with the same values."""

    def change(root: Path) -> None:
        table = pq.read_table(root / DATA)
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, table[name].cast(kind)), root / DATA)

    return change


def own_column(values: pa.Array, dtype: str = "float32") -> Callable[[Path], object]:
    """`next.reward` in every file, declared as one number."""

    def change(root: Path) -> None:
        features = json.loads((root / "meta/info.json").read_text())["features"]
        change_info(root, features=features | {"next.reward": {"dtype": dtype, "shape": [1], "names": None}})
        for path in (root / "data").rglob("*.parquet"):
            pq.write_table(pq.read_table(path).append_column("next.reward", values), path)

    return change


def darken_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(100, LENGTH) // 3, fps=20)


def exchange_cameras(root: Path) -> None:
    other = VIDEO.replace("front", "wrist")
    content = (root / VIDEO).read_bytes()
    (root / VIDEO).write_bytes((root / other).read_bytes())
    (root / other).write_bytes(content)


def longer_video(root: Path) -> None:
    encode(root / VIDEO, numbered_frames(0, LENGTH + 3), fps=20)


def exchange_rows(root: Path) -> None:
    first = root / ROW.replace("001", "000")
    content = first.read_bytes()
    first.write_bytes((root / ROW).read_bytes())
    (root / ROW).write_bytes(content)


def ragged_state(root: Path) -> None:
    """As many numbers as there should be, in rows of other lengths."""
    table = pq.read_table(root / DATA)
    values = table["observation.state"].to_pylist()
    values[:2] = [values[0][:2], [*values[1], values[0][2]]]
    place = table.column_names.index("observation.state")
    ragged = pa.array(values, pa.list_(pa.float32()))
    pq.write_table(table.set_column(place, "observation.state", ragged), root / DATA)


def other_png_size(root: Path) -> None:
    cells = pq.read_table(root / DATA)[KEY].to_pylist()
    cells[3]["bytes"] = encode_png(np.zeros((32, 32, 3), np.uint8))
    change_column(root, DATA, KEY, cells)


def text_for_png(root: Path) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.set_column(table.column_names.index(KEY), KEY, pa.array(["x"] * LENGTH)), root / DATA)


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
    "another version": (
        "single",
        lambda r: change_info(r, codebase_version="v2.1"),
        r"LeRobotDataset v2\.1.*convert_dataset",
    ),
    "broken info.json": ("single", lambda r: truncate(r, "meta/info.json", 0.5), "info.json is not valid json"),
    "wrong number of episodes": (
        "single",
        lambda r: change_info(r, total_episodes=5),
        "lists 2 episodes .*total_episodes=5",
    ),
    "wrong number of frames": (
        "single",
        lambda r: change_info(r, total_frames=25),
        "lists 24 frames .*total_frames=25",
    ),
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
    "stats of other data": (
        "single",
        forget_stats,
        r"stats.json: max of action\[0\] is 0, the data has 1\.\d+; 1 more",
    ),
    "file of no episode": ("single", stranger, "file-007.parquet belongs to no episode"),
    "missing mp4": ("single", lambda r: (r / VIDEO).unlink(), f"{VIDEO} does not exist"),
    "truncated mp4": ("single", lambda r: truncate(r, VIDEO, 0.6), f"{VIDEO} cannot be decoded"),
    "damaged pictures": ("single", scramble_video, f"{VIDEO}.* damaged"),
    "too few pictures": ("single", shorten_video, f"{VIDEO} holds 10 frames, its episodes 12"),
    "mixed fps": ("single", slow_video, f"{VIDEO} plays at 10 fps, but the dataset says 20 fps"),
    "pictures of another size": ("single", small_video, f"{VIDEO} has frames of 32 x 32, .* says 64 x 64"),
    "uneven pictures": ("single", uneven_video, f"{VIDEO}: its frames do not follow each other evenly"),
    "overlapping episodes": ("packed", overlap, r"episode 1 begins at 0.3 s, before the end of episode 0"),
    "index that begins again": ("single", number_index(0), f"{DATA}: index begins with 0, expected 12"),
    "index that is shifted": ("single", number_index(LENGTH + 7), f"{DATA}: index begins with 19, expected 12"),
    "negative index": ("single", number_index(-3), f"{DATA}: index begins with -3, expected 12"),
    "missing index": (
        "single",
        lambda r: change_column(r, DATA, "index", [None] * LENGTH),
        "index must hold .* 12 empty cells",
    ),
    "index of words": ("single", retype("index", pa.string()), "index is stored as string, but .* declares int64"),
    "frame_index of fractions": (
        "single",
        retype("frame_index", pa.float64()),
        "frame_index is stored as double, but .* int64",
    ),
    "wrong from_timestamp": ("single", change_time("from_timestamp", 0.5), f"{VIDEO}: episode 1 begins at 0.5 s, but"),
    "from_timestamp before the file": (
        "single",
        change_time("from_timestamp", -3.0),
        "episode 1 begins at -3 s, before the file",
    ),
    "empty from_timestamp": (
        "single",
        change_time("from_timestamp", None),
        f"{ROW}: .*from_timestamp of episode 1 is None",
    ),
    "from_timestamp that is no number": (
        "single",
        change_time("from_timestamp", np.nan),
        "from_timestamp of episode 1 is nan",
    ),
    "wrong to_timestamp": (
        "single",
        change_time("to_timestamp", 0.1),
        f"{ROW}: to_timestamp of {KEY} is 0.1 s .* expected 0.6 s",
    ),
    "to_timestamp that is no number": ("single", change_time("to_timestamp", np.nan), "to_timestamp of .* is nan s"),
    "empty to_timestamp": ("single", change_time("to_timestamp", None), "to_timestamp of .* is None s"),
    "too many pictures": ("single", longer_video, f"{VIDEO} holds 15 frames, its episodes 12: another file"),
    "exchanged cameras": ("colours", exchange_cameras, f"{VIDEO}, episode 1: .* these are the pictures of .*wrist"),
    "pictures of something else": (
        "single",
        darken_video,
        f"{VIDEO}, episode 1: a mean colour .* these are other pictures",
    ),
    "negative std": (
        "single",
        change_stats("action", std=[-1.0, -1.0]),
        "of action must be finite and std not negative",
    ),
    "std of other data": (
        "single",
        change_stats("action", std=[0.0, 0.0]),
        r"std of action\[0\] is 0, the data has 0\.\d+; 1 more",
    ),
    "stats that are words": ("single", change_stats("action", max="abc"), "max of action must be numbers, found abc"),
    "ragged stats": ("single", change_stats("action", max=[[1], [1, 2]]), "max of action must be numbers"),
    "stats that are a list": (
        "single",
        lambda r: (r / "meta/stats.json").write_text("[1]"),
        "must hold a table of features",
    ),
    "flat stats of pictures": ("single", change_stats(KEY, mean=[0, 0, 0]), f"statistics of {KEY} have the shape"),
    "stats of pictures to 255": (
        "single",
        change_stats(KEY, mean=[[[120.0]]] * 3),
        f"statistics of {KEY} are not .* 0 to 1",
    ),
    "own column with NaN": (
        "single",
        own_column(pa.array([np.nan] * LENGTH, pa.float32())),
        "row 0: next.reward is nan",
    ),
    "own column without values": (
        "single",
        own_column(pa.nulls(LENGTH, pa.float32())),
        "next.reward must hold numbers, .* none miss",
    ),
    "own column of words": (
        "single",
        own_column(pa.array(["x"] * LENGTH)),
        "next.reward is stored as string, but .* float32",
    ),
    "own column of another width": (
        "single",
        own_column(pa.array([[1.0, 2.0]] * LENGTH, pa.list_(pa.float32(), 2))),
        r"next.reward has 2 numbers a row, but .* the shape \(1,\)",
    ),
    "own text without a word": (
        "single",
        own_column(pa.nulls(LENGTH, pa.string()), "string"),
        "row 0: next.reward is empty",
    ),
    "unknown dtype": ("single", change_feature("action", dtype="float99"), "info.json: action has the dtype 'float99'"),
    "ragged state": ("single", ragged_state, "observation.state must hold numbers, equally many in each row"),
    "episodes out of order": ("single", exchange_rows, "file-001.parquet: episode 0 comes after episode 1"),
    "empty length": (
        "single",
        lambda r: change_column(r, ROW, "length", [None]),
        f"{ROW}: length of episode 1 is None",
    ),
    "empty tasks": ("single", lambda r: change_column(r, ROW, "tasks", [None]), f"{ROW}: tasks of episode 1 is None"),
    "task without a sentence": (
        "single",
        lambda r: change_column(r, "meta/tasks.parquet", "task", [None, "pull"]),
        "tasks.parquet: expected a task_index and a sentence in each row, found 0 and None",
    ),
    "path without a place": (
        "single",
        lambda r: change_info(r, data_path="data/{foo}.parquet"),
        "info.json: data_path must be",
    ),
    "path that is a number": ("single", lambda r: change_info(r, video_path=3), "info.json: video_path must be"),
    "endless fps": ("single", lambda r: change_info(r, fps=float("inf")), "info.json: fps must be positive, got inf"),
    "chunks of nothing": ("single", lambda r: change_info(r, chunks_size=0), "chunks_size must be at least 1, got 0"),
    "camera without a size": (
        "single",
        change_feature(KEY, shape=[]),
        f"the shape of {KEY} must be height, width and channels",
    ),
    "rate that is a word": (
        "single",
        change_feature(KEY, info={"video.fps": "20"}),
        f"video.fps of {KEY} must be a number",
    ),
    "info that is a list": ("single", change_feature(KEY, info=[1]), f"the info of {KEY} must be a table"),
    "a later version": (
        "single",
        lambda r: change_info(r, codebase_version="v4.0"),
        "v4.0, newer than v3.0, .* update video2act",
    ),
    "png of another size": ("images", other_png_size, f"{DATA}, row 3: .* 32 x 32 px, expected 64 x 64"),
    "words for png": ("images", text_for_png, f"{DATA}: {KEY} must hold images"),
    "damaged png": ("images", scramble_png, rf"{DATA}, row 3: {KEY} is not a readable image"),
}


def test_the_documentation_counts_the_table():
    assert f"{len(CORRUPTIONS)} kinds in all" in DOCS.read_text()


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


def test_a_nan_is_one_fault(sound, tmp_path):
    """The statistics were called wrong, too: they were compared with those of the other episodes."""
    root = copy(sound["single"], tmp_path / "set")
    CORRUPTIONS["NaN in the state"][1](root)
    assert len(check_dataset(root)) == 1


def test_what_cannot_be_decoded_names_its_file_and_hides_nothing(sound, tmp_path, monkeypatch):
    root = copy(sound["single"], tmp_path / "set")
    forget_stats(root)
    monkeypatch.setattr("video2act.data.check_rows.read_frames", lambda *_, **__: [][0])
    found = check_dataset(root)
    assert any(line.startswith(f"{root / DATA} holds what cannot be read (IndexError") for line in found)
    monkeypatch.undo()
    monkeypatch.setattr("video2act.data.check_pictures.VideoReader", lambda *_, **__: {}["codec"])
    found = check_dataset(root)
    assert any(line.startswith(f"{root / VIDEO} holds what cannot be read (KeyError") for line in found)
    assert any("max of action" in line for line in found)
