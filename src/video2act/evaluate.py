"""`video2act evaluate`: how often a policy succeeds, how fast each system was, and how stale what it acted on.

- Every episode is a function of its seed: the environment is reset with it and the policy's noise starts from it. With System 2
  inline, the result does not depend on the number of worker processes: each has its own environment, policy and one torch thread.
- With System 2 in a thread, the control loop runs at the environment's own rate: staleness then means what it means on a robot.
- The expert plays the same seeds, so that a scene nobody can solve is seen as one. `blind` and `instruction` turn the same run
  into a control: what a policy achieves without seeing, or when told something else.
- Rates come with counts and a Wilson interval; latencies are wall-clock of this machine, cold start included.
"""

import datetime
import json
import time
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console

from video2act import config as configs
from video2act.atomic import write_text
from video2act.config import PolicyConfig
from video2act.envs import make_environment, make_expert
from video2act.interfaces import DualSystem, Environment, EnvironmentSpec, Expert
from video2act.policy import CONFIG_FILE, SCENES_FILE, Video2Act
from video2act.runtime.control_loop import EpisodeResult, run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.slow_loop import InlineSlowLoop, ThreadSlowLoop
from video2act.types import Observation, Step, Video
from video2act.viz.findings import EpisodeRecord, Measurements, Rate, make_info, rates
from video2act.viz.recorder import Recorder
from video2act.viz.report import EpisodeProgress, evaluation_tables, heading

INFO_FILE = "eval_info.json"


@runtime_checkable
class EvaluatedPolicy(DualSystem, Protocol):
    """What an evaluation asks of a policy; `Video2Act` is one."""

    config: PolicyConfig

    def seed(self, seed: int) -> None: ...
    def blinded(self) -> "EvaluatedPolicy": ...
    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]: ...


def load_config(run: Path) -> PolicyConfig:
    return configs.load(PolicyConfig, run / CONFIG_FILE)


def load_policy(run: Path, device: str) -> EvaluatedPolicy:
    return Video2Act.load(run, device)


@dataclass(frozen=True)
class Sources:
    """Where a worker process gets its policy and its world from; module-level functions, because they travel to it by name."""

    load_config: Callable[[Path], PolicyConfig] = load_config
    load_policy: Callable[[Path, str], EvaluatedPolicy] = load_policy
    make_environment: Callable[[str, tuple[str, ...]], Environment] = make_environment
    make_expert: Callable[[Environment], Expert] = make_expert


@dataclass(frozen=True)
class Settings:
    """What was asked for; written into the result as it is."""

    run: Path
    env: tuple[str, ...]
    episodes: int
    """per environment"""
    seed: int
    """of the first episode; the following ones count up"""
    refresh_every: int
    system2: Literal["inline", "thread"]
    blind: bool
    instruction: str | None
    """said to the policy in place of the environment's own instruction"""
    workers: int
    num_videos: int
    """films per environment, of the first episodes"""
    out: Path
    device: str

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.episodes)

    def to_json(self) -> dict[str, Any]:
        plain = {"run": str(self.run), "out": str(self.out), "env": list(self.env), "seeds": list(self.seeds)}
        return {**asdict(self), **plain}

    def film_path(self, env: str, episode: int) -> Path:
        return self.out / "videos" / env.replace(":", "_") / f"eval_episode_{episode}.mp4"


@dataclass(frozen=True)
class EvaluationSummary:
    """The result of an evaluation; `info` is what `eval_info.json` holds."""

    success: Rate
    expert: Rate
    records: tuple[EpisodeRecord, ...]
    info: dict[str, Any]
    path: Path


def check_fits(config: PolicyConfig, spec: EnvironmentSpec) -> None:
    """Refuse an environment that is not the robot the policy was trained for. Raises ValueError that names both sides."""
    problems = []
    if not set(config.all_cameras) <= set(spec.cameras):
        needed, offered = ", ".join(config.all_cameras), ", ".join(spec.cameras) or "none"
        problems.append(f"cameras: the policy needs {needed}, the environment has {offered}")
    for name, ours, theirs in (
        ("state size", config.state_dim, len(spec.state_names)),
        ("action size", config.action_dim, len(spec.action_names)),
        ("control steps per second", config.fps, spec.fps),
    ):
        if ours != theirs:
            problems.append(f"{name}: the policy was trained with {ours:g}, the environment has {theirs:g}")
    if problems:
        raise ValueError(f"this policy cannot drive {spec.name}; choose the environment of its data. " + "; ".join(problems))


