"""How a policy is run: where System 1 plans, how old a condition may be, how chunks overlap, which actions are let through."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from video2act.config.files import check

Overlap = Literal["replace", "blend", "temporal_ensemble", "rtc", "rtc_trained"]
WhenStale = Literal["hold", "wait", "inline", "error"]


@dataclass(frozen=True)
class RuntimeConfig:
    """The defaults are lockstep: the robot waits for every plan, and any condition is fresh enough."""

    system1: Literal["inline", "thread"] = "inline"
    """thread: the next plan is made while the last one is executed; what passed meanwhile is dropped from its beginning"""
    overlap: Overlap = "replace"
    """where a new plan meets the old one: replace it; blend into it; temporal_ensemble: average all plans of a moment (ACT, arXiv
    2304.13705); rtc: plan what continues the old one (real-time chunking, arXiv 2506.07339); rtc_trained: the same by a policy
    trained for it (arXiv 2512.05964)"""
    blend_steps: int = 2
    """blend: control steps over which the new plan takes over; at most execute_steps"""
    ensemble_decay: float = 0.01
    """temporal_ensemble: the i-th oldest plan weighs `exp(-ensemble_decay * i)`; ACT's is 0.01"""
    guidance: float = 5.0
    """rtc: the largest weight of the guidance; 5 in the paper"""
    max_staleness_s: float | None = None
    """oldest video condition that a plan may be made on; None: any. Training has seen max_staleness_steps / fps"""
    when_stale: WhenStale = "hold"
    """the answer to an older one: hold the last target; wait up to slack_s, then hold; run System 2 inline; end with an error"""
    slack_s: float = 0.1
    """wait: how long for"""
    system2_device: str = ""
    """of System 2 in a process: cuda:1, ...; empty: the policy's"""
    hang_timeout_s: float = 10.0
    """System 2 in a thread, in a process or elsewhere: without progress for so long, it is taken to hang"""
    limits: str = ""
    """what is let through to the robot: `data`, the range of the demonstrations' actions; `data+10%`, wider by so much of it; a
    json file {"low": [...], "high": [...]}; empty: every finite number"""
    outside_limits: Literal["clamp", "hold"] = "clamp"
    """an action outside: clamped to them, or not sent and the last target held"""

    def __post_init__(self) -> None:
        for name, kind in (("overlap", Overlap), ("when_stale", WhenStale)):
            value, allowed = getattr(self, name), get_args(kind)
            check(value in allowed, f"unknown {name} {value!r}; choose from {', '.join(allowed)}")
        check(self.system1 in ("inline", "thread"), f"system1 must be 'inline' or 'thread', got {self.system1!r}")
        check(
            self.outside_limits in ("clamp", "hold"),
            f"outside_limits must be clamp or hold, got {self.outside_limits!r}",
        )
        for name in ("ensemble_decay", "guidance", "slack_s", "hang_timeout_s"):
            check(math.isfinite(getattr(self, name)), f"{name} must be finite, got {getattr(self, name)}")
        check(self.blend_steps >= 1, f"blend_steps must be at least 1, got {self.blend_steps}")
        check(self.ensemble_decay >= 0, f"ensemble_decay must not be negative, got {self.ensemble_decay}")
        check(self.guidance > 0, f"guidance must be positive, got {self.guidance}; use overlap=replace to do without")
        limit = self.max_staleness_s
        check(
            limit is None or limit >= 0, f"max_staleness_s must not be negative, got {limit}; leave it out for no limit"
        )
        check(self.slack_s >= 0, f"slack_s must not be negative, got {self.slack_s}")
        check(self.hang_timeout_s > 0, f"hang_timeout_s must be positive, got {self.hang_timeout_s}")


def data_margin(limits: str) -> float | None:
    """`data` -> 0, `data+10%` -> 0.1; None if the word names a file."""
    found = re.fullmatch(r"data(?:\+(\d+(?:\.\d+)?)%)?", limits)
    return None if found is None else float(found[1] or 0) / 100


@dataclass(frozen=True)
class SimulatedLatency:
    """How long each system takes on a virtual clock, seconds."""

    system1: float = 0.0
    system2: float = 0.0
    jitter: float = 0.0
    """each duration is drawn evenly from its mean plus and minus this, and is never negative"""

    def __post_init__(self) -> None:
        for name in ("system1", "system2", "jitter"):
            value = getattr(self, name)
            check(math.isfinite(value) and value >= 0, f"a latency must be finite and not negative, got {name}={value}")

    @classmethod
    def parse(cls, text: str) -> "SimulatedLatency":
        """`system1=60ms,system2=400ms,jitter=20ms` -> seconds; `s` and `ms` are understood, and what is left out is 0.

        Raises:
            ValueError: a part is not of that form, or named twice.
        """
        seconds: dict[str, float] = {}
        for part in text.split(","):
            found = re.fullmatch(r"\s*(system1|system2|jitter)\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", part)
            check(
                found is not None,
                f"expected system1=60ms,system2=400ms,jitter=20ms (ms or s; each may be left out), got {part.strip()!r}",
            )
            assert found is not None
            check(found[1] not in seconds, f"{found[1]} is given twice in {text!r}")
            seconds[found[1]] = float(found[2]) / (1000 if found[3] == "ms" else 1)
        return cls(**seconds)

    def __str__(self) -> str:
        return f"system1={1000 * self.system1:g}ms,system2={1000 * self.system2:g}ms,jitter={1000 * self.jitter:g}ms"
