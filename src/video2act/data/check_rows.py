"""The rows of a dataset's data files: numbering, times, tasks, and whether each column holds what `info.json`
declares."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video2act.data.dataset_files import DatasetError
from video2act.data.faults import Recorded
from video2act.data.lerobot_format import DEFAULT_FEATURES, TASKS_PATH, TEXT, DatasetInfo, Feature, number_kind
from video2act.data.lerobot_tables import EpisodeEntry, FrameTable, leaf_type, read_column, read_frames, read_table
from video2act.files.differences import short

TOLERANCE_S = 1e-4
"""largest difference that LeRobot allows between a time and its frame's"""

NESTED = ("image", "video", "language")
"""dtypes that numpy has no numbers for"""


def declared_faults(path: Path, info: DatasetInfo) -> Iterator[str]:
    """Columns of an unknown dtype."""
    for key, feature in info.features.items():
        if "/" in key:
            yield f"{path}: a feature is named {key!r}; LeRobot allows no slash: rename it"
        if feature.dtype not in NESTED and _kind(feature) is None:
            yield f"{path}: {key} has the dtype {feature.dtype!r}, which is none; correct it to what its column holds"


def data_faults(
    recorded: Recorded, file: Path, *, episodes: list[EpisodeEntry], columns: dict[str, list[np.ndarray]]
) -> Iterator[str]:
    """The faults of one data file; states and actions are added to `columns`."""
    root, info, path = recorded.root, recorded.info, recorded.root / file
    declared = {key for key, feature in info.features.items() if feature.dtype != "video"}
    table, schema = read_table(path, [*DEFAULT_FEATURES]), pq.read_schema(path)
    present = set(schema.names)
    if more := ", ".join(sorted(present - declared)):
        what = "which meta/info.json does not declare: LeRobot refuses to read the file"
        yield f"{path} has the column {short(more)}, {what}"
    if fewer := ", ".join(sorted(declared - present)):
        yield f"{path} lacks the column {short(fewer)}, which meta/info.json declares"
    expected = sum(episode.length for episode in episodes)
    if len(table) != expected:
        yield f"{path} holds {len(table)} rows, its episodes {expected}"
    yield from _type_faults(path, info, schema=schema)
    yield from _index_faults(path, table, episodes=episodes)
    yield from _own_faults(root, info, file=file, present=present)
    frames = read_frames(root, info, file=file, episodes=episodes)  # raises what it finds
    keys = (*info.state, *info.action)
    ends = np.cumsum([info.features[key].size for key in keys])
    for episode, rows in zip(episodes, frames, strict=True):
        vectors = rows.state if rows.action is None else np.concatenate([rows.state, rows.action], axis=1)
        for key, values in zip(keys, np.split(vectors, ends[:-1], axis=1), strict=False):
            columns[key].append(values)
        yield from _row_faults(recorded, episode, rows=rows)


def _type_faults(path: Path, info: DatasetInfo, *, schema: pa.Schema) -> Iterator[str]:
    """Columns of another kind than declared. Another width (a double for a float) is allowed: LeRobot converts it."""
    for name in schema.names:
        feature = info.features.get(name)
        if feature is None or feature.dtype in NESTED:
            continue
        expected, stored = _kind(feature), schema.field(name).type
        if expected is not None and _stored_kind(stored) not in (expected, ""):
            declared = f"but meta/info.json declares {feature.dtype}; LeRobot may not read it"
            yield f"{path}: {name} is stored as {stored}, {declared}"


def _index_faults(path: Path, table: pa.Table, *, episodes: list[EpisodeEntry]) -> Iterator[str]:
    """`index` numbers the rows of all files as one."""
    if "index" not in table.column_names:
        return
    column = table["index"]
    if column.null_count or not pa.types.is_integer(column.type):
        found = f"found {column.type} with {column.null_count} empty cells"
        yield f"{path}: index must hold whole numbers and none missing, {found}"
        return
    index, begin = np.asarray(column), min(episode.begin for episode in episodes)
    if len(index) and not np.array_equal(index, index[0] + np.arange(len(index))):
        wrong = int(np.flatnonzero(np.diff(index) != 1)[0]) + 1
        yield f"{path}, row {wrong}: index is {index[wrong]} after {index[wrong - 1]}; numbers are duplicate or missing"
    elif len(index) and index[0] != begin:
        expected = f"expected {begin}, the dataset_from_index of episode {episodes[0].index}"
        yield f"{path}: index begins with {index[0]}, {expected}; LeRobot finds frames by it"


def _own_faults(root: Path, info: DatasetInfo, *, file: Path, present: set[str]) -> Iterator[str]:
    """Columns beyond state, action and those of every dataset."""
    path = root / file
    for name, feature in info.extra.items():
        if name not in present or feature.dtype in NESTED or _kind(feature) is None:
            continue  # listed already, or of a kind that is not checked
        try:
            values = read_column(root, file, name=name, first=0, count=2**62)
        except DatasetError as error:
            yield str(error)
            continue
        if isinstance(values, list):
            continue
        width = values[0].size if len(values) else feature.size
        if width != feature.size:
            yield f"{path}: {name} has {width} numbers a row, but meta/info.json declares the shape {feature.shape}"
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0]
            yield f"{path}, row {place[0]}: {name} is {values[tuple(place)]}; readers of the column will find it"


def _row_faults(recorded: Recorded, episode: EpisodeEntry, *, rows: FrameTable) -> Iterator[str]:
    where, tasks = f"{recorded.root / episode.data_file}, episode {episode.index}", recorded.tasks
    times, due = rows.timestamps, np.arange(len(rows.timestamps)) / recorded.info.fps
    wrong = np.flatnonzero(~(np.abs(times - due) <= TOLERANCE_S + 1e-6 * due))  # a float32 cannot do better
    if len(wrong):
        expected = f"expected {due[wrong[0]]:g} s (frame_index / fps); LeRobot looks frames up by it"
        yield f"{where}, frame {wrong[0]}: timestamp is {times[wrong[0]]:g} s, {expected}"
    numbers = set(rows.task_index.tolist())
    if unknown := sorted(numbers - set(tasks)):
        yield f"{where} refers to task_index {unknown[0]}, which {TASKS_PATH} does not list"
    elif {tasks[i] for i in numbers} != set(episode.tasks):
        listed = ", ".join(map(repr, episode.tasks))
        yield f"{where}: its rows say {tasks[int(rows.task_index[0])]!r}, meta/episodes says {listed}"


def _kind(feature: Feature) -> str | None:
    """Numpy's letter for the kind of number, `i` of all whole ones; `U` for text; None: neither."""
    if feature.dtype in TEXT:
        return "U"
    kind = number_kind(feature.dtype)
    return "i" if kind == "u" else kind


def _stored_kind(stored: pa.DataType) -> str:
    """The same letter for what lists hold; empty for columns without any value."""
    leaf = leaf_type(stored)
    if pa.types.is_string(leaf) or pa.types.is_large_string(leaf) or pa.types.is_dictionary(leaf):
        return "U"
    letters = {"i": pa.types.is_integer, "f": pa.types.is_floating, "b": pa.types.is_boolean, "": pa.types.is_null}
    return next((letter for letter, test in letters.items() if test(leaf)), "other")
