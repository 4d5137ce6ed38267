"""Looks at every byte of a LeRobotDataset v3.0 that training may meet, and lists all that is wrong: `video2act info --check`.

Opening a dataset already refuses what would spoil training. Here each file is judged alone, so that one fault does not hide the
next; every picture is decoded; and what only other readers trip over (an undeclared column, a wrong time) is told, too. This file
goes through the tables of `meta`; rows, statistics and pictures have files of their own.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np

from video2act.data.check_pictures import picture_jobs
from video2act.data.check_rows import data_faults, declared_faults
from video2act.data.check_stats import stats_faults
from video2act.data.faults import Faults
from video2act.data.lerobot_format import (
    ACTION,
    INFO_PATH,
    STATE,
    STATS_PATH,
    TASKS_PATH,
    DatasetError,
    DatasetInfo,
    load_info,
)
from video2act.data.lerobot_tables import EpisodeEntry, read_episodes, read_table, read_tasks


def check_dataset(root: Path) -> list[str]:
    """What is wrong with a dataset: one line per fault, with the file, what was found and what was expected. Empty: nothing.

    Raises:
        FileNotFoundError: there is no dataset at all.
    """
    try:
        info = load_info(root)
    except DatasetError as error:
        return [str(error)]
    faults = Faults()
    tasks = faults.of(root / TASKS_PATH, lambda: read_tasks(root))
    if tasks is not None:
        faults.add(root / TASKS_PATH, _task_faults(root, info, tasks=tasks))
    faults.add(root / INFO_PATH, declared_faults(root / INFO_PATH, info))
    entries = faults.of(root / "meta" / "episodes", lambda: read_episodes(root, info))
    if entries is None:
        return faults.lines
    faults.add(root / INFO_PATH, _declared_rates(root, info))
    faults.add(root / "meta" / "episodes", _row_order(root))
    faults.add(root / "meta" / "episodes", _time_faults(root, info, entries=entries))
    faults.add(root, _strangers(root, info, entries=entries))
    columns: dict[str, list[np.ndarray]] = {STATE: [], ACTION: []}
    for file, episodes in groupby(entries, key=lambda entry: entry.data_file):
        faults.add(
            root / file, data_faults(root, info, file=file, episodes=list(episodes), tasks=tasks or {}, columns=columns)
        )
    faults.add(root / STATS_PATH, stats_faults(root, info, columns=columns))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda job: Faults.met(*job), picture_jobs(root, info, entries=entries)):
            faults.lines += found
    return list(dict.fromkeys(faults.lines))


def _task_faults(root: Path, info: DatasetInfo, *, tasks: dict[int, str]) -> Iterator[str]:
    path = root / TASKS_PATH
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


def _row_order(root: Path) -> Iterator[str]:
    before = -1
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        for number in read_table(path, ["episode_index"])["episode_index"].to_pylist():
            if number <= before:
                yield f"{path}: episode {number} comes after episode {before}; LeRobot finds it by its row: sort the files"
                return
            before = number


def _time_faults(root: Path, info: DatasetInfo, *, entries: tuple[EpisodeEntry, ...]) -> Iterator[str]:
    """Where each episode says to end in its videos. A frame of difference is let pass: a writer's durations are rounded."""
    rows = {}
    names = [f"videos/{key}/to_timestamp" for key in info.videos.values()]
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        for row in read_table(path, ["episode_index", *names]).to_pylist():
            rows[row["episode_index"]] = (path, row)
    for camera, key in info.videos.items():
        for entry in entries:
            span = entry.videos[camera]
            path, row = rows[entry.index]
            if f"videos/{key}/to_timestamp" not in row:
                yield f"{path} lacks the column videos/{key}/to_timestamp, by which LeRobot splits videos; copy the dataset again"
                continue
            end, expected = row[f"videos/{key}/to_timestamp"], span.start_s + entry.length / info.fps
            if not isinstance(end, (int, float)) or not abs(end - expected) <= 1.05 / info.fps:
                yield (
                    f"{path}: to_timestamp of {key} is {end} s for episode {entry.index}, expected {expected:g} s: "
                    f"{entry.length} frames after its from_timestamp"
                )


def _strangers(root: Path, info: DatasetInfo, *, entries: tuple[EpisodeEntry, ...]) -> Iterator[str]:
    """Files that no episode refers to: LeRobot reads every file that it finds."""
    known = {entry.data_file for entry in entries} | {span.file for entry in entries for span in entry.videos.values()}
    found = [path for folder in ("data", "videos") for path in (root / folder).rglob("*") if path.is_file()]
    for path in sorted(path.relative_to(root) for path in found):
        if path not in known and not path.name.startswith("."):
            yield f"{root / path} belongs to no episode; remove it (a recording was interrupted there) or copy the dataset again"
