"""Records demonstrations: a scripted expert drives a simulator, in the workers of a pool.

The dataset does not depend on the number of workers, and an interrupted recording continues to the same result: seeds
are handed out in order, finished episodes are committed in that order, and seeds on which the expert fails are skipped.
A suite of tasks is recorded into one dataset, task after task, with equally many episodes of each.
A worker simulates, renders and encodes; this process only moves finished files into the dataset, or is the one worker.

With `noise` the executed action is the expert's plus a disturbance; the recorded action stays clean. So the
demonstrations show how to recover from states that the expert alone would never visit.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from video2act.config.calls import made
from video2act.config.data_options import CollectOptions
from video2act.config.frames import VisualShiftName
from video2act.data import DatasetWriter, EncodedEpisode, Episode, encode_episode, load_origin
from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_format import ACTION, INFO_PATH, DatasetInfo
from video2act.data.lerobot_tables import read_episodes
from video2act.data.origin import check_origin
from video2act.envs import expand_suites, has_expert, list_environments, make_environment, make_expert
from video2act.envs.choices import check_choice
from video2act.envs.registry import is_simulated
from video2act.interfaces import Environment, EnvironmentSpec, Expert
from video2act.progress import Bar
from video2act.runtime.pool import LOCAL, Pool, alone_by_default, num_workers, open_pool
from video2act.runtime.workers import check_sees

MAX_FAILURES_IN_A_ROW = 20
"""after this many failed seeds the recording stops: the expert cannot do the task"""

Setup = Callable[[], tuple[Environment, Expert]]
"""builds an environment and its expert inside a worker; picklable"""


class CollectionError(RuntimeError):
    """The recording cannot continue; complete episodes are in the dataset."""


@dataclass(frozen=True)
class Collected:
    """What `collect` did."""

    dataset: Path
    num_episodes: int
    """in the dataset now"""
    num_recorded: int
    """by this run"""
    failed_seeds: tuple[int, ...]
    """seeds of this run on which the expert failed"""
    duration_s: float


def collect(env: str, out: Path | str, **options: Any) -> Collected:
    """Record expert episodes until the dataset `out` holds `episodes` of them, with those that it holds already.

    Args:
        env: a name of `list_environments`, or a suite: `libero:libero_object`.
        options: the other fields of `CollectOptions`. Without `workers` all is recorded in this process; with more
            than one, the call stands under `if __name__ == "__main__":` in a script.
    Raises:
        DatasetError: `out` was recorded with other settings.
        ValueError: an unknown environment, or one without an expert.
        CollectionError: the expert fails on too many seeds in a row.
        WorkerDiedError: a worker ended; the message names its seed.
    """
    chosen = made(CollectOptions, "collect", {"env": env, "out": Path(out), **alone_by_default(options)})
    # before a worker starts: a name that cannot be recorded, such as one of your own environments, which has no expert
    tasks, known = expand_suites([env]), list_environments()
    demonstrated = [name for name in known if has_expert(name)]
    for task in tasks:
        if task not in known and (":" not in task or is_simulated(task)):
            check_choice("environment", task, choices=known)
        elif task not in known:
            problem = f"{task!r} is an environment of your own, which has no scripted expert to record"
            raise ValueError(f"{problem}; record a person with `video2act run --record`, or write with DatasetWriter")
        check_choice("environment with a scripted expert", task, choices=demonstrated)
    look = {"cameras": chosen.cameras, "image_size": chosen.image_size, "visual_shift": chosen.visual_shift}
    set_up = partial(_set_up, max_steps=chosen.max_steps, **look)
    return record(
        {task: partial(set_up, task) for task in tasks},
        chosen.out,
        chosen.episodes,
        seed=chosen.seed,
        noise=chosen.noise,
        workers=num_workers(chosen.workers, pool=chosen.pool, local=os.cpu_count() or 1),
        videos_only=chosen.videos_only,
        pool=chosen.pool,
        environment=env,
        visual_shift=chosen.visual_shift,
    )


def record(
    setup: Setup | Mapping[str, Setup],
    out: Path | str,
    episodes: int,
    *,
    seed: int,
    noise: float,
    workers: int,
    videos_only: bool,
    pool: str = LOCAL,
    environment: str | None = None,
    visual_shift: VisualShiftName | None = None,
) -> Collected:
    """`collect` for any environment that `setup` builds, or for several alike by their names.

    Args:
        environment: the name that the dataset keeps; the environment's own, if None.
        visual_shift: that of `setup`, for the dataset's record.
    """
    setups = {"": setup} if callable(setup) else setup
    if episodes < 1 or workers < 1 or seed < 0 or noise < 0:
        raise ValueError(
            "collect needs episodes >= 1, workers >= 1, seed >= 0 and noise >= 0; "
            f"got {episodes}, {workers}, {seed} and {noise:g}"
        )
    out, started = Path(out), time.monotonic()
    if (out / INFO_PATH).is_file() and not load_origin(out):
        raise DatasetError(f"{out} was not recorded by collect", "record into a new folder and train on both")
    with open_pool(
        partial(RecordingWorker, setups, noise),
        min(workers, episodes),
        pool=pool,
        # spawn: renderers do not survive a fork, and `worker_context`'s server imports what its first caller needs,
        # here no torch
        context=multiprocessing.get_context("spawn"),
        folders=[next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())],
    ) as team:
        team.submit(None)
        _, spec = team.take()
        spec = replace(spec, name=environment or spec.name)
        settings = {"noise": noise, "videos_only": videos_only, "visual_shift": visual_shift, "seed": seed}
        writer = _open(out, spec, settings)
        with writer, closing(team):  # the workers end before their staging folder does
            entries = read_episodes(out, writer.info) if writer.num_episodes else ()
            before, failed = writer.num_episodes, ()
            for number, task in enumerate(setups):
                have = [entry for entry in entries if len(setups) == 1 or entry.environment == task]
                share = episodes // len(setups) + (number < episodes % len(setups))
                first = max((entry.seed for entry in have if entry.seed is not None), default=seed - 1) + 1
                wanted = writer.num_episodes + max(0, share - len(have))
                failed += _fill(writer, team, task=task, wanted=wanted, first_seed=first)
            return Collected(out, writer.num_episodes, writer.num_episodes - before, failed, time.monotonic() - started)


def record_episode(environment: Environment, expert: Expert, *, seed: int, noise: float) -> Episode | None:
    """One demonstration, or None if the expert did not succeed."""
    spec = environment.spec
    generator = np.random.default_rng(seed)
    # a disturbed gripper would drop what it holds
    scale = noise * np.array(["gripper" not in name for name in spec.action_names], dtype=np.float32)
    observation = environment.reset(seed)
    expert.reset()
    observations, actions = [], []
    while True:
        action = expert.act()
        observations.append(observation)
        actions.append(action)
        step = environment.step(action + scale * generator.standard_normal(len(scale), dtype=np.float32))
        if step.done:
            break
        observation = step.observation
    if not step.success:
        return None
    return Episode(
        frames={
            camera: np.stack([observation.images[camera] for observation in observations]) for camera in spec.cameras
        },
        state=np.stack([observation.state for observation in observations]).astype(np.float32),
        action=np.stack(actions).astype(np.float32),
        instruction=observation.instruction,
        seed=seed,
        environment=spec.name,
    )


def _set_up(name: str, *, cameras: tuple[str, ...] | None, **options: Any) -> tuple[Environment, Expert]:
    environment = make_environment(name, cameras, to_demonstrate=True, **options)
    return environment, make_expert(environment)


@dataclass(frozen=True)
class _Job:
    task: str
    seed: int
    info: DatasetInfo
    folder: Path

    def __str__(self) -> str:
        return f"seed {self.seed}" + (f" of {self.task}" if self.task else "")


class RecordingWorker:
    """Records and encodes the episode of a seed; answers None where the expert failed, and its spec to no job."""

    def __init__(self, setups: Mapping[str, Setup], noise: float):
        self._setups, self._noise = setups, noise
        self._enter(next(iter(setups)))

    def _enter(self, task: str) -> None:
        """One environment at a time: some take a gigabyte."""
        self._environment, self._expert = self._setups[task]()
        self._task = task

    def __call__(self, job: _Job | None) -> EncodedEpisode | EnvironmentSpec | None:
        if job is None:
            return self._environment.spec
        check_sees(job.folder.parent)
        if job.task != self._task:
            self.close()
            self._enter(job.task)
        try:
            episode = record_episode(self._environment, self._expert, seed=job.seed, noise=self._noise)
            if episode is not None and ACTION not in job.info.features:
                episode = replace(episode, action=None)
            # a folder of its own: a worker that is thought dead may still write
            folder = job.folder.with_name(f"{job.folder.name}-{token_hex(4)}")
            return None if episode is None else encode_episode(episode, job.info, folder=folder)
        except OSError as error:
            # a plain OSError: those of libraries do not always survive pickling
            advice = "the complete episodes are kept: remove the cause and run the same command again"
            raise OSError(error.errno, f"{error.strerror or error} while recording; {advice}") from None

    def close(self) -> None:
        self._environment.close()


def _open(out: Path, spec: EnvironmentSpec, settings: Mapping[str, Any]) -> DatasetWriter:
    """The dataset to write, new or continued."""
    origin: dict[str, Any] = {
        "environment": spec.name,
        "robot": spec.robot,
        "fps": spec.fps,
        "cameras": list(spec.cameras),
        "image_size": spec.image_size,
        "max_steps": spec.max_steps,
        "orientation": spec.orientation,
        **settings,
    }
    if not (out / INFO_PATH).is_file():
        return DatasetWriter.create(
            out,
            fps=spec.fps,
            robot=spec.robot,
            cameras=spec.cameras,
            image_size=spec.frame_sizes,
            state_names=spec.state_names,
            action_names=() if settings["videos_only"] else spec.action_names,
            relative_actions=() if settings["videos_only"] else spec.relative_actions,
            origin=origin,
        )
    check_origin(out, origin, made="recorded")
    return DatasetWriter.resume(out)


def _fill(writer: DatasetWriter, team: Pool, *, task: str, wanted: int, first_seed: int) -> tuple[int, ...]:
    """Record until the dataset holds `wanted` episodes; returns the seeds that failed."""
    finished: dict[int, EncodedEpisode | None] = {}
    failed: list[int] = []
    next_job = next_commit = first_seed
    failures_in_a_row = 0
    before, started = writer.num_episodes, time.monotonic()
    with Bar("recording", wanted, unit="episode", done=before) as bar:
        while writer.num_episodes < wanted:
            promised = (
                writer.num_episodes + team.num_running + sum(episode is not None for episode in finished.values())
            )
            while team.has_free and promised < wanted:
                # named after this process, too: a worker of a collector that was killed may still be at the same seed
                folder = writer.staging / f"{os.getpid()}-seed-{next_job}"
                team.submit(_Job(task, next_job, writer.info, folder))
                next_job, promised = next_job + 1, promised + 1
            job, episode = team.take()
            finished[job.seed] = episode
            while next_commit in finished:
                episode = finished.pop(next_commit)
                if episode is None:
                    failed.append(next_commit)
                    failures_in_a_row += 1
                else:
                    writer.commit(episode)
                    failures_in_a_row = 0
                next_commit += 1
            if failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise CollectionError(
                    f"the expert failed on {failures_in_a_row} seeds in a row, up to {next_commit - 1}; "
                    "allow it more steps or lower the noise"
                )
            rate = (writer.num_episodes - before) / (time.monotonic() - started) * 60
            bar.update(writer.num_episodes, f"{rate:.0f} episodes/min, {len(failed)} failed")
    return tuple(failed)
