"""The parquet files of a LeRobotDataset v3.0, read into plain arrays and checked.

Foreign datasets differ in what does not matter: the order of columns, columns of their own, the name of the index of
`tasks.parquet`, lists of fixed or of any size. They are read alike. What does matter (counts, gaps, numbers that are
not numbers) is an error that names file, episode and frame.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from video2act.config.checks import shown
from video2act.data.dataset_files import (
    COPY,
    MAX_INDEX,
    RECORD,
    DatasetError,
    episode_files,
    open_parquet,
    read_groups,
    unreadable,
)
from video2act.data.lerobot_format import TASKS_PATH, DatasetInfo
from video2act.files.differences import short

SEED, ENVIRONMENT, SEEN, UNSEEN = "seed", "environment", "instructions/seen", "instructions/unseen"
"""columns of our own in `meta/episodes`: the seed and the environment that the episode was recorded from, and other
sentences for the same task, to train on and to be evaluated with"""

OWN = (SEED, ENVIRONMENT, SEEN, UNSEEN)

MAX_TIME_S, MAX_NUMBER = 10**9, 2**53
"""of a time, and of numbers of rows and tasks"""
INDEX_COLUMNS = ("episode_index", "frame_index", "timestamp", "task_index")
"""of a data file, which say where a row belongs"""
MANY_ROWS = 10**4
"""in a file: above, its columns are read in parallel, which takes longer for small ones"""
NONE: Mapping[str, int] = {}


@dataclass(frozen=True)
class VideoSpan:
    """Where the frames of one episode and camera lie."""

    file: Path
    """relative to the dataset"""
    start_s: float
    """when the episode begins in the file, according to its writer"""
    frames_before: int
    """of the dataset's earlier episodes in the file"""
    frames_in_file: int
    """of all of the dataset's episodes in the file"""

    def first_frame(self, num_frames: int, fps: int) -> int:
        """The number of the episode's first frame in a file of `num_frames`.

        By counting, if the episodes fill the file: times drift where a writer added up rounded durations. A file that
        holds more than this dataset's episodes can only be read by time.
        """
        return self.frames_before if num_frames == self.frames_in_file else round(self.start_s * fps)


@dataclass(frozen=True)
class EpisodeEntry:
    """One row of `meta/episodes`."""

    index: int
    begin: int
    """its first row in the dataset, over all files"""
    length: int
    tasks: tuple[str, ...]
    data_file: Path
    """relative to the dataset"""
    videos: dict[str, VideoSpan]
    """camera -> where its frames are"""
    seed: int | None
    """what it was recorded from, if this project recorded it"""
    environment: str | None = None
    """where, if the dataset holds several"""
    seen: tuple[str, ...] = ()
    """other sentences for the task, to train on"""
    unseen: tuple[str, ...] = ()
    """sentences kept for evaluation"""


@dataclass(frozen=True)
class FrameTable:
    """The rows of one episode."""

    state: np.ndarray
    action: np.ndarray | None
    timestamps: np.ndarray
    task_index: np.ndarray
    first_row: int
    """of the episode in its data file"""


def read_table(
    path: Path, columns: Collection[str] | None = None, *, max_rows: int | None = None, sizes: Mapping[str, int] = NONE
) -> pa.Table:
    """Read a parquet file, or those of its columns that exist. Arguments and errors as for `open_parquet`."""
    with open_parquet(path, columns, max_rows=max_rows, sizes=sizes) as file:
        try:
            # not pq.read_table: it would take a folder named key=value above the file for a column
            groups, is_large = range(file.metadata.num_row_groups), file.metadata.num_rows > MANY_ROWS
            return read_groups(path, file, columns, groups=groups, use_threads=is_large)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, error) from error


