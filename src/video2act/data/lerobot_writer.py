"""Writes a LeRobotDataset v3.0, one episode at a time, so that a crash at any moment costs at most the episode being
written.

Every episode has files of its own (one parquet, one mp4 per camera): nothing that is complete is ever opened for
writing again. `meta/info.json` is replaced last; until it counts an episode, readers do not see it. Work in progress
lies in `.staging` inside the dataset, on the same file system, so that finished files are renamed into place and not
copied.

Encoding is the slow part and needs no writer: `encode_episode` may run in other processes, `commit` then puts it in
place.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from video2act.config.calls import check_listed
from video2act.config.checks import check_relative_actions
from video2act.config.plain import parse_json
from video2act.data import lerobot_rows as rows
from video2act.data.dataset_files import DatasetError, check_no_links
from video2act.data.lerobot_format import (
    ACTION,
    DATA_PATH,
    EPISODES_PATH,
    INFO_PATH,
    STATE,
    STATS_PATH,
    TASKS_PATH,
    VIDEO_PATH,
    DatasetInfo,
    Feature,
    load_info,
    parse_info,
)
from video2act.data.lerobot_tables import read_episodes, read_table, read_tasks
from video2act.data.origin import ORIGIN_PATH, RELATIVE, origin_json
from video2act.data.pictures import encode_png
from video2act.data.recording_format import Episode, check_episode, describe_features
from video2act.data.statistics import Stats, combine, image_stats
from video2act.data.video_file import encode
from video2act.files.atomic import disk_full_says, publish, remove_unfinished, write_bytes
from video2act.files.lock import FolderLock, InUseError

FOREIGN = "another program wrote this dataset; record into a new folder and train on both"


@dataclass(frozen=True)
class EncodedEpisode:
    """An episode whose pictures are encoded already."""

    episode: Episode
    """without its frames"""
    folder: Path
    """in the staging folder; holds the videos"""
    videos: dict[str, Path]
    """camera -> finished mp4"""
    images: dict[str, list[bytes]]
    """camera that is stored as images -> PNG of each frame"""
    image_stats: dict[str, Stats]


def encode_episode(episode: Episode, info: DatasetInfo, *, folder: Path | str) -> EncodedEpisode:
    """Check an episode against its dataset and write its videos into `folder`, which is made; after an error it is
    removed. Raises ValueError: the episode lacks a camera or a column, or has other sizes or lengths than the
    dataset."""
    check_episode(episode, info)
    folder = Path(folder)
    folder.mkdir(parents=True)
    try:
        videos = {camera: folder / f"{camera}.mp4" for camera in info.videos}
        for camera, path in videos.items():
            encode(path, episode.frames[camera], fps=info.fps)
        others = [camera for camera in info.cameras if camera not in videos]
        images = {camera: [encode_png(frame) for frame in episode.frames[camera]] for camera in others}
        stats = {camera: image_stats(episode.frames[camera]) for camera in info.cameras}
    except BaseException:  # Ctrl-C, too: the next episode may get this folder
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return EncodedEpisode(replace(episode, frames={}), folder, videos, images, stats)


def empty_info(
    *,
    fps: float,
    robot: str,
    cameras: tuple[str, ...],
    image_size: int | tuple[int, int] | Mapping[str, int | tuple[int, int]],
    state_names: tuple[str, ...],
    action_names: tuple[str, ...],
    extra: Mapping[str, Feature] | None = None,
    storage: Literal["video", "image"] = "video",
) -> DatasetInfo:
    """The description of a dataset that holds no episode yet; nothing is written. Arguments as for
    `DatasetWriter.create`. Raises ValueError: it cannot be stored."""
    check_listed(cameras=cameras, state_names=state_names, action_names=action_names)
    if len(set(cameras)) != len(cameras):
        raise ValueError(f"each camera needs a name of its own, got {', '.join(cameras)}")
    if fps <= 0 or abs(fps - round(fps)) > 1e-6:  # a rate that comes from 1 / period is not exact
        raise ValueError(f"LeRobotDataset v3.0 stores a whole number of frames per second, got fps={fps:g}")
    sizes = _sizes(cameras, image_size, storage=storage)
    features = describe_features(
        round(fps), sizes, state_names=state_names, action_names=action_names, extra=extra or {}, storage=storage
    )
    info = DatasetInfo(
        robot,
        round(fps),
        features,
        video_path=VIDEO_PATH if storage == "video" else None,
        state=(STATE,) if state_names else (),
        action=(ACTION,) if action_names else (),
    )
    parse_info(json.loads(info.to_json()))  # nothing is recorded that a reader would refuse
    return info


class DatasetWriter:
    """The only process that changes a dataset; a second one is refused. Use `create` or `resume`."""

    def __init__(
        self, root: Path, info: DatasetInfo, *, tasks: dict[str, int], stats: dict[str, Stats], lock: FolderLock
    ):
        self.root = root
        self.info = info
        self._tasks = tasks
        self._stats = stats
        self._lock = lock

    @classmethod
    def create(
        cls,
        root: Path | str,
        *,
        fps: float,
        robot: str,
        cameras: tuple[str, ...],
        image_size: int | tuple[int, int] | Mapping[str, int | tuple[int, int]],
        state_names: tuple[str, ...],
        action_names: tuple[str, ...],
        relative_actions: tuple[str, ...] = (),
        origin: dict[str, Any] | None = None,
        extra: Mapping[str, Feature] | None = None,
        storage: Literal["video", "image"] = "video",
    ) -> "DatasetWriter":
        """Begin an empty dataset. No action names: a dataset of videos only. `origin` is kept for `load_origin`.

        Args:
            image_size: height and width of all cameras, or one number for square frames; or one of both by camera.
            relative_actions: those of `action_names` that are changes or speeds. To hold, a robot gets zeros of these
                and its last others; a policy that is trained on the dataset records them.
            extra: columns of your own, such as `next.reward`.
            storage: frames as H.264, or as PNG in the data files: without loss, and many times larger.

        Raises:
            FileExistsError: the folder holds something already.
            ValueError: a frame rate that is not a whole number; a camera, size, column or name that cannot be stored; a
                relative action that is not among the names.
        """
        root = Path(root)
        _check_empty(root)
        check_listed(relative_actions=relative_actions)
        check_relative_actions(relative_actions, action_names)
        info = empty_info(
            fps=fps,
            robot=robot,
            cameras=cameras,
            image_size=image_size,
            state_names=state_names,
            action_names=action_names,
            extra=extra,
            storage=storage,
        )
        with _locked(root) as lock:
            _check_empty(root)  # another program may have filled it before this one had the lock
            # the folder appears whole: a dataset either has its description and its origin, or does not exist
            draft = root / ".staging" / "meta"
            draft.mkdir()
            (draft / INFO_PATH.name).write_text(info.to_json())
            recorded = {RELATIVE: list(relative_actions)} if relative_actions else {}
            (draft / ORIGIN_PATH.name).write_text(origin_json({**(origin or {}), **recorded}))
            publish(draft, root / "meta")
        return cls(root, info, tasks={}, stats={}, lock=lock)

    @classmethod
    def resume(cls, root: Path | str) -> "DatasetWriter":
        """Continue after the last complete episode; what an interruption left half-done is removed.

        Raises:
            FileNotFoundError, DatasetError: the folder holds no intact dataset.
            DatasetError: another program wrote it, or it holds a link.
        """
        root = Path(root)
        _own_info(root)  # a folder that is no dataset of ours gets no lock
        with _locked(root) as lock:
            remove_unfinished(root.rglob(".*.tmp"))
            info = _own_info(root)  # again: another program may have added episodes before this one had the lock
            tasks, stats = cls._recorded(root, info)
            # they are written before an episode exists
            _mend(root / TASKS_PATH, rows.tasks_parquet(tasks) if tasks else b"", read=bytes)
            _mend(root / STATS_PATH, rows.stats_json(stats).encode() if stats else b"", read=_stats_in)
        return cls(root, info, tasks=tasks, stats=stats, lock=lock)

    @staticmethod
    def _recorded(root: Path, info: DatasetInfo) -> tuple[dict[str, int], dict[str, Stats]]:
        """Tasks and statistics of the complete episodes; files of an incomplete one are removed."""
        entries = read_episodes(root, info)
        for entry in entries:
            own = {path for name, path in _files(info, entry.index).items() if name != "episode"}
            if {entry.data_file, *(span.file for span in entry.videos.values())} != own:
                raise DatasetError(f"{root}: episode {entry.index} shares its files with others: {FOREIGN}")
        # files of the episode that was being written; no complete one refers to them
        for path in _files(info, info.total_episodes).values():
            (root / path).unlink(missing_ok=True)
        paths = [root / _files(info, entry.index)["episode"] for entry in entries]
        tables = [rows.episode_stats(read_table(path), info) for path in paths]
        # two at a time, as `commit` does: another order of adding up would change the last digit
        keys = tables[0] if tables else {}
        stats = {key: reduce(lambda a, b: combine([a, b]), [table[key] for table in tables]) for key in keys}
        known = read_tasks(root, info) if entries else {}
        return {known[i]: i for i in range(info.total_tasks)}, stats

    @property
    def num_episodes(self) -> int:
        return self.info.total_episodes

    @property
    def staging(self) -> Path:
        """Where `encode_episode` may make folders."""
        return self.root / ".staging"

    def add_episode(self, episode: Episode) -> None:
        """Encode and commit. Errors as of `encode_episode` and `commit`."""
        with disk_full_says(self._kept):
            encoded = encode_episode(episode, self.info, folder=self.staging / f"episode-{self.num_episodes}")
        self.commit(encoded)

    def commit(self, episode: EncodedEpisode) -> None:
        """Make an encoded episode the next one of the dataset. Raises OSError: the disk is full; the complete episodes
        stay readable."""
        try:
            with disk_full_says(self._kept):
                self._commit(episode)
        finally:
            shutil.rmtree(episode.folder, ignore_errors=True)

    @property
    def _kept(self) -> str:
        return f"{self.root} keeps its {self.num_episodes} complete episodes: free some space and resume"

    def close(self) -> None:
        """Let others write. Work in progress is dropped."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self._lock.release()

    def discard(self) -> None:
        """Remove a dataset that holds no episode yet, so that it can be begun otherwise; `close` it then."""
        if self.num_episodes:
            raise ValueError(f"{self.root} holds {self.num_episodes} episodes; remove the folder to drop them")
        own = [*_files(self.info, 0).values(), TASKS_PATH, STATS_PATH, ORIGIN_PATH, INFO_PATH]
        for path in own:  # info.json last: until then it is a dataset
            (self.root / path).unlink(missing_ok=True)
        for folder in sorted({parent for path in own for parent in path.parents if parent != Path()}, reverse=True):
            if (self.root / folder).is_dir() and not any((self.root / folder).iterdir()):
                (self.root / folder).rmdir()

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _commit(self, encoded: EncodedEpisode) -> None:
        episode, info = encoded.episode, self.info
        tasks = self._tasks
        for sentence in dict.fromkeys(episode.instructions):
            tasks = tasks if sentence in tasks else {**tasks, sentence: len(tasks)}
        columns = rows.frame_columns(episode, info, tasks=tasks)
        images = {info.cameras[camera]: cells for camera, cells in encoded.images.items()}
        stats = rows.column_stats(columns) | {info.cameras[c]: entry for c, entry in encoded.image_stats.items()}
        total = {k: combine([self._stats[k], entry]) if k in self._stats else entry for k, entry in stats.items()}

        files = {name: self.root / path for name, path in _files(info, info.total_episodes).items()}
        for camera, path in encoded.videos.items():
            publish(path, files[info.cameras[camera]])
        write_bytes(files["data"], rows.frames_parquet(columns, images, info=info))
        # compared with the file: a commit that failed may have left the tasks of its episode there
        _mend(self.root / TASKS_PATH, rows.tasks_parquet(tasks), read=bytes)
        write_bytes(files["episode"], rows.episode_parquet(episode, info, stats=stats))
        write_bytes(self.root / STATS_PATH, rows.stats_json(total).encode())
        # the commit: from here on the episode exists
        info = replace(
            info,
            total_episodes=info.total_episodes + 1,
            total_frames=info.total_frames + len(episode.state),
            total_tasks=len(tasks),
        )
        write_bytes(self.root / INFO_PATH, info.to_json().encode())
        self.info, self._tasks, self._stats = info, tasks, total


