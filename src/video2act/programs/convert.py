"""`video2act convert robotwin`: RoboTwin's HDF5 files -> a LeRobotDataset v3.0, in as many local processes as there are
cores.

Workers decode and encode episodes, one process commits them in order, so the dataset does not depend on their
number. The same command continues an interrupted conversion. An unreadable episode stops the conversion; complete
episodes are kept.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from video2act.config.data_options import RoboTwinOptions
from video2act.data import DatasetWriter, EncodedEpisode, encode_episode, load_origin
from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_format import INFO_PATH, DatasetInfo
from video2act.data.origin import ORIGIN_PATH, check_origin, origin_json
from video2act.data.recording_format import MismatchError
from video2act.data.robotwin import Source, find_episodes, read_episode
from video2act.embodiment import two_arms
from video2act.files.atomic import write_text
from video2act.progress import Bar
from video2act.runtime.pool import open_pool

AHEAD = 4
"""episodes for each worker that may be encoded before the next one in order is"""


def convert_robotwin(folder: Path | str, out: Path | str, **options: Any) -> int:
    """Convert every episode below `folder`; returns how many the dataset holds. Run again to go on.

    Args:
        options: the fields of `RoboTwinOptions`.
    Raises:
        FileNotFoundError: there are no episodes, or no instructions.
        DatasetError: a file is damaged or unlike the first one, or `out` holds another conversion.
        ValueError: a number is out of range.
    """
    chosen = RoboTwinOptions(folder=Path(folder), out=Path(out), **options)
    workers, instructions = chosen.workers, chosen.instructions
    if not chosen.robot.strip():
        raise ValueError("a dataset names its robot, got an empty --robot")
    out, sources = Path(out), find_episodes(folder, instructions)
    settings = {"converted": "robotwin"} | {name: getattr(chosen, name) for name in ("fps", "robot", "order", "task")}
    writer = _open(out, sources, settings=settings)
    with writer, _nothing_half_begun(writer):
        left = sources[writer.num_episodes :]
        num_workers = min(workers or os.cpu_count() or 1, max(1, len(left)))
        episodes = _encoded(left, writer, num_workers=num_workers, settings=settings)
        bar = Bar("converting", len(sources), unit="episode", done=writer.num_episodes)
        with bar, closing(episodes):
            for episode in episodes:
                writer.commit(episode)
                bar.advance()
        return writer.num_episodes


@contextmanager
def _nothing_half_begun(writer: DatasetWriter) -> Iterator[None]:
    """Where not even the first episode can be converted, no empty dataset stays behind."""
    try:
        yield
    except BaseException:
        if not writer.num_episodes:
            writer.discard()
        raise


def _encoded(
    sources: list[Source], writer: DatasetWriter, *, num_workers: int, settings: dict[str, Any]
) -> Generator[EncodedEpisode, None, None]:
    """The episodes in order, each encoded by whichever worker is free; few wait on the disk for a slow one."""
    first = writer.num_episodes
    jobs = (_Job(source, writer.staging / f"episode-{i}") for i, source in enumerate(sources, first))
    if not sources:
        return
    with open_pool(partial(ConvertingWorker, writer.info, settings), num_workers) as pool:
        yield from (episode for _, episode in pool.in_order(jobs, ahead=AHEAD * num_workers))


class _Job(NamedTuple):
    source: Source
    folder: Path

    def __str__(self) -> str:
        return str(self.source.file)


class ConvertingWorker:
    """Decodes and encodes an episode of RoboTwin."""

    def __init__(self, info: DatasetInfo, settings: dict[str, Any]):
        self._info, self._settings = info, settings

    def __call__(self, job: _Job) -> EncodedEpisode:
        source = job.source
        try:
            episode = read_episode(source, self._settings["task"], order=self._settings["order"])
            return encode_episode(episode, self._info, folder=job.folder)
        except DatasetError:
            raise
        except MismatchError as error:  # with the first episode
            remedy = "convert different robots and cameras into datasets of their own"
            raise DatasetError(f"{source.file}: {error}", remedy) from error
        except ValueError as error:
            raise DatasetError(f"{source.file}: {error}") from error

    def close(self) -> None: ...


def _open(out: Path, sources: list[Source], *, settings: dict[str, Any]) -> DatasetWriter:
    names = [source.name for source in sources]
    if not (out / INFO_PATH).is_file():
        first = read_episode(sources[0], settings["task"], order=settings["order"])
        if first.state.shape[1] % 2:
            found = f"{first.state.shape[1]} joints and grippers; expected two arms of equally many"
            raise DatasetError(f"{sources[0].file}: {found}")
        joints = two_arms(first.state.shape[1] // 2 - 1)
        return DatasetWriter.create(
            out,
            fps=float(settings["fps"]),
            robot=settings["robot"],
            cameras=tuple(first.frames),
            image_size={camera: frames.shape[1:3] for camera, frames in first.frames.items()},
            state_names=joints,
            action_names=joints,
            origin={**settings, "episodes": names},
        )
    if load_origin(out).get("converted") != "robotwin":
        raise DatasetError(f"{out} was not converted from RoboTwin", "convert into a new folder and train on both")
    origin = check_origin(out, settings, made="converted")
    writer = DatasetWriter.resume(out)
    done = origin["episodes"][: writer.num_episodes]
    if names[: len(done)] != done:
        writer.close()
        other = next((name for name, old in zip(names, done, strict=False) if name != old), "fewer episodes")
        problem = f"{out} holds other episodes than the folder now begins with (found {other})"
        raise DatasetError(problem, "choose a new folder")
    # the folder may have grown since
    write_text(out / ORIGIN_PATH, origin_json({**settings, "episodes": names}))
    return writer
