"""The episodes of an evaluation, shared between the workers of a pool.

Every episode is a function of its seed: the environment is reset with it, and the policy's noise and simulated
latencies start from it. With System 2 inline the results do not depend on the number of workers.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from video2act.config import EvaluateOptions, PolicyConfig, StreamConfig
from video2act.config.frames import VisualShiftName
from video2act.engines.policy import EnginePolicy
from video2act.envs import has_expert, is_simulated, make_environment, make_expert
from video2act.evaluation.findings import EpisodeRecord, Measurements
from video2act.evaluation.kept import FinishedEpisode, KeptEpisodes, folder_of
from video2act.evaluation.sources import EvaluatedPolicy, PolicySource, rendered_size
from video2act.files.evaluation_folder import VIDEOS_FOLDER
from video2act.files.run_folder import FrameSizes, sizes_of
from video2act.interfaces import Environment, Expert, RealTimeEnvironment, Watcher
from video2act.limits import Limits
from video2act.runtime.control_loop import EpisodeResult, run_episode
from video2act.runtime.places import keeps_real_time
from video2act.runtime.pool import num_workers, open_pool
from video2act.runtime.refresh import turn
from video2act.runtime.runner import Runner
from video2act.trace import Trace, Tracer
from video2act.types import Observation, Step, Video
from video2act.viz.film import Explain
from video2act.viz.recorder import Recorder
from video2act.viz.rerun_log import RerunLog


@runtime_checkable
class MakeEnvironment(Protocol):
    """As `make_environment`."""

    def __call__(
        self,
        name: str,
        cameras: tuple[str, ...],
        /,
        *,
        image_size: tuple[int, int] | None,
        visual_shift: VisualShiftName | None,
    ) -> Environment: ...


@dataclass(frozen=True)
class Evaluation:
    """A policy, the environments and the options, with their defaults resolved."""

    source: PolicySource
    env: tuple[str, ...]
    options: EvaluateOptions
    make_environment: MakeEnvironment = make_environment
    """module-level functions: they travel to worker processes by name"""
    make_expert: Callable[[Environment], Expert] = make_expert

    @cached_property
    def config(self) -> PolicyConfig:
        return self.source.config()

    @cached_property
    def recorded_sizes(self) -> FrameSizes:
        """Height and width of the policy's cameras in its training data; empty if they are not recorded."""
        return sizes_of(self.config.all_cameras, self.source.frame_sizes())

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that a simulator renders: as chosen, or as recorded. None: not recorded, so its usual size;
        or every environment has a size of its own.

        Raises:
            ValueError: the cameras were recorded at several sizes, and none is chosen.
        """
        is_free = any(map(is_simulated, self.env))
        return rendered_size(self.recorded_sizes, self.options.image_size) if is_free else None

    def open_environment(self, env: str, cameras: tuple[str, ...]) -> Environment:
        return self.make_environment(env, cameras, image_size=self.image_size, visual_shift=self.options.visual_shift)

    @property
    def streams(self) -> tuple[StreamConfig, ...]:
        """System 2's streams; none for the blind control, which needs no image."""
        return self.config.system2.streams if self.config.system2 and not self.options.blind else ()

    @property
    def keeps_real_time(self) -> bool:
        return keeps_real_time(self.options.system2, self.options.runtime)

    @property
    def seeds(self) -> range:
        return range(self.options.seed, self.options.seed + self.options.episodes)

    @property
    def refresh_every(self) -> int:
        return self.options.refresh_every or (1 if self.options.simulate_latency else self.config.refresh_every)

    @cached_property
    def workers(self) -> int:
        options, is_alone = self.options, self.keeps_real_time or self.source.path is None
        if options.workers is None and is_alone:
            return 1
        uses_gpu = self.device.startswith("cuda")
        return num_workers(options.workers, pool=options.pool, local=2, uses_gpu=uses_gpu)

    @property
    def device(self) -> str:
        return self.options.device or "cpu"

    @property
    def num_videos(self) -> int:
        if self.options.out is None or self.options.blind or not self.config.all_cameras:
            return 0
        return self.num_shown

    @property
    def num_shown(self) -> int:
        """Episodes per environment that are filmed or shown in Rerun."""
        return 2 if self.options.num_videos is None else self.options.num_videos

    def find_limits(self) -> Limits | None:
        """The limits of actions. Raises FileNotFoundError or ValueError as `Limits.find` does."""
        return Limits.find(self.options.runtime.limits, self.source.action_statistics)

    def to_json(self) -> dict[str, Any]:
        """The options as `eval_info.json` holds them."""
        out = self.options.out
        return {
            **asdict(self.options),
            "run": self.source.name,
            "env": list(self.env),
            "seeds": list(self.seeds),
            "image_size": self.image_size,
            "recorded_sizes": self.recorded_sizes if self.config.all_cameras else None,
            "refresh_every": self.refresh_every,
            "workers": self.workers,
            "num_videos": self.num_videos,
            "device": self.device,
            "out": None if out is None else str(out),
        }


