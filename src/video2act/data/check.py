"""Looks at every byte of a LeRobotDataset v3.0 that training may meet, and lists all that is wrong: `video2act info --check`.

Opening a dataset already refuses what would spoil training. Here each file is judged alone, so that one fault does not hide the
next; every picture is decoded; and what only other readers trip over (an undeclared column, a wrong time) is told, too.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from video2act.data.image_column import read_images
from video2act.data.lerobot_format import (
    ACTION,
    DEFAULT_FEATURES,
    STATE,
    STATS_PATH,
    TASKS_PATH,
    DatasetError,
    DatasetInfo,
    load_info,
)
from video2act.data.lerobot_tables import (
    EpisodeEntry,
    VideoSpan,
    column_names,
    read_episodes,
    read_frames,
    read_table,
    read_tasks,
)
from video2act.data.video_file import VideoReader

T = TypeVar("T")

STRIDE = 64
"""pictures that are decoded at a time"""

TOLERANCE_S = 1e-4
"""by which LeRobot lets a time differ from the frame that it belongs to"""


def check_dataset(root: Path) -> list[str]:
    """What is wrong with a dataset: one line per fault, with the file, what was found and what was expected. Empty: nothing.

    Raises:
        FileNotFoundError: there is no dataset at all.
    """
    try:
        info = load_info(root)
    except DatasetError as error:
        return [str(error)]
    faults = _Faults()
    tasks = faults.of(lambda: read_tasks(root)) or {}
    faults.add(_task_faults(root, info, tasks))
    entries = faults.of(lambda: read_episodes(root, info))
    if entries is None:
        return faults.lines
    faults.add(_declared_rates(root, info))
    faults.add(_strangers(root, info, entries))
    columns: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
    for file, episodes in groupby(entries, key=lambda entry: entry.data_file):
        faults.add(_data_faults(root, info, file, list(episodes), tasks, columns))
    faults.add(_stats_faults(root, info, columns))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda job: list(job()), _picture_jobs(root, info, entries)):
            faults.lines += found
    return list(dict.fromkeys(faults.lines))


class _Faults:
    """Lines, and the messages of errors that were met on the way."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def of(self, read: Callable[[], T]) -> T | None:
        """What is read, or None and a line."""
        try:
            return read()
        except (DatasetError, FileNotFoundError) as error:
            self.lines.append(str(error))
            return None

    def add(self, found: Iterator[str]) -> None:
        try:
            self.lines += found
        except (DatasetError, FileNotFoundError) as error:
            self.lines.append(str(error))


def _task_faults(root: Path, info: DatasetInfo, tasks: dict[int, str]) -> Iterator[str]:
    path = root / TASKS_PATH
    if not path.is_file():
        return  # told already
    numbers = read_table(path, ["task_index"])["task_index"].to_pylist()
    if numbers != list(range(len(numbers))):
        yield f"{path}: the rows have task_index {numbers[:5]}, expected 0, 1, 2, ...: LeRobot finds a task by its row"
    if len(tasks) != info.total_tasks:
        yield f"{path} lists {len(tasks)} tasks but meta/info.json says total_tasks={info.total_tasks}"
    for sentence, count in Counter(tasks.values()).items():
        if count > 1 or not sentence.strip():
            yield f"{path}: the task {sentence!r} stands there {count} times; each needs a sentence of its own"


def _declared_rates(root: Path, info: DatasetInfo) -> Iterator[str]:
    for camera, key in info.videos.items():
        rate = (info.features[key].video or {}).get("video.fps", info.fps)
        if abs(rate - info.fps) > 0.01 * info.fps:
            yield f"{root}: camera {camera!r} was recorded at {rate:g} fps, but the dataset says {info.fps:g} fps"


def _strangers(root: Path, info: DatasetInfo, entries: tuple[EpisodeEntry, ...]) -> Iterator[str]:
    """Files that no episode refers to: LeRobot reads every file that it finds."""
    known = {entry.data_file for entry in entries} | {span.file for entry in entries for span in entry.videos.values()}
    found = [path for folder in ("data", "videos") for path in (root / folder).rglob("*") if path.is_file()]
    for path in sorted(path.relative_to(root) for path in found):
        if path not in known and not path.name.startswith("."):
            yield f"{root / path} belongs to no episode; remove it (a recording was interrupted there) or copy the dataset again"


def _data_faults(
    root: Path,
    info: DatasetInfo,
    file: Path,
    episodes: list[EpisodeEntry],
    tasks: dict[int, str],
    columns: dict[str, list[np.ndarray]],
) -> Iterator[str]:
    path = root / file
    declared = {key for key, feature in info.features.items() if feature.dtype != "video"}
    table = read_table(path, [*DEFAULT_FEATURES])
    present = column_names(path)
    if present - declared:
        listed = ", ".join(sorted(present - declared))
        yield f"{path} has the column {listed}, which meta/info.json does not declare: LeRobot refuses to read the file"
    if declared - present:
        yield f"{path} lacks the column {', '.join(sorted(declared - present))}, which meta/info.json declares"
    expected = sum(episode.length for episode in episodes)
    if len(table) != expected:
        yield f"{path} holds {len(table)} rows, its episodes {expected}"
    frames = read_frames(root, info, file, episodes)  # raises what it finds
    index = np.asarray(table["index"]) if "index" in present else np.zeros(0, np.int64)
    if len(index) and not np.array_equal(index, index[0] + np.arange(len(index))):
        wrong = int(np.flatnonzero(np.diff(index) != 1)[0]) + 1
        yield f"{path}, row {wrong}: index is {index[wrong]} after {index[wrong - 1]}; numbers are duplicate or missing"
    for episode, rows in zip(episodes, frames, strict=True):
        columns[STATE].append(rows.state)
        if rows.action is not None:
            columns[ACTION].append(rows.action)
        yield from _row_faults(path, info, episode, rows.timestamps, rows.task_index, tasks)


