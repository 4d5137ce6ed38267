"""What the writer puts into the parquet and json files of a LeRobotDataset v3.0, as bytes.

The types matter as much as the values: `datasets` refuses a data file whose columns are not exactly those of
`info.json`, and pandas finds the instruction as the index of `tasks.parquet` only through the metadata that pandas
itself would have written.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video2act.data.lerobot_format import ACTION, STATE, DatasetInfo, arrow_type
from video2act.data.lerobot_tables import ENVIRONMENT, SEED, SEEN, UNSEEN
from video2act.data.pictures import CELL
from video2act.data.recording_format import Episode
from video2act.data.statistics import Stats, vector_stats

STAT_NAMES = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


def frame_columns(episode: Episode, info: DatasetInfo, *, tasks: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of the next episode, without pictures."""
    columns = {STATE: episode.state.astype(np.float32)} if episode.state.shape[1] else {}
    if episode.action is not None:
        columns[ACTION] = episode.action.astype(np.float32)
    frame_index = np.arange(len(episode.state))
    columns |= {
        "timestamp": (frame_index / info.fps).astype(np.float32),
        "frame_index": frame_index,
        "episode_index": np.full_like(frame_index, info.total_episodes),
        "index": info.total_frames + frame_index,
        "task_index": np.array([tasks[sentence] for sentence in episode.instructions]),
    }
    return columns | dict(episode.extra)


def column_stats(columns: dict[str, np.ndarray]) -> dict[str, Stats]:
    """Statistics of the columns that hold numbers."""
    return {name: vector_stats(values) for name, values in columns.items() if values.dtype.kind in "fiub"}


def frames_parquet(columns: dict[str, np.ndarray], images: dict[str, list[bytes]], *, info: DatasetInfo) -> bytes:
    """One row group: that of the episode."""
    arrays = {name: _arrow(values, arrow_type(info.features[name])) for name, values in columns.items()}
    arrays |= {key: pa.array([{"bytes": cell, "path": None} for cell in cells], CELL) for key, cells in images.items()}
    return _parquet(pa.table(arrays))


def tasks_parquet(tasks: dict[str, int]) -> bytes:
    """Rows in the order of task_index, with the instruction as pandas' index, named `task`."""
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())})
    metadata = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
            for name, kind, numpy_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return _parquet(table.replace_schema_metadata({"pandas": json.dumps(metadata)}))


def episode_parquet(episode: Episode, info: DatasetInfo, *, stats: dict[str, Stats]) -> bytes:
    """The row of the next episode; all its files have its own number."""
    number, begin, length = info.total_episodes, info.total_frames, len(episode.state)
    chunk, file = divmod(number, info.chunks_size)
    integers = {
        "episode_index": number,
        "length": length,
        "dataset_from_index": begin,
        "dataset_to_index": begin + length,
        SEED: episode.seed,
    }
    for group in ("data", "meta/episodes", *(f"videos/{key}" for key in info.videos.values())):
        integers |= {f"{group}/chunk_index": chunk, f"{group}/file_index": file}
    columns: dict[str, pa.Array] = {name: pa.array([value], pa.int64()) for name, value in integers.items()}
    columns["tasks"] = pa.array([list(dict.fromkeys(episode.instructions))], pa.list_(pa.string()))
    if episode.environment is not None:
        columns[ENVIRONMENT] = pa.array([episode.environment], pa.string())
    # only where there are any: most recordings have one sentence per task
    for name, sentences in ((SEEN, episode.seen), (UNSEEN, episode.unseen)):
        if sentences:
            columns[name] = pa.array([list(sentences)], pa.list_(pa.string()))
    for key in info.videos.values():
        columns[f"videos/{key}/from_timestamp"] = pa.array([0.0], pa.float64())
        columns[f"videos/{key}/to_timestamp"] = pa.array([length / info.fps], pa.float64())
    for key, entry in stats.items():
        for name in STAT_NAMES:
            columns[f"stats/{key}/{name}"] = pa.array([entry[name].tolist()])
    # many columns of one value: without dictionaries, indices and a second schema they take half the space
    return _parquet(pa.table(columns), has_many_rows=False)


def episode_stats(table: pa.Table, info: DatasetInfo) -> dict[str, Stats]:
    """The statistics in a file that `episode_parquet` made."""
    row = table.to_pylist()[0]
    counted = [key for key in info.features if f"stats/{key}/count" in row]
    return {key: {name: np.array(row[f"stats/{key}/{name}"]) for name in STAT_NAMES} for key in counted}


def stats_json(stats: dict[str, Stats]) -> str:
    lists = {key: {name: entry[name].tolist() for name in STAT_NAMES} for key, entry in stats.items()}
    return json.dumps(lists, indent=4) + "\n"


def _arrow(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.FixedSizeListType):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), kind.value_type), type=kind)
    return pa.array(values.ravel(), kind)


def _parquet(table: pa.Table, has_many_rows: bool = True) -> bytes:
    sink = pa.BufferOutputStream()
    options = dict.fromkeys(("use_dictionary", "write_statistics", "store_schema"), has_many_rows)
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()
