"""Checks every byte of a LeRobotDataset v3.0 that training may read, and lists all faults: `video2act info --check`.

Opening a dataset already refuses what would spoil training. Here each file is judged alone, every picture of a colour
camera is decoded, and faults that only other readers meet (an undeclared column, a wrong time) are listed too. Of depth
it is only checked that it is there. This file checks the tables of `meta`; rows, statistics and pictures have files of
their own.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from video2act.data.check_pictures import picture_jobs
from video2act.data.check_rows import data_faults, declared_faults
from video2act.data.check_stats import stats_faults
from video2act.data.dataset_files import COPY, DatasetError, is_hidden
from video2act.data.faults import Recorded, faults
from video2act.data.lerobot_format import INDICES, INFO_PATH, STATS_PATH, TASKS_PATH, DatasetInfo, load_info
from video2act.data.lerobot_reader import NO_EPISODE, LeRobotDataset
from video2act.data.lerobot_tables import EpisodeEntry, read_episodes, read_rows, read_table, read_tasks
from video2act.text.instruction import check_instruction

EPISODES = Path("meta/episodes")


def check_dataset(
    root: Path | str, *, state: Sequence[str] | None = None, action: Sequence[str] | None = None
) -> list[str]:
    """The faults of a dataset: one line each, with the file, what was found and what was expected.

    Args:
        state, action: columns that are joined to them, as for `open_dataset`.
    Raises:
        FileNotFoundError: there is no dataset at all.
        ValueError: a column that does not exist.
    """
    root = Path(root)
    try:
        info = load_info(root).choose(state=state, action=action)
    except DatasetError as error:
        return [str(error)]
    tasks: dict[int, str] = {}
    entries: list[EpisodeEntry] = []
    lines = faults(root / TASKS_PATH, lambda: _task_faults(root, info, tasks=tasks))
    lines += faults(root / INFO_PATH, lambda: declared_faults(root / INFO_PATH, info))
    lines += faults(root / EPISODES, lambda: _episode_faults(root, info, entries=entries))
    if not info.total_episodes:
        lines.append(f"{root} {NO_EPISODE}")
    if not entries:
        return lines
    recorded = Recorded(root, info, tuple(entries), tasks)
    lines += [f"{root}: {fault}" for fault in info.rate_faults()]
    for find in (_sentence_faults, _time_faults, _depth_faults, _strangers):
        lines += faults(root / EPISODES, partial(find, recorded))
    columns: dict[str, list[np.ndarray]] = {key: [] for key in (*info.state, *info.action)}
    for file, group in groupby(entries, key=lambda entry: entry.data_file):
        find_rows = partial(data_faults, recorded, file, episodes=list(group), columns=columns)
        lines += faults(root / file, find_rows)
    lines += faults(root / STATS_PATH, lambda: stats_faults(root, info, columns=columns))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda job: faults(*job), picture_jobs(recorded)):
            lines += found
    if not lines:  # what is called sound can be opened
        lines += faults(root, lambda: _opening_faults(root, state=state, action=action))
    return list(dict.fromkeys(lines))


def _opening_faults(root: Path, **columns: Sequence[str] | None) -> Iterator[str]:
    """Of what only a reader joins; they are raised."""
    LeRobotDataset(root, **columns)
    yield from ()


def _task_faults(root: Path, info: DatasetInfo, *, tasks: dict[int, str]) -> Iterator[str]:
    """Fills `tasks`."""
    path = root / TASKS_PATH
    tasks |= read_tasks(root, info)
    numbers = read_table(path, ["task_index"])["task_index"].to_pylist()
    if numbers != list(range(len(numbers))):
        yield f"{path}: the rows have task_index {numbers[:5]}, expected 0, 1, 2, ...: LeRobot finds a task by its row"
    if len(tasks) != info.total_tasks:
        yield f"{path} lists {len(tasks)} tasks but meta/info.json says total_tasks={info.total_tasks}"
    for sentence, count in Counter(tasks.values()).items():
        if count > 1 or not sentence.strip():
            yield f"{path}: {count} tasks have the sentence {sentence!r}; each needs a sentence of its own"


def _episode_faults(root: Path, info: DatasetInfo, *, entries: list[EpisodeEntry]) -> Iterator[str]:
    """Fills `entries`."""
    entries += read_episodes(root, info)
    numbers = [(-1, root), *((row["episode_index"], path) for path, row in read_rows(root, ()))]
    for (before, _), (number, path) in pairwise(numbers):
        if number <= before:
            yield f"{path}: episode {number} comes after episode {before}; LeRobot finds it by its row: sort the files"
            return


def _sentence_faults(recorded: Recorded) -> Iterator[str]:
    for entry in recorded.entries:
        for sentence in dict.fromkeys((*entry.tasks, *entry.seen, *entry.unseen)):
            try:
                check_instruction(sentence)
            except ValueError as error:
                yield f"{recorded.root}: episode {entry.index}: {error}"


def _time_faults(recorded: Recorded) -> Iterator[str]:
    """The end of each episode in its videos. A difference of one frame is allowed: a writer's durations are rounded."""
    info = recorded.info
    names = {camera: f"videos/{key}/to_timestamp" for camera, key in info.videos.items()}
    rows = {row["episode_index"]: (path, row) for path, row in read_rows(recorded.root, names.values())}
    for camera, name in names.items():
        for entry in recorded.entries:
            path, row = rows[entry.index]
            if name not in row:
                yield f"{path} lacks the column {name}, by which LeRobot splits videos; copy the dataset again"
                continue
            end, expected = row[name], entry.videos[camera].start_s + entry.length / info.fps
            if not isinstance(end, (int, float)) or not abs(end - expected) <= 1.05 / info.fps:
                what = f"to_timestamp of {info.videos[camera]} is {end} s for episode {entry.index}"
                yield f"{path}: {what}, expected {expected:g} s: {entry.length} frames after its from_timestamp"