class Instructed:
    """An environment whose instruction is replaced: the control for whether a policy listens."""

    def __init__(self, environment: Environment, instruction: str):
        self.spec = environment.spec
        self._environment = environment
        self._instruction = instruction

    def reset(self, seed: int) -> Observation:
        return replace(self._environment.reset(seed), instruction=self._instruction)

    def step(self, action: Float[np.ndarray, "a"]) -> Step:
        step = self._environment.step(action)
        return replace(step, observation=replace(step.observation, instruction=self._instruction))

    def close(self) -> None:
        self._environment.close()


Shared = tuple[list[EpisodeRecord], Measurements]
"""what one worker process brings back"""


def run_share(settings: Settings, sources: Sources, share: list[tuple[str, int]], tell: Callable[[bool], object]) -> Shared:
    """The episodes (environment, number) of one worker process, which has one environment at a time and one policy.

    `tell` is called after each episode, with its success.
    """
    torch.set_num_threads(1)
    system = sources.load_policy(settings.run, settings.device)
    system = system.blinded() if settings.blind else system
    config = system.config
    # the blind control is shown nothing, so nothing needs to be drawn for it
    cameras = () if settings.blind else config.all_cameras
    streams = config.system2.streams if config.system2 and not settings.blind else ()
    make_slow_loop = ThreadSlowLoop if settings.system2 == "thread" else InlineSlowLoop
    slow_loop = make_slow_loop(system, streams, settings.refresh_every, config.fps)
    measured, records = Measurements(), []
    with closing(DualPolicy(system, slow_loop, () if settings.blind else config.cameras)) as policy:
        for env, numbers in groupby(share, key=lambda item: item[0]):
            with (
                closing(sources.make_environment(env, cameras)) as environment,
                # the expert needs no camera, and rendering is most of a step
                closing(sources.make_environment(env, ())) as unseen,
            ):
                expert = sources.make_expert(unseen)
                for _, number in numbers:
                    seed = settings.seeds[number]
                    result, film = play_policy(settings, environment, system, policy, number)
                    measured.environment_step.extend(result.environment_step_s)
                    records.append(
                        EpisodeRecord(
                            env=env,
                            seed=seed,
                            success=result.success,
                            expert_success=play_expert(unseen, expert, seed),
                            num_steps=result.num_steps,
                            missed_deadlines=result.missed_deadlines,
                            duration_s=result.duration_s,
                            film=None if film is None else film.relative_to(settings.out).as_posix(),
                        )
                    )
                    tell(result.success)
    measured.extend(Measurements(policy.times.act_s, policy.perceive_s, staleness=policy.times.staleness_s))
    return records, measured


def play_policy(
    settings: Settings, environment: Environment, system: EvaluatedPolicy, policy: DualPolicy, number: int
) -> tuple[EpisodeResult, Path | None]:
    """Episode `number` of an environment, and the path of its film if one was made."""
    config, seed = system.config, settings.seeds[number]
    streams = config.system2.streams if config.system2 else ()
    film = (
        settings.film_path(environment.spec.name, number)
        if number < settings.num_videos and config.all_cameras and not settings.blind
        else None
    )
    recorder = Recorder(streams, config.fps, system.explain)
    rate_hz = environment.spec.fps if settings.system2 == "thread" else None
    if settings.instruction is not None:
        environment = Instructed(environment, settings.instruction)
    system.seed(seed)
    result = run_episode(environment, policy, config.execute_steps, [recorder] if film else [], seed, rate_hz)
    if film is not None:
        recorder.write(film)
    return result, film


def play_expert(environment: Environment, expert: Expert, seed: int) -> bool:
    """Whether the expert solves the scene of this seed."""
    environment.reset(seed)
    expert.reset()
    success, is_done = False, False
    while not is_done:
        step = environment.step(expert.act())
        success, is_done = success or step.success, step.done
    return success