def _row_faults(
    path: Path, info: DatasetInfo, episode: EpisodeEntry, times: np.ndarray, task_index: np.ndarray, tasks: dict[int, str]
) -> Iterator[str]:
    where = f"{path}, episode {episode.index}"
    late = np.abs(times - np.arange(len(times)) / info.fps)
    allowed = TOLERANCE_S + 1e-6 * np.arange(len(times)) / info.fps  # a float32 cannot do better
    wrong = np.flatnonzero(~(late <= allowed))
    if len(wrong):
        yield (
            f"{where}, frame {wrong[0]}: timestamp is {times[wrong[0]]:g} s, expected {wrong[0] / info.fps:g} s (frame_index / "
            "fps); LeRobot looks frames up by it"
        )
    unknown = sorted(set(task_index.tolist()) - set(tasks))
    if unknown:
        yield f"{where} refers to task_index {unknown[0]}, which {TASKS_PATH} does not list"
    elif {tasks[i] for i in set(task_index.tolist())} != set(episode.tasks):
        yield f"{where}: its rows say {tasks[int(task_index[0])]!r}, meta/episodes says {', '.join(map(repr, episode.tasks))}"


def _stats_faults(root: Path, info: DatasetInfo, columns: dict[str, list[np.ndarray]]) -> Iterator[str]:
    path = root / STATS_PATH
    if not path.is_file():
        yield f"{path} does not exist; LeRobot normalises with it"
        return
    try:
        stats = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        yield f"{path} is not valid json ({error})"
        return
    for key, parts in columns.items():
        if key not in info.features or not parts:
            continue
        values = np.concatenate(parts)
        entry = stats.get(key)
        if not isinstance(entry, dict) or not {"min", "max", "mean", "std"} <= set(entry):
            yield f"{path} has no min, max, mean and std of {key}"
            continue
        for name, own in (("min", values.min(axis=0)), ("max", values.max(axis=0)), ("mean", values.mean(axis=0))):
            told = np.asarray(entry[name], dtype=np.float64).ravel()
            spread = np.ptp(values, axis=0) + np.abs(own) * 1e-2 + 1e-6
            if told.shape != own.shape or not (np.abs(told - own) <= 0.01 * spread).all():
                yield f"{path}: {name} of {key} is {np.round(told, 4).tolist()}, the data has {np.round(own, 4).tolist()}"


def _picture_jobs(root: Path, info: DatasetInfo, entries: tuple[EpisodeEntry, ...]) -> Iterator[Callable[[], Iterator[str]]]:
    for camera, key in info.cameras.items():
        if camera not in info.videos:
            for entry in entries:
                yield lambda entry=entry, key=key: _image_faults(root, info, entry, key)
            continue
        files: dict[Path, list[tuple[int, int, VideoSpan]]] = {}
        for entry in entries:
            span = entry.videos[camera]
            files.setdefault(span.file, []).append((entry.index, entry.length, span))
        for file, spans in files.items():
            yield lambda file=file, spans=spans, key=key: _video_faults(root / file, info, key, spans)


def _video_faults(path: Path, info: DatasetInfo, key: str, spans: list[tuple[int, int, VideoSpan]]) -> Iterator[str]:
    try:
        video = VideoReader(path, is_strict=True)
        video.check_rate(info.fps)
    except (DatasetError, FileNotFoundError) as error:
        yield str(error)
        return
    expected = info.features[key].image_size
    if video.size != expected:
        yield f"{path} has frames of {video.size[0]} x {video.size[1]}, meta/info.json says {expected[0]} x {expected[1]}"
    needed = spans[0][2].frames_in_file
    if video.num_frames < needed:
        yield f"{path} holds {video.num_frames} frames, its episodes {needed}: it is cut short; copy it again"
    if not video.is_even:
        yield f"{path}: its frames do not follow each other evenly; encode it again at {info.fps} fps"
    spans = sorted(spans, key=lambda one: one[2].start_s)
    for (one, length, a), (other, _, b) in pairwise(spans):
        if b.start_s < a.start_s + (length - 0.5) / info.fps:
            yield f"{path}: episode {other} begins at {b.start_s:g} s, before the end of episode {one}; their frames overlap"
    try:
        for first in range(0, video.num_frames, STRIDE):
            video.frames(first, min(STRIDE, video.num_frames - first))
    except DatasetError as error:
        yield str(error)
    finally:
        video.close()


def _image_faults(root: Path, info: DatasetInfo, entry: EpisodeEntry, key: str) -> Iterator[str]:
    path = root / entry.data_file
    try:
        numbers = read_table(path, ["episode_index"])["episode_index"].to_numpy()
        begin = int(np.searchsorted(numbers, entry.index))
        for first in range(0, entry.length, STRIDE):
            images = read_images(path, key, begin + first, min(STRIDE, entry.length - first))
            if images.shape[1:3] != info.features[key].image_size:
                expected = info.features[key].image_size
                yield f"{path}, episode {entry.index}: {key} is {images.shape[1:3]}, meta/info.json says {expected}"
                return
    except (DatasetError, FileNotFoundError, ValueError, KeyError, pa.ArrowException) as error:
        yield str(error)
