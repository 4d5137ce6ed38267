"""What an evaluation asks for, and how one share of its episodes is played: what runs in each worker process.

Every episode is a function of its seed: the environment is reset with it, and the policy's noise, and simulated latencies, start
from it. So results do not depend on how the episodes are shared out.
"""

import importlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from video2act.config import PolicyConfig, RuntimeConfig, SimulatedLatency
from video2act.envs import make_environment, make_expert
from video2act.evaluation.findings import EpisodeRecord, Measurements
from video2act.files.run_folder import STATISTICS_FILE, load_config
from video2act.interfaces import DualSystem, Environment, Expert, Perceiver
from video2act.limits import Limits
from video2act.normalize import load_statistics
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.assembly import (
    SlowParts,
    keeps_real_time,
    make_durations,
    make_executor,
    make_slow_loop,
    make_virtual_slow_loop,
)
from video2act.runtime.control_loop import EpisodeResult, StepRecord, run_episode
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.executor import Executor
from video2act.runtime.slow_loop import SlowLoop
from video2act.system2 import load_system2
from video2act.types import Observation, Step, Video
from video2act.viz.recorder import Recorder


@runtime_checkable
class EvaluatedPolicy(DualSystem, Protocol):
    """What an evaluation asks of a policy; `Video2Act` is one."""

    config: PolicyConfig

    def seed(self, seed: int) -> None: ...
    def blinded(self) -> "EvaluatedPolicy": ...
    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]: ...


def load_policy(run: Path, device: str) -> EvaluatedPolicy:
    return Video2Act.load(run, device)


def connect_system2(address: str, spec: RefreshSpec, *, hang_timeout_s: float) -> SlowLoop:
    # its websockets are an extra of the package, needed by nothing else here
    return importlib.import_module("video2act.serving.client").connect_system2(
        address, spec, hang_timeout_s=hang_timeout_s
    )


@dataclass(frozen=True)
class Sources:
    """Where a worker process gets its policy and its world from; module-level functions, because they travel to it by name."""

    load_config: Callable[[Path], PolicyConfig] = load_config
    load_policy: Callable[[Path, str], EvaluatedPolicy] = load_policy
    load_system2: Callable[[Path, str], Perceiver] = load_system2
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
    system2: str
    """inline, thread, process, or ws://host:port"""
    blind: bool
    instruction: str | None
    """said to the policy in place of the environment's own instruction"""
    workers: int
    num_videos: int
    """films per environment, of the first episodes"""
    out: Path
    device: str
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    simulate_latency: SimulatedLatency | None = None

    @property
    def keeps_real_time(self) -> bool:
        return keeps_real_time(self.system2, self.runtime)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.episodes)

    def to_json(self) -> dict[str, Any]:
        plain = {"run": str(self.run), "out": str(self.out), "env": list(self.env), "seeds": list(self.seeds)}
        return {**asdict(self), **plain}

    def film_path(self, env: str, episode: int) -> Path:
        return self.out / "videos" / env.replace(":", "_") / f"eval_episode_{episode}.mp4"


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


@dataclass
class Share:
    """What one worker process brings back."""

    records: list[EpisodeRecord] = field(default_factory=list)
    measured: Measurements = field(default_factory=Measurements)
    steps: list[tuple[str, int, StepRecord]] = field(default_factory=list)
    """environment, seed and record of every control step"""