def run_evaluation(settings: Settings, sources: Sources) -> EvaluationSummary:
    """Share the episodes out, run them, write `eval_info.json`."""
    for name, value in (
        ("episodes", settings.episodes),
        ("workers", settings.workers),
        ("environments", len(settings.env)),
        ("refresh_every", settings.refresh_every),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    config = sources.load_config(settings.run)
    for env in settings.env:  # before any work is done
        check_unseen(settings.seeds, training_seeds(settings.run, env))
        try:
            environment = sources.make_environment(env, config.all_cameras)
        except ValueError as error:
            raise ValueError(f"this policy looks through {', '.join(config.all_cameras) or 'no camera'}, but: {error}") from error
        check_fits(config, environment.spec)
        environment.close()
    started = time.perf_counter()
    tasks = [(env, number) for env in settings.env for number in range(settings.episodes)]
    shares = [tasks[first :: settings.workers] for first in range(min(settings.workers, len(tasks)))]
    with EpisodeProgress(len(tasks)) as progress:
        results = _run_shares(settings, sources, shares, progress)
    records = sorted((record for share, _ in results for record in share), key=lambda r: (settings.env.index(r.env), r.seed))
    measured = Measurements()
    for _, share_measured in results:
        measured.extend(share_measured)
    info = make_info(settings.to_json(), config, records, measured, time.perf_counter() - started)
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return EvaluationSummary(*rates(records), tuple(records), info, settings.out / INFO_FILE)


def _run_shares(
    settings: Settings, sources: Sources, shares: list[list[tuple[str, int]]], progress: EpisodeProgress
) -> list[Shared]:
    """A single share in this process, several in one process each."""
    if len(shares) == 1:
        num_threads = torch.get_num_threads()
        try:
            return [run_share(settings, sources, shares[0], progress.tell)]
        finally:
            torch.set_num_threads(num_threads)
    # spawn, not fork: a forked process inherits locks of torch's threads and a dead GL context
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(shares), context) as pool:
        told = manager.Queue()
        futures = [pool.submit(run_share, settings, sources, share, told.put) for share in shares]
        while wait(futures, timeout=0.5).not_done:
            while not told.empty():
                progress.tell(told.get())
        return [future.result() for future in futures]


def evaluate(
    run: Path,
    env: str | list[str],
    episodes: int = 50,
    seed: int = 1000,
    refresh_every: int | None = None,
    system2: Literal["inline", "thread"] = "inline",
    blind: bool = False,
    instruction: str | None = None,
    workers: int = 2,
    num_videos: int = 2,
    out: Path | None = None,
    device: str = "cpu",
) -> EvaluationSummary:
    """Let a trained policy act, write down how it went, and print it.

    Args:
        run: folder with the policy.
        env: environment, or several, as `make_environment` knows them.
        episodes: per environment.
        seed: of the first episode; the others count up from it.
        refresh_every: control steps between refreshes of System 2; as the policy was configured, if None.
        system2: `inline` waits for System 2 and is reproducible; `thread` lets it lag behind, at the environment's own rate.
        blind: the control that is shown no image and no video.
        instruction: the control that is told something else.
        workers: processes that share the episodes.
        num_videos: films per environment, of its first episodes.
        out: folder for `eval_info.json` and the films; a new one inside `run`, if None.
        device: where each worker puts its policy.

    Raises:
        ValueError: the environment does not fit the policy, a seed was trained on, or a number is out of range.
    """
    now = datetime.datetime.now()
    settings = Settings(
        run=run,
        env=(env,) if isinstance(env, str) else tuple(env),
        episodes=episodes,
        seed=seed,
        refresh_every=load_config(run).refresh_every if refresh_every is None else refresh_every,
        system2=system2,
        blind=blind,
        instruction=instruction,
        workers=workers,
        num_videos=num_videos,
        out=out or run / "eval" / f"{now:%Y-%m-%d_%H-%M-%S}",
        device=device,
    )
    summary = run_evaluation(settings, Sources())
    Console().print(heading(summary.info), *evaluation_tables(summary.info), summary.path, sep="\n")
    return summary


def training_seeds(run: Path, env: str) -> list[int]:
    """The seeds of this environment that the policy was trained on, as far as its run folder knows."""
    path = run / SCENES_FILE
    return json.loads(path.read_text()).get(env, []) if path.is_file() else []


def check_unseen(seeds: range, training_seeds: Collection[int]) -> None:
    """Raises ValueError if a scene of the demonstrations would be evaluated on."""
    seen = sorted(set(seeds) & set(training_seeds))
    if seen:
        raise ValueError(
            f"{len(seen)} of the seeds {seeds.start}..{seeds.stop - 1} are in the training data, {seen[0]} among them: a success "
            f"there may be memory. Start at another seed, for example {max(training_seeds) + 1}"
        )