def read_rows(root: Path, columns: Iterable[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The rows of `meta/episodes` and their files: episode_index, and those of these columns that exist."""
    names = list(dict.fromkeys(("episode_index", *columns)))
    return [(path, row) for path in episode_files(root) for row in read_table(path, names).to_pylist()]


def read_tasks(root: Path, info: DatasetInfo) -> dict[int, str]:
    """task_index -> instruction."""
    path = root / TASKS_PATH
    table = read_table(path, max_rows=info.total_tasks)
    name = next((column for column in ("task", "__index_level_0__") if column in table.column_names), None)
    if name is None or "task_index" not in table.column_names:
        found = ", ".join(table.column_names) or "none"
        raise DatasetError(f"{path} needs the columns task and task_index, found {found}")
    rows = list(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))
    for number, sentence in rows:
        if type(number) is not int or not isinstance(sentence, str):
            found = f"found {shown(number)} and {shown(sentence)}"
            raise DatasetError(f"{path}: expected a task_index and a sentence in each row, {found}", COPY)
    return dict(rows)


def read_episodes(root: Path, info: DatasetInfo) -> tuple[EpisodeEntry, ...]:
    """All complete episodes, in order. Raises DatasetError: the rows contradict each other or `info.json`."""
    folder, videos = root / "meta" / "episodes", info.videos
    columns = ["episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"]
    columns += ["data/chunk_index", "data/file_index"]
    fields = ("chunk_index", "file_index", "from_timestamp")
    columns += [f"videos/{key}/{field}" for key in videos.values() for field in fields]
    rows: list[dict[str, Any]] = []
    for path in episode_files(root):
        table = read_table(path, [*columns, *OWN], max_rows=info.total_episodes - len(rows))
        if missing := ", ".join(name for name in columns if name not in table.column_names):
            raise DatasetError(f"{path} lacks the column {short(missing)}; the dataset was not written completely")
        found = table.to_pylist()
        for row in found:
            for name, value in row.items():
                if expected := _expected(name, value):
                    where = f"{path}: {name} of episode {row['episode_index']}"
                    raise DatasetError(f"{where} is {value!r}, expected {expected}", COPY)
        rows += found
    rows.sort(key=lambda row: row["episode_index"])
    # one row more is an episode whose recording was interrupted just before info.json made it count
    total = info.total_episodes
    if len(rows) not in (total, total + 1):
        raise DatasetError(f"{folder} lists {len(rows)} episodes but meta/info.json says total_episodes={total}", COPY)
    rows, begin = rows[:total], 0
    for i, row in enumerate(rows):
        first, end = row["dataset_from_index"], row["dataset_to_index"]
        if row["episode_index"] != i or row["length"] < 1 or (first, end) != (begin, begin + row["length"]):
            found_row = f"found episode {row['episode_index']} of {row['length']} frames in rows {first}..{end}"
            raise DatasetError(f"{folder}: expected episode {i} to begin at row {begin}, {found_row}", COPY)
        begin = end
    if begin != info.total_frames:
        total = f"meta/info.json says total_frames={info.total_frames}"
        raise DatasetError(f"{folder} lists {begin} frames but {total}", COPY)
    spans = {camera: _spans(info, key, rows=rows) for camera, key in videos.items()}
    return tuple(
        EpisodeEntry(
            index=i,
            begin=row["dataset_from_index"],
            length=row["length"],
            tasks=tuple(row["tasks"]),
            data_file=info.data_file(row["data/chunk_index"], row["data/file_index"]),
            videos={camera: spans[camera][i] for camera in spans},
            seed=row.get(SEED),
            environment=row.get(ENVIRONMENT),
            seen=tuple(row.get(SEEN) or ()),
            unseen=tuple(row.get(UNSEEN) or ()),
        )
        for i, row in enumerate(rows)
    )


def read_frames(root: Path, info: DatasetInfo, *, file: Path, episodes: list[EpisodeEntry]) -> list[FrameTable]:
    """What one data file holds of these episodes. Raises DatasetError: rows are missing or out of order, or a value is
    not a finite number."""
    path = root / file
    vectors = (*info.state, *info.action)
    columns = [*dict.fromkeys((*INDEX_COLUMNS, *vectors))]
    sizes = {name: info.features[name].size for name in columns if name in info.features}
    table = read_table(path, columns, max_rows=sum(episode.length for episode in episodes), sizes=sizes)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DatasetError(f"{path} lacks the column {', '.join(missing)}, which meta/info.json declares")
    arrays = {name: _array(path, table, name=name) for name in columns}
    arrays |= {name: _one_each(path, arrays[name], name=name) for name in INDEX_COLUMNS}
    for name in ("episode_index", "frame_index", "task_index"):
        _check_whole(path, arrays[name], name=name)
    # sorted once: a file of thousands of episodes is not searched for each of them
    order = np.argsort(arrays["episode_index"], kind="stable")
    numbers, wanted = arrays["episode_index"][order], [episode.index for episode in episodes]
    spans = zip(np.searchsorted(numbers, wanted), np.searchsorted(numbers, wanted, side="right"), strict=True)
    tables = []
    for episode, (begin, end) in zip(episodes, spans, strict=True):
        rows = order[begin:end]
        if len(rows) != episode.length:
            found = f"{len(rows)} frames of episode {episode.index}, expected {episode.length}"
            raise DatasetError(f"{path} holds {found}", COPY)
        frames = arrays["frame_index"][rows]
        if rows[-1] - rows[0] + 1 != len(rows) or not np.array_equal(frames, np.arange(len(rows))):
            what = f"the rows of episode {episode.index} are not in the order of frame_index"
            raise DatasetError(f"{path}: {what}; sort the file")
        parts = {name: _vectors(path, info, values=arrays[name][rows], name=name, episode=episode) for name in vectors}
        empty = np.zeros((episode.length, 0), np.float32)
        state, action = (
            np.concatenate([empty, *(parts[key] for key in keys)], axis=1) for keys in (info.state, info.action)
        )
        timestamps = arrays["timestamp"][rows].astype(np.float32)
        tasks = arrays["task_index"][rows].astype(np.int64)
        tables.append(FrameTable(state, action if info.action else None, timestamps, tasks, int(rows[0])))
    return tables


def read_column(root: Path, file: Path, *, name: str, first: int, count: int) -> np.ndarray | list[str]:
    """Rows `first .. first + count - 1` of any column of a data file, `[count ...]`, or a list of strings. Raises
    FileNotFoundError, DatasetError: no such file or column, or what it holds is not a table of numbers."""
    path = root / file
    table = read_table(path, [name])
    if name not in table.column_names:
        raise DatasetError(f"{path} has no column {name!r}")
    rows = table.slice(first, count)
    kind = table.schema.field(name).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return _array(path, rows, name=name)
    texts: list[Any] = rows[name].to_pylist()
    if None in texts:
        where = f"{path}, row {first + texts.index(None)}"
        raise DatasetError(f"{where}: {name} is empty, expected a text; record the episode again")
    return texts


def _spans(info: DatasetInfo, key: str, *, rows: list[dict[str, Any]]) -> dict[int, VideoSpan]:
    """Where each episode lies in the videos of one camera; within a file in the order of time."""
    spans: dict[int, VideoSpan] = {}
    files: dict[Path, list[dict[str, Any]]] = {}
    for row in rows:
        file = info.video_file(key, row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"])
        files.setdefault(file, []).append(row)
    for file, episodes in files.items():
        before, total = 0, sum(row["length"] for row in episodes)
        for row in sorted(episodes, key=lambda row: row[f"videos/{key}/from_timestamp"]):
            start_s = row[f"videos/{key}/from_timestamp"]
            spans[row["episode_index"]] = VideoSpan(file, start_s, before, total)
            before += row["length"]
    return spans


def _expected(name: str, value: Any) -> str:
    """What a cell of `meta/episodes` must hold; empty if it does."""
    if name in OWN and value is None:
        return ""
    if name == ENVIRONMENT:
        return "" if isinstance(value, str) else "the name of an environment"
    if name in ("tasks", SEEN, UNSEEN):
        is_right = isinstance(value, list) and all(isinstance(task, str) for task in value)
        return "" if is_right else "a list of sentences"
    if name.endswith("from_timestamp"):
        return "" if isinstance(value, (int, float)) and abs(value) < MAX_TIME_S else "a time in seconds"
    if not isinstance(value, int) or isinstance(value, bool):
        return "a whole number"
    is_outside = name.endswith(("chunk_index", "file_index")) and not 0 <= value < MAX_INDEX
    return f"a whole number from 0 to {MAX_INDEX - 1}" if is_outside else ""


def _vectors(path: Path, info: DatasetInfo, *, values: np.ndarray, name: str, episode: EpisodeEntry) -> np.ndarray:
    table, feature = values.reshape(episode.length, -1), info.features[name]
    if table.shape[1] != feature.size:
        declared = f"but meta/info.json declares the shape {feature.shape}"
        raise DatasetError(f"{path}: {name} has {table.shape[1]} numbers a row, {declared}")
    is_bad = ~(np.abs(table.astype(np.float64)) <= np.finfo(np.float32).max)
    if is_bad.any():
        frame, i = np.argwhere(is_bad)[0]
        what = f"episode {episode.index}, frame {frame}: {name}[{i}] is {table[frame, i]}"
        why = "is too large for a float32" if np.isfinite(table[frame, i]) else "training would spread"
        raise DatasetError(f"{path}: {what}, which {why}; remove the episode or record it again")
    return table.astype(np.float32)


def _check_whole(path: Path, values: np.ndarray, *, name: str) -> None:
    is_near = np.abs(values.astype(np.float64)) < MAX_NUMBER
    is_wrong = ~is_near | (values != np.where(is_near, values, 0).astype(np.int64))
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise DatasetError(f"{path}, row {row}: {name} is {values[row]}, expected a whole number", COPY)


def _one_each(path: Path, values: np.ndarray, *, name: str) -> np.ndarray:
    """One number for each row, which some writers put into a list of one."""
    if values.ndim > 1 and values.shape[1] != 1:
        raise DatasetError(f"{path}: {name} has {values.shape[1]} numbers a row, expected one", COPY)
    return values.reshape(len(values))


def _array(path: Path, table: pa.Table, *, name: str) -> np.ndarray:
    """A column as `[rows]` or `[rows values]`, whatever lists its cells are nested in."""
    chunks = table[name].chunks
    column = pa.concat_arrays(chunks) if chunks else pa.array([], table[name].type)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage  # `datasets` marks its arrays of several axes
    values, num_missing, is_ragged = column, column.null_count, False
    while is_list(values.type):
        if not pa.types.is_fixed_size_list(values.type):
            is_ragged |= len(values.value_lengths().unique()) > 1
        values = values.flatten()
        num_missing += values.null_count
    is_number = any(test(values.type) for test in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean))
    if not is_number or num_missing or is_ragged:
        expected = "must hold numbers, equally many in each row and none missing"
        raise DatasetError(f"{path}: {name} {expected}, found {column.type}", RECORD)
    array = values.to_numpy(zero_copy_only=False)
    return array.reshape(len(column), -1) if values is not column and len(column) else array


def leaf_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values in lists, however nested."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    while is_list(kind):
        kind = kind.value_type
    return kind


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)