class Instructed:
    """An environment with another instruction: the control that shows whether a policy uses it."""

    def __init__(self, environment: Environment, instruction: str):
        self.spec = environment.spec
        self._environment = environment
        self._instruction = instruction
        if isinstance(environment, RealTimeEnvironment):
            self.observe = lambda: replace(environment.observe(), instruction=instruction)

    def reset(self, seed: int) -> Observation:
        return replace(self._environment.reset(seed), instruction=self._instruction)

    def step(self, action: Float[np.ndarray, "a"]) -> Step:
        step = self._environment.step(action)
        return replace(step, observation=replace(step.observation, instruction=self._instruction))

    def close(self) -> None:
        self._environment.close()


class EpisodeTask(NamedTuple):
    """One episode of an evaluation."""

    env: str
    number: int

    def __str__(self) -> str:
        return f"episode {self.number} of {self.env}"


def run_episodes(
    evaluation: Evaluation, on_episode: Callable[[bool], object], *, kept: KeptEpisodes | None = None
) -> list[FinishedEpisode]:
    """All episodes, by environment and seed, from the workers of the pool.

    Args:
        on_episode: called after each episode, with its success.
        kept: where finished episodes are written, and read instead of being run again.
    """
    tasks = [EpisodeTask(env, number) for env in evaluation.env for number in range(evaluation.options.episodes)]
    found = {task: episode for task in tasks if kept and (episode := _read(evaluation, kept, task=task))}
    for episode in found.values():
        on_episode(episode.record.success)
    left = [task for task in tasks if task not in found]
    with closing(_play(evaluation, left)) as played:
        for task, episode in played:
            if kept:
                kept.write(episode)
            on_episode(episode.record.success)
            found[task] = episode
    return [found[task] for task in tasks]


def _read(evaluation: Evaluation, kept: KeptEpisodes, *, task: EpisodeTask) -> FinishedEpisode | None:
    episode = kept.read(task.env, evaluation.seeds[task.number])
    is_filmed = episode is not None and episode.record.film is not None
    return episode if is_filmed or task.number >= evaluation.num_videos else None


def _play(
    evaluation: Evaluation, tasks: list[EpisodeTask]
) -> Generator[tuple[EpisodeTask, FinishedEpisode], None, None]:
    if not tasks:
        return
    folders = (evaluation.source.path, evaluation.options.out)
    import torch  # here: an evaluation is checked without it

    num_threads = torch.get_num_threads()
    try:
        with open_pool(
            partial(EpisodeWorker, evaluation),
            min(evaluation.workers, len(tasks)),
            pool=evaluation.options.pool,
            folders=[folder for folder in folders if folder is not None],
            uses_gpu=evaluation.device.startswith("cuda"),
        ) as pool:
            yield from pool.results(tasks)
    finally:
        torch.set_num_threads(num_threads)


class EpisodeWorker:
    """Plays episodes with one policy, in one environment at a time."""

    def __init__(self, evaluation: Evaluation):
        import torch

        torch.set_num_threads(1)
        options, source, runtime = evaluation.options, evaluation.source, evaluation.options.runtime
        system = source.load(evaluation.device)
        self._evaluation = evaluation
        self._system = system.blinded() if options.blind else system
        instruction = options.instruction or ""
        if options.system2 == "process" and not instruction:
            with closing(evaluation.open_environment(evaluation.env[0], ())) as first:
                instruction = first.spec.instruction
        self._whole, self._scene = ExitStack(), ExitStack()
        self._runner = self._whole.enter_context(
            Runner(
                self._system,
                system2=options.system2,
                refresh_every=evaluation.refresh_every,
                instruction=instruction,
                simulate_latency=options.simulate_latency,
                **{**vars(runtime), "limits": evaluation.find_limits() or ""},
            )
        )
        self._counts: dict[str, int] = {}
        self._env = ""

    def __call__(self, task: EpisodeTask) -> FinishedEpisode:
        evaluation, config, runner = self._evaluation, self._system.config, self._runner
        if task.env != self._env:
            self._enter(task.env)
        started = time.perf_counter()
        seed = evaluation.seeds[task.number]
        result, trace, film = play_policy(
            evaluation, self._environment, system=self._system, runner=runner, number=task.number
        )
        times = runner.take_times()
        measured = Measurements(times.act_s, times.perceive_s, staleness=times.staleness_s)
        _measure(measured, result, rate_hz=config.fps if evaluation.keeps_real_time else None)
        measured.incidents = runner.incidents.since(self._counts)
        self._counts = runner.incidents.counts
        record = EpisodeRecord(
            env=task.env,
            seed=seed,
            success=result.success,
            expert_success=self._expert_solves(seed),
            num_steps=result.num_steps,
            missed_deadlines=result.missed_deadlines,
            duration_s=result.duration_s,
            film=film,
        )
        return FinishedEpisode(record, measured, tuple(result.steps), time.perf_counter() - started, trace)

    def _enter(self, env: str) -> None:
        evaluation = self._evaluation
        self._scene.close()
        self._env = ""
        cameras = () if evaluation.options.blind else self._system.config.all_cameras
        self._environment = self._scene.enter_context(closing(evaluation.open_environment(env, cameras)))
        self._expert_solves = self._scene.enter_context(_expert(evaluation, env))
        self._env = env

    def close(self) -> None:
        self._scene.close()
        self._whole.close()