def run_share(
    settings: Settings, sources: Sources, *, share: list[tuple[str, int]], tell: Callable[[bool], object]
) -> Share:
    """The episodes (environment, number) of one worker process, which has one environment at a time and one policy.

    `tell` is called after each episode, with its success.
    """
    torch.set_num_threads(1)
    system = sources.load_policy(settings.run, settings.device)
    system = system.blinded() if settings.blind else system
    config, runtime = system.config, settings.runtime
    # the blind control is shown nothing, so nothing needs to be drawn for it
    cameras = () if settings.blind else config.all_cameras
    streams = config.system2.streams if config.system2 and not settings.blind else ()
    durations, limits, done = make_durations(settings.simulate_latency), load_limits(settings), Share()
    instruction = settings.instruction or ""
    if settings.system2 == "process" and not instruction:
        with closing(sources.make_environment(share[0][0], ())) as first:
            instruction = first.spec.instruction
    build = partial(sources.load_system2, settings.run, runtime.system2_device or settings.device)
    parts = SlowParts(RefreshSpec(streams, settings.refresh_every, config.fps), build, instruction, connect_system2)
    if durations is None:
        slow_loop = make_slow_loop(settings.system2, system, parts=parts, runtime=runtime)
    else:
        slow_loop = make_virtual_slow_loop(system, parts, durations=durations)
    looks_through = () if settings.blind else config.cameras
    with closing(DualPolicy(system, slow_loop, cameras=looks_through, runtime=runtime)) as policy:
        for env, numbers in groupby(share, key=lambda item: item[0]):
            with (
                closing(sources.make_environment(env, cameras)) as environment,
                # the expert needs no camera, and rendering is most of a step
                closing(sources.make_environment(env, ())) as unseen,
                closing(
                    make_executor(
                        policy,
                        environment.spec,
                        execute_steps=config.execute_steps,
                        runtime=runtime,
                        limits=limits,
                        durations=durations,
                    )
                ) as executor,
            ):
                expert = sources.make_expert(unseen)
                for _, number in numbers:
                    seed = settings.seeds[number]
                    if durations is not None:
                        durations.seed(seed)
                    result, film = play_policy(
                        settings, environment, system=system, policy=policy, executor=executor, number=number
                    )
                    _measure(done.measured, result, rate_hz=config.fps if settings.keeps_real_time else None)
                    done.steps.extend((env, seed, step) for step in result.steps)
                    done.records.append(
                        EpisodeRecord(
                            env=env,
                            seed=seed,
                            success=result.success,
                            expert_success=play_expert(unseen, expert, seed=seed),
                            num_steps=result.num_steps,
                            missed_deadlines=result.missed_deadlines,
                            duration_s=result.duration_s,
                            film=None if film is None else film.relative_to(settings.out).as_posix(),
                        )
                    )
                    tell(result.success)
                done.measured.incidents += executor.incidents
    done.measured.incidents += policy.incidents
    times = policy.times
    done.measured.extend(Measurements(list(times.act_s), policy.perceive_s, staleness=list(times.staleness_s)))
    return done


def _measure(measured: Measurements, result: EpisodeResult, *, rate_hz: float | None) -> None:
    """Add an episode's control steps to what was measured; `rate_hz` is the rate that was to be kept, if any."""
    measured.environment_step.extend(result.environment_step_s)
    measured.control_period.extend(step.period_s for step in result.steps)
    measured.step_staleness.extend(step.staleness_s for step in result.steps if step.staleness_s is not None)
    measured.held_steps += sum(step.is_held for step in result.steps)
    measured.clamped_steps += sum(step.is_clamped for step in result.steps)
    if rate_hz is not None:
        measured.jitter.extend(abs(step.period_s - 1 / rate_hz) for step in result.steps)


def load_limits(settings: Settings) -> Limits | None:
    """The limits of actions that were asked for. Raises FileNotFoundError or ValueError as `Limits.find` does."""
    return Limits.find(settings.runtime.limits, lambda: load_statistics(settings.run / STATISTICS_FILE)["action"])


def play_policy(
    settings: Settings,
    environment: Environment,
    *,
    system: EvaluatedPolicy,
    policy: DualPolicy,
    executor: Executor,
    number: int,
) -> tuple[EpisodeResult, Path | None]:
    """Episode `number` of an environment, and the path of its film if one was made."""
    config, seed = system.config, settings.seeds[number]
    streams = config.system2.streams if config.system2 else ()
    film = (
        settings.film_path(environment.spec.name, number)
        if number < settings.num_videos and config.all_cameras and not settings.blind
        else None
    )
    recorder = Recorder(streams, config.fps, explain=system.explain)
    rate_hz = environment.spec.fps if settings.keeps_real_time else None
    if settings.instruction is not None:
        environment = Instructed(environment, settings.instruction)
    system.seed(seed)
    watchers = [recorder] if film else []
    result = run_episode(
        environment,
        policy,
        execute_steps=config.execute_steps,
        watchers=watchers,
        seed=seed,
        rate_hz=rate_hz,
        executor=executor,
    )
    if film is not None:
        recorder.write(film)
    return result, film


def play_expert(environment: Environment, expert: Expert, *, seed: int) -> bool:
    """Whether the expert solves the scene of this seed."""
    environment.reset(seed)
    expert.reset()
    success, is_done = False, False
    while not is_done:
        step = environment.step(expert.act())
        success, is_done = success or step.success, step.done
    return success
