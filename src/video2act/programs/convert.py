"""`video2act convert robotwin`: RoboTwin's HDF5 files -> a LeRobotDataset v3.0, in as many processes as there are
cores.

Processes decode and encode episodes, one process commits them in order, so the dataset does not depend on their
number. The same command continues an interrupted conversion. An unreadable episode stops the conversion; complete
episodes are kept.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress

from video2act.config.data_options import RoboTwinOptions
from video2act.data import DatasetWriter, EncodedEpisode, encode_episode, load_origin
from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_format import INFO_PATH, DatasetInfo
from video2act.data.lerobot_writer import ORIGIN_PATH, check_origin, origin_json
from video2act.data.recording_format import MismatchError
from video2act.data.robotwin import Source, find_episodes, joint_names, read_episode
from video2act.files.atomic import write_text
from video2act.runtime.workers import end_with_program, worker_context


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
        with Progress() as progress:
            bar = progress.add_task("converting", total=len(sources), completed=writer.num_episodes)
            for episode in _encoded(left, writer, num_workers=num_workers, settings=settings):
                writer.commit(episode)
                progress.update(bar, completed=writer.num_episodes)
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
) -> Iterator[EncodedEpisode]:
    """The episodes in order, each encoded by whichever process is free."""
    jobs: list[tuple[Source, DatasetInfo, Path, dict[str, Any]]] = [
        (source, writer.info, writer.staging / f"episode-{writer.num_episodes + i}", settings)
        for i, source in enumerate(sources)
    ]
    if num_workers == 1:
        yield from (_convert(*job) for job in jobs)
        return
    with ProcessPoolExecutor(num_workers, worker_context(_convert), end_with_program) as pool:
        running: deque[Future[EncodedEpisode]] = deque()
        try:
            # a few ahead: more would wait on disk
            for job in jobs:
                running.append(pool.submit(_convert, *job))
                if len(running) == 2 * num_workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            advice = "run the same command again, with fewer workers"
            raise OSError(f"a process ended without a word (often a lack of memory); {advice}") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _convert(source: Source, info: DatasetInfo, folder: Path, settings: dict[str, Any]) -> EncodedEpisode:
    try:
        episode = read_episode(source, settings["task"], order=settings["order"])
        return encode_episode(episode, info, folder=folder)
    except DatasetError:
        raise
    except MismatchError as error:  # with the first episode
        remedy = "convert different robots and cameras into datasets of their own"
        raise DatasetError(f"{source.file}: {error}", remedy) from error
    except ValueError as error:
        raise DatasetError(f"{source.file}: {error}") from error


def _open(out: Path, sources: list[Source], *, settings: dict[str, Any]) -> DatasetWriter:
    names = [source.name for source in sources]
    if not (out / INFO_PATH).is_file():
        first = read_episode(sources[0], settings["task"], order=settings["order"])
        if first.state.shape[1] % 2:
            found = f"{first.state.shape[1]} joints and grippers; expected two arms of equally many"
            raise DatasetError(f"{sources[0].file}: {found}")
        joints = joint_names(first.state.shape[1])
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
