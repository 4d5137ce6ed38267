"""The options of each program: every field is a flag of the command line and a keyword of the Python function."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from video2act.config.checks import (
    CheckedConfig,
    CountingInt,
    NonNegative,
    NonNegativeInt,
    Pixels,
    PoolName,
    Positive,
    Processes,
    Seed,
    check,
)
from video2act.config.frames import VisualShiftName
from video2act.config.runtime import RerunWord, RuntimeConfig, SimulatedLatency

EngineName = Literal["torch", "onnxruntime", "openvino"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CheckedConfig):
    """Write a policy for an engine that runs without PyTorch, and check there that it acts as before."""

    run: Path
    """the policy's run folder"""
    to: Literal["onnx", "openvino"]
    """onnx is run by onnxruntime"""
    out: Path | None = None
    """folder to write; default: RUN/onnx or RUN/openvino"""
    data: Path | None = None
    """dataset with recorded observations for the check; default: drawn ones, within the range of the training"""
    episode: NonNegativeInt = 0
    """of that dataset"""
    only: Literal["system1"] | None = None
    """system1: leave System 2 out, which then must be served elsewhere; for published video models"""
    int8: bool = False
    """onnx: store the weights of matrices in 8 bits. Smaller, not exact: evaluate what it does to success"""

    @property
    def folder(self) -> Path:
        return self.out or self.run / self.to


@dataclass(frozen=True)
class EvaluateOptions(CheckedConfig):
    """How `evaluate` runs a policy."""

    episodes: CountingInt = 50
    """episodes per environment"""
    seed: Seed = 1000
    """seed of the first episode; the others count up. Must not overlap the training seeds"""
    refresh_every: CountingInt | None = None
    """control steps between refreshes of System 2; default: as trained, or 1 with simulated latency"""
    system2: str = "inline"
    """inline is reproducible; thread, process and ws://host:port run System 2 beside System 1, at the environment's
    real rate"""
    simulate_latency: SimulatedLatency | None = None
    """system1=60ms,system2=400ms,jitter=20ms: results arrive this late on the simulator's clock; reproducible"""
    blind: bool = False
    """control: the policy gets no image and no video"""
    instruction: str | None = None
    """control: the policy gets this instruction instead of the environment's"""
    visual_shift: VisualShiftName | None = None
    """control: a simulator's scenes look otherwise, each in its own way. colours, light, camera (turned by 3 to 6
    degrees), distractor (a disc moves across the picture), mixed (each scene one of these). Physics stays"""
    expert: bool = True
    """let the environment's scripted expert play the same seeds; an environment of your own has none"""
    workers: Processes | None = None
    """processes that share the episodes; default: 2, on Ray one per core (or GPU) of the cluster. At the real rate, and
    for a policy that is already loaded, 1"""
    pool: PoolName = "local"
    """where the workers run: local, or on a Ray cluster: ray (this machine's), ray://HOST:PORT. See docs/scaling.md"""
    num_videos: NonNegativeInt | None = None
    """films per environment, of its first episodes; default: 2, but none if nothing is written"""
    rerun: RerunWord | None = None
    """show the filmed episodes in Rerun (extra `view`). live: in its viewer; file: as .rrd beside the films"""
    image_size: Pixels | None = None
    """width and height of a simulator's images, pixels; default: as the training data was recorded"""
    out: Path | None = None
    """folder for the results; default: a new folder in RUN/eval, and nothing is written for a policy that is already
    loaded"""
    device: str | None = None
    """device of the policy; default: cpu. A policy that is already loaded stays on its device"""
    engine: EngineName = "torch"
    """what computes the policy; onnxruntime and openvino run folders that `export` has written"""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass(frozen=True)
class SweepOptions(CheckedConfig):
    """Which points `sweep` measures. Every point is evaluated on the same seeds."""

    refresh_every: tuple[CountingInt, ...] = (1, 2, 4, 8, 16, 32)
    """values of n, in lockstep; empty: skip this curve"""
    latency_ms: tuple[NonNegative, ...] = (0.0, 50.0, 100.0, 200.0, 400.0, 800.0)
    """simulated latencies; empty: skip this curve"""
    which: Literal["system1", "system2"] = "system2"
    """the system that gets the latency"""
    episodes: CountingInt = 25
    """episodes per point"""
    seed: Seed = 1000
    """seed of the first episode; the others count up. Must not overlap the training seeds"""
    image_size: Pixels | None = None
    """width and height of a simulator's images, pixels; default: as the training data was recorded"""
    workers: Processes | None = None
    """processes; default: as for eval"""
    pool: PoolName = "local"
    """where the workers run: local, or on a Ray cluster: ray (this machine's), ray://HOST:PORT. See docs/scaling.md"""
    out: Path | None = None
    """folder for the results; default: RUN/sweep"""
    device: str = "cpu"
    """device of the policy"""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def _check(self) -> None:
        check(
            bool(self.refresh_every or self.latency_ms),
            "a sweep needs values of refresh_every or of latency_ms; both are empty",
        )


@dataclass(frozen=True, kw_only=True)
class RunOptions(CheckedConfig):
    """Run a policy on a robot or simulator and watch it: pause, change the instruction, take over by hand, record."""

    run: Path
    """the policy's run folder"""
    env: str
    """metaworld:push-v3, ...; or module:function of your own, which returns an Environment: a robot, say"""
    episodes: CountingInt = 1
    """after these the program ends; escape ends it before"""
    seed: Seed = 1000
    """of the first episode"""
    instruction: str | None = None
    """instead of the environment's; another one can be typed while it runs"""
    record: Path | None = None
    """write the episodes that are kept as a LeRobot dataset into this folder, or add them to it. Its column
    `intervention` marks the control steps that a person decided"""
    record_only: Literal["all", "corrections"] = "all"
    """corrections: each stretch by hand becomes an episode, and nothing else is recorded (DAgger)"""
    jog: Positive = 0.05
    """by hand: how far one key press moves, as a share of the action's range in the demonstrations"""
    max_steps: CountingInt | None = None
    """control steps of an episode; default: the environment's"""
    image_size: Pixels | None = None
    """width and height of a simulator's images, pixels; default: as the training data was recorded"""
    system2: str = "thread"
    """inline, thread, process or ws://host:port"""
    refresh_every: CountingInt | None = None
    """control steps between refreshes of System 2; default: as trained"""
    rerun: str | None = None
    """show it in Rerun, too (extra `view`): live, or a file that ends in .rrd"""
    device: str = "cpu"
    """device of the policy"""
    engine: EngineName = "torch"
    """what computes the policy; onnxruntime and openvino run folders that `export` has written"""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
