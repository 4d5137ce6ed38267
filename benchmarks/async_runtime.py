"""What System 2 does to the fast loop: nothing, slowed ten times, hung; in a thread and in a process; and a soak.

    python benchmarks/async_runtime.py --out runs/async_runtime
    python benchmarks/async_runtime.py --out runs/async_runtime --soak-s 600

The policy is `tiny` with random weights, whose speed is that of a trained one; the robot is synthetic, two cameras of
128 px, and keeps its rate on the real clock. All modes run in turns within one run, and what counts is the ratio to the
fast loop with System 2 off (it acts on one condition for ever). "Slow" computes every refresh ten times; "hung" never
ends its second one, so that a process is found out, killed and started again all the while. Written to
`async_runtime.json` and as a table.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from video2act.config import PolicyConfig
from video2act.files.atomic import write_text
from video2act.interfaces import EnvironmentSpec, Perceiver
from video2act.policy import Video2Act
from video2act.programs.bench import random_policy
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.control_loop import EpisodeResult, run_episode
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.system2 import load_system2
from video2act.types import Observation, Step, Tokens, Video

CAMERAS = ("front", "wrist")


@dataclass(frozen=True)
class Settings:
    """What is run."""

    out: Path
    rate_hz: float = 20.0
    """control steps per second; the tiny policy plans every fourth"""
    segment_s: float = 10.0
    """of one mode in one round"""
    rounds: int = 3
    slow_factor: int = 10
    hang_timeout_s: float = 5.0
    system1: Literal["inline", "thread"] = "inline"
    """thread: plans are made beside the control loop, too"""
    soak_s: float = 0.0
    """only this: a process beside the loop for so long, and what memory does meanwhile"""


class Robot:
    """Two cameras that show something new at every control step."""

    def __init__(self, fps: float, num_steps: int):
        """`fps` is the policy's, and that of the robot's own clock; it may be run slower than that."""
        names = ("x", "y", "z", "grip")
        self.spec = EnvironmentSpec("bench:robot", "none", "push the puck", CAMERAS, 128, names, names, fps, num_steps)
        self._frames = np.random.default_rng(0).integers(0, 256, (32, 128, 128, 3), np.uint8)
        self._step = 0

    def reset(self, seed: int) -> Observation:
        self._step = 0
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        self._step += 1
        return Step(self._observe(), self._step == self.spec.max_steps, False)

    def close(self) -> None: ...

    def _observe(self) -> Observation:
        frame = self._frames[self._step % len(self._frames)]
        images: dict[str, np.ndarray] = {}
        for camera in CAMERAS:
            images[camera] = frame
        return Observation(images, np.zeros(4, np.float32), self.spec.instruction, self._step / self.spec.fps)


class Slowed:
    """System 2, computing everything several times."""

    def __init__(self, system2: Perceiver, times: int):
        self._system2, self._times = system2, times

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        for _ in range(self._times - 1):
            self._system2.perceive(clips, instruction)
        return self._system2.perceive(clips, instruction)


class Hanging:
    """System 2, which never ends a refresh but the first ones: a warm-up, and one that the loop can begin with."""

    def __init__(self, system2: Perceiver, good: int):
        self._system2, self._good = system2, good

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if self._good == 0:
            time.sleep(1e6)
        self._good -= 1
        return self._system2.perceive(clips, instruction)


class Once(InlineSlowLoop):
    """System 2 is off: what it understood of the first frame serves for ever."""

    def observe(self, observation: Observation) -> None:
        if self._condition is None:
            super().observe(observation)


def slowed(run: Path, times: int) -> Perceiver:
    return Slowed(load_system2(run), times)


def hanging(run: Path) -> Perceiver:
    return Hanging(load_system2(run), good=2)


def make_loops(settings: Settings, run: Path, policy: Video2Act) -> dict[str, Callable[[], SlowLoop]]:
    """How each mode's slow loop is made."""
    assert policy.config.system2 is not None
    spec = RefreshSpec(policy.config.system2.streams, refresh_every=1, control_fps=policy.config.fps)
    process = partial(ProcessSlowLoop, hang_timeout_s=settings.hang_timeout_s)
    thread = partial(ThreadSlowLoop, hang_timeout_s=settings.hang_timeout_s)
    return {
        "off": lambda: Once(policy, spec),
        "process": lambda: process(partial(load_system2, run), spec, instruction="push"),
        "process, slow": lambda: process(partial(slowed, run, settings.slow_factor), spec, instruction="push"),
        "process, hung": lambda: process(partial(hanging, run), spec, instruction="push"),
        "thread": lambda: thread(load_system2(run), spec),
        "thread, slow": lambda: thread(slowed(run, settings.slow_factor), spec),
        "thread, hung": lambda: thread(Hanging(load_system2(run), good=1), spec),
    }


