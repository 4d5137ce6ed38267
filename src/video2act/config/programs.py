"""The options of each program: every field is a flag of the command line and a keyword of the Python function."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from video2act.config.checks import check
from video2act.config.runtime import RuntimeConfig, SimulatedLatency


@dataclass(frozen=True)
class EvaluateOptions:
    """How `evaluate` runs a policy."""

    episodes: int = 50
    """episodes per environment"""
    seed: int = 1000
    """seed of the first episode; the others count up. Must not overlap the training seeds"""
    refresh_every: int | None = None
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
    workers: int | None = None
    """processes that share the episodes; default: 2, but 1 at the real rate and for a policy that is already loaded"""
    num_videos: int | None = None
    """films per environment, of its first episodes; default: 2, but none if nothing is written"""
    out: Path | None = None
    """folder for the results; default: a new folder in RUN/eval, and nothing is written for a policy that is already
    loaded"""
    device: str | None = None
    """device of the policy; default: cpu. A policy that is already loaded stays on its device"""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        for name in ("episodes", "workers", "refresh_every"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        check(
            self.num_videos is None or self.num_videos >= 0, f"num_videos must not be negative, got {self.num_videos}"
        )


@dataclass(frozen=True)
class ServeOptions:
    """How `serve` offers a policy to robots on the network."""

    host: str = "127.0.0.1"
    """address to listen on; any address but loopback needs an API key"""
    port: int = 8000
    """0 for any free port"""
    only: Literal["system2"] | None = None
    """system2: serve System 2 alone, for a robot that runs System 1 itself"""
    system2: Literal["thread", "inline"] = "thread"
    """thread runs System 2 beside System 1; inline is reproducible"""
    refresh_every: int | None = None
    """control steps between refreshes of System 2; default: as trained"""
    max_staleness_s: float | None = None
    """with an older video condition the robot is asked to hold its last target; default: no limit"""
    limits: str = ""
    """limits of actions: data (the range of the demonstrations), data+10%, or a json file with low and high"""
    outside_limits: Literal["clamp", "hold"] = "clamp"
    """an action outside the limits is clamped, or its plan is not sent and the robot is asked to hold its last
    target"""
    api_key_file: Path | None = None
    """file with the key that clients must send; or set VIDEO2ACT_API_KEY"""
    max_clients: int = 32
    """connections at once"""
    device: str = "cpu"
    """device of the policy"""

    def __post_init__(self) -> None:
        check(0 <= self.port < 2**16, f"a port lies in 0..65535 (0: any free port), got {self.port}")
        n = self.refresh_every
        check(n is None or n >= 1, f"refresh_every counts control steps between refreshes: at least 1, got {n}")
        if self.only == "system2":
            names, default = ("system2", "refresh_every", "max_staleness_s", "limits", "outside_limits"), ServeOptions()
            changed = [name for name in names if getattr(self, name) != getattr(default, name)]
            check(
                not changed,
                f"System 2 alone makes no plans: set {', '.join(changed)} on the robot, not with only='system2'",
            )

    @property
    def runtime(self) -> RuntimeConfig:
        return RuntimeConfig(
            max_staleness_s=self.max_staleness_s, limits=self.limits, outside_limits=self.outside_limits
        )


@dataclass(frozen=True)
class SweepOptions:
    """Which points `sweep` measures. Every point is evaluated on the same seeds."""

    refresh_every: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """values of n, in lockstep; empty: skip this curve"""
    latency_ms: tuple[float, ...] = (0.0, 50.0, 100.0, 200.0, 400.0, 800.0)
    """simulated latencies; empty: skip this curve"""
    which: Literal["system1", "system2"] = "system2"
    """the system that gets the latency"""
    episodes: int = 25
    """episodes per point"""
    seed: int = 1000
    """seed of the first episode; the others count up. Must not overlap the training seeds"""
    workers: int = 2
    """processes"""
    out: Path | None = None
    """folder for the results; default: RUN/sweep"""
    device: str = "cpu"
    """device of the policy"""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check(
            bool(self.refresh_every or self.latency_ms),
            "a sweep needs values of refresh_every or of latency_ms; both are empty",
        )
        for n in self.refresh_every:
            check(n >= 1, f"refresh_every counts control steps between refreshes: at least 1, got {n}")
        check(
            all(math.isfinite(ms) and ms >= 0 for ms in self.latency_ms),
            f"latency_ms must be finite and not negative, got {', '.join(f'{ms:g}' for ms in self.latency_ms)}",
        )