def _stats_in(content: bytes) -> Any:
    """None: it is damaged."""
    with suppress(ValueError):
        return parse_json(content)


def _mend(path: Path, content: bytes, *, read: Callable[[bytes], Any]) -> None:
    """Bring a file to what the complete episodes say; no content: there shall be none."""
    if not content:
        path.unlink(missing_ok=True)
    elif not path.is_file() or read(path.read_bytes()) != read(content):
        write_bytes(path, content)


@contextmanager
def _locked(root: Path) -> Iterator[FolderLock]:
    """Lock the dataset for this process, with an empty staging folder; an error in the block unlocks it, so that
    another program may repair the dataset. Raises DatasetError: another process writes the dataset, or its folder holds
    a link."""
    check_no_links(root)
    try:
        lock = FolderLock(root, "a recording", file=".staging/lock")
    except InUseError as error:
        raise DatasetError(str(error)) from error
    try:
        for entry in (root / ".staging").iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
        yield lock
    except BaseException:
        lock.release()
        raise


def _check_empty(root: Path) -> None:
    found = [entry.name for entry in root.iterdir() if entry.name != ".staging"] if root.is_dir() else []
    if found:
        remedy = "resume the dataset in it, or choose another folder"
        raise FileExistsError(f"{root} is not empty (found {found[0]}); {remedy}")