@contextmanager
def _expert(evaluation: Evaluation, env: str) -> Iterator[Callable[[int], bool | None]]:
    """A function that says whether the expert solves the scene of a seed; None where no expert plays."""
    has_none = evaluation.make_expert is make_expert and not has_expert(env)
    if has_none or not evaluation.options.expert:
        yield lambda seed: None
        return
    # the expert needs no camera, and rendering is most of a step
    with closing(evaluation.open_environment(env, ())) as unseen:
        yield partial(play_expert, unseen, evaluation.make_expert(unseen))


def _measure(measured: Measurements, result: EpisodeResult, *, rate_hz: float | None) -> None:
    """Add the control steps of an episode; `rate_hz` is the rate that had to be kept, if any."""
    measured.environment_step.extend(result.environment_step_s)
    measured.control_period.extend(step.period_s for step in result.steps)
    measured.step_staleness.extend(step.staleness_s for step in result.steps if step.staleness_s is not None)
    measured.held_steps += sum(step.is_held for step in result.steps)
    measured.clamped_steps += sum(step.is_clamped for step in result.steps)
    if rate_hz is not None:
        measured.jitter.extend(abs(step.period_s - 1 / rate_hz) for step in result.steps)


def play_policy(
    evaluation: Evaluation,
    environment: Environment,
    *,
    system: EvaluatedPolicy,
    runner: Runner,
    number: int,
) -> tuple[EpisodeResult, Trace, str | None]:
    """Episode `number` of an environment, what it did, and the path of its film in the output folder, if there is
    one."""
    options, config, seed = evaluation.options, system.config, evaluation.seeds[number]
    is_filmed = number < evaluation.num_videos
    # features do not leave an exported graph
    streams = () if isinstance(system, EnginePolicy) else evaluation.streams
    explained = {"explain": _in_turn(system, system.explain), "foresee": _in_turn(system, system.foresee)}
    recorder = Recorder(streams, config.fps, **explained)
    watcher = recorder if is_filmed else Tracer()
    rate_hz = environment.spec.fps if evaluation.keeps_real_time else None
    if options.instruction is not None:
        environment = Instructed(environment, options.instruction)
    system.seed(seed)
    # by its seed: going on with another first seed, an episode has another number
    film = Path(VIDEOS_FOLDER) / folder_of(environment.spec.name) / f"seed_{seed}.mp4"
    with ExitStack() as ending:
        watchers: list[Watcher] = [watcher]
        if options.rerun and number < evaluation.num_shown:
            where = "live" if options.rerun == "live" or options.out is None else options.out / film.with_suffix(".rrd")
            spec = environment.spec
            names = {"state_names": spec.state_names, "action_names": spec.action_names}
            maps = {"fps": config.fps, "streams": streams, **explained} if streams else {}
            watchers.append(ending.enter_context(RerunLog(where, **names, **maps)))
        result = run_episode(environment, runner, seed=seed, watchers=watchers, rate_hz=rate_hz)
    if not is_filmed or options.out is None:
        return result, watcher.trace(), None
    recorder.write(options.out / film, "success" if result.success else "failure")
    return result, watcher.trace(), film.as_posix()


def _in_turn(system: EvaluatedPolicy, see: Explain) -> Explain:
    """A refresh in System 2's thread may be in progress when an episode has ended and its film is made."""

    def seen(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        with turn(system):
            return see(clips, instruction)

    return seen


def play_expert(environment: Environment, expert: Expert, seed: int) -> bool:
    """Whether the expert solves the scene of this seed."""
    environment.reset(seed)
    expert.reset()
    success, is_done = False, False
    while not is_done:
        step = environment.step(expert.act())
        success, is_done = success or step.success, step.done
    return success