def drive(settings: Settings, runner: Runner, config: PolicyConfig, *, seconds: float) -> EpisodeResult:
    """One episode of that length."""
    robot = Robot(config.fps, int(seconds * settings.rate_hz))
    return run_episode(robot, runner, seed=0, rate_hz=settings.rate_hz)


def compare(settings: Settings, run: Path, policy: Video2Act) -> dict[str, Any]:
    """Every mode in turns."""
    loops = make_loops(settings, run, policy)
    periods: dict[str, list[float]] = {name: [] for name in loops}
    plans: dict[str, list[float]] = {name: [] for name in loops}
    found: dict[str, dict[str, Any]] = {name: {"late": 0, "steps": 0, "refreshes": 0, "incidents": 0} for name in loops}
    for _ in range(settings.rounds):
        for name, make in loops.items():
            loop = make()
            try:
                with Runner(policy, system2=loop, system1=settings.system1) as runner:
                    result = drive(settings, runner, policy.config, seconds=settings.segment_s)
            except TimeoutError as problem:  # a machine that is so busy says nothing about the runtime
                raise SystemExit(
                    f"{name}: {problem}. This machine has no core to spare; measure when it is idle"
                ) from problem
            # the first second holds the wait for the first condition
            periods[name] += [step.period_s for step in result.steps[int(settings.rate_hz) :]]
            times = runner.take_times()
            plans[name] += times.act_s[2:]
            counted = found[name]
            counted["late"] += result.missed_deadlines
            counted["steps"] += result.num_steps
            counted["refreshes"] += len(times.perceive_s)
            counted["incidents"] += loop.incidents.total
            try:
                loop.close()
            except TimeoutError:
                print(f"{name}: the thread hangs for good, as it was told to")
    for name, counted in found.items():
        for what, values in (("period", periods), ("plan", plans)):
            p50, p99, most = np.percentile(np.array(values[name]) * 1000, [50, 99, 100])
            counted |= {f"{what}_p50_ms": float(p50), f"{what}_p99_ms": float(p99), f"{what}_max_ms": float(most)}
    for counted in found.values():
        counted["period_p99_ratio"] = counted["period_p99_ms"] / found["off"]["period_p99_ms"]
        counted["plan_p99_ratio"] = counted["plan_p99_ms"] / found["off"]["plan_p99_ms"]
    return found


def resident_mib(pid: int | str) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(settings: Settings, run: Path, policy: Video2Act) -> dict[str, Any]:
    """A process beside the loop for a long time, in episodes of ten seconds."""
    loop = make_loops(settings, run, policy)["process"]()
    assert isinstance(loop, ProcessSlowLoop)
    runner, samples = Runner(policy, system2=loop, system1=settings.system1), []
    began = time.monotonic()
    steps = 0
    with closing(loop), runner:
        while time.monotonic() - began < settings.soak_s:
            steps += drive(settings, runner, policy.config, seconds=10.0).num_steps
            assert loop.pid is not None
            samples.append((time.monotonic() - began, resident_mib("self"), resident_mib(loop.pid)))
            print(
                f"{samples[-1][0]:6.0f} s   loop {samples[-1][1]:.1f} MiB   System 2 {samples[-1][2]:.1f} MiB",
                flush=True,
            )
    # the first fifth fills caches
    settled = samples[len(samples) // 5 :]
    return {
        "seconds": samples[-1][0],
        "control_steps": steps,
        "refreshes": len(loop.perceive_s),  # the newest only
        "incidents": loop.incidents.to_json(),
        "loop_growth_mib": settled[-1][1] - settled[0][1],
        "system2_growth_mib": settled[-1][2] - settled[0][2],
        "samples": samples,
    }


def main(settings: Settings) -> None:
    torch.set_num_threads(1)
    run = settings.out / "policy"
    random_policy("tiny").save(run)
    policy = Video2Act.load(run)
    if settings.soak_s:
        found = soak(settings, run, policy)
        print(json.dumps({name: value for name, value in found.items() if name != "samples"}, indent=2))
        write_text(settings.out / "soak.json", json.dumps(found, indent=2) + "\n")
        return
    found = compare(settings, run, policy)
    columns = (
        "period_p50_ms",
        "period_p99_ms",
        "period_p99_ratio",
        "plan_p50_ms",
        "plan_p99_ms",
        "plan_p99_ratio",
        "period_max_ms",
    )
    table = Table(
        "System 2", *columns, "late", "refreshes", "incidents", title=f"{settings.rate_hz:g} Hz, {os.cpu_count()} cores"
    )
    for name, counted in found.items():
        late = f"{counted['late']}/{counted['steps']}"
        counts = (str(counted["refreshes"]), str(counted["incidents"]))
        table.add_row(name, *(f"{counted[column]:.2f}" for column in columns), late, *counts)
    Console(width=180).print(table)
    write_text(settings.out / "async_runtime.json", json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