def _own_info(root: Path) -> DatasetInfo:
    """Raises DatasetError: another program named the files."""
    info = load_info(root)
    if info.data_path != DATA_PATH or info.video_path not in (VIDEO_PATH, None):
        raise DatasetError(f"{root / INFO_PATH} names its files {info.data_path}, expected {DATA_PATH}: {FOREIGN}")
    return info


def _sizes(
    cameras: tuple[str, ...],
    image_size: int | tuple[int, int] | Mapping[str, int | tuple[int, int]],
    *,
    storage: Literal["video", "image"],
) -> dict[str, tuple[int, int]]:
    """camera -> height and width. Raises ValueError: a camera without a size, or a size that cannot be stored."""
    given = image_size if isinstance(image_size, Mapping) else dict.fromkeys(cameras, image_size)
    if set(given) != set(cameras):
        raise ValueError(f"image_size names the cameras {', '.join(given)}, expected {', '.join(cameras)}")
    sizes = {}
    for camera in cameras:
        size = given[camera]
        pair = (size, size) if isinstance(size, int) else tuple(size)
        if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
            raise ValueError(f"image_size of camera {camera!r} must be a height and a width in pixels, got {size}")
        if storage == "video" and any(side % 2 for side in pair):
            problem = f"camera {camera!r}: H.264 stores even sizes, got {pair[0]} x {pair[1]}"
            raise ValueError(f"{problem}; record with an even image size, or with storage='image'")
        sizes[camera] = pair[0], pair[1]
    return sizes


def _files(info: DatasetInfo, episode: int) -> dict[str, Path]:
    """The files of one episode, relative to the dataset: `data`, `episode` and one per video feature."""
    chunk, file = divmod(episode, info.chunks_size)
    files = {
        "data": info.data_file(chunk, file),
        "episode": Path(EPISODES_PATH.format(chunk_index=chunk, file_index=file)),
    }
    return files | {key: info.video_file(key, chunk, file_index=file) for key in info.videos.values()}