def _depth_faults(recorded: Recorded) -> Iterator[str]:
    """Depth in videos is not decoded, but LeRobot reads it: each episode must say where its own lies."""
    root, info = recorded.root, recorded.info
    for key in info.depth:
        if info.features[key].dtype != "video":
            continue  # a column of the data files: `data_faults` looks for it
        names = [f"videos/{key}/{name}" for name in INDICES]
        files: dict[Path, int] = {}
        for path, row in read_rows(root, names):
            if row["episode_index"] >= info.total_episodes:
                continue
            if missing := [name for name in names if row.get(name) is None]:
                yield f"{path}: episode {row['episode_index']} has no {missing[0]}, but meta/info.json declares {key}"
                break
            chunk, file = (row[name] for name in names)
            files.setdefault(info.video_file(key, chunk, file_index=file), row["episode_index"])
        for file, episode in files.items():
            if not (root / file).is_file():
                yield f"{root / file} does not exist, but episode {episode} refers to it; {COPY}"


def _strangers(recorded: Recorded) -> Iterator[str]:
    """Files that no episode refers to: LeRobot reads every file that it finds."""
    root, entries = recorded.root, recorded.entries
    known = {entry.data_file for entry in entries} | {span.file for entry in entries for span in entry.videos.values()}
    depth = set(recorded.info.depth)
    found = [path for folder in ("data", "videos", "meta") for path in (root / folder).rglob("*") if path.is_file()]
    for path in sorted(path.relative_to(root) for path in found):
        if path.name.startswith("._") and path.suffix in (".parquet", ".mp4"):
            what = "was left by a Mac's copying and holds no data, but LeRobot reads it"
            yield f"{root / path} {what}; remove such files (find . -name '._*' -delete)"
        elif path.parts[0] != "meta" and path not in known and not depth & {*path.parts} and not is_hidden(path):
            what = "belongs to no episode; remove it (a recording was interrupted there) or copy the dataset again"
            yield f"{root / path} {what}"
