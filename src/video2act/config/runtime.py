"""How a policy is run: where System 1 plans, how old a condition may be, how chunks overlap, which actions are let
through."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from video2act.config.checks import CheckedConfig, NonNegative, Positive, check

Overlap = Literal["replace", "temporal_ensemble", "rtc", "rtc_trained"]
WhenStale = Literal["hold", "wait", "inline", "error"]
RerunWord = Literal["live", "file"]
"""how Rerun shows something: in its viewer, or in a file for it"""


@dataclass(frozen=True)
class RuntimeConfig(CheckedConfig):
    """The defaults are lockstep: the robot waits for every plan, and any condition is fresh enough."""

    system1: Literal["inline", "thread"] = "inline"
    """thread: make the next plan while the last one is executed; its first actions, whose time has passed, are
    dropped"""
    overlap: Overlap = "replace"
    """how a new plan follows the old one. replace: at once; temporal_ensemble: the average of
    all plans for a moment (ACT, arXiv 2304.13705); rtc: the new plan continues the old one (real-time chunking, arXiv
    2506.07339); rtc_trained: the same with a policy that was trained for it (arXiv 2512.05964)"""
    ensemble_decay: NonNegative = 0.01
    """temporal_ensemble: the i-th oldest plan weighs `exp(-ensemble_decay * i)`; ACT's is 0.01"""
    guidance: Positive = 5.0
    """rtc: the largest weight of the guidance; 5 in the paper"""
    max_staleness_s: NonNegative | None = None
    """oldest video condition that a plan may be made on, by the frames that System 2 looked at; None: any. Training has
    seen max_staleness_steps / fps"""
    when_stale: WhenStale = "hold"
    """what to do if the condition is older: hold the last target; wait up to slack_s, then hold; run System 2 inline;
    end with an error"""
    slack_s: NonNegative = 0.1
    """when_stale=wait: the longest wait"""
    system2_device: str = ""
    """device of System 2 in a process: cuda:1, ...; empty: the policy's"""
    hang_timeout_s: Positive = 10.0
    """System 2 in a thread, in a process or elsewhere: after this time without progress it counts as hung"""
    first_condition_timeout_s: Positive = 60.0
    """System 2 in a thread, in a process or elsewhere: longest wait for the first condition of an episode. The first
    one after a start may take long: weights are read and kernels compiled"""
    limits: str = ""
    """limits of actions: `data`, the range of the demonstrations; `data+10%`, 10 % wider; or a json file {"low": [...],
    "high": [...]}; empty: any finite number"""
    outside_limits: Literal["clamp", "hold"] = "clamp"
    """clamp an action outside the limits, or do not send it and hold the last target"""

    def _check(self) -> None:
        for name, (other, needed) in USED_WITH.items():
            given, usual = getattr(self, name), getattr(type(self), name)
            problem = f"{name}={given} has no effect without {other}={needed}; set both, or leave {name} out"
            check(given == usual or getattr(self, other) == needed, problem)
        if self.max_staleness_s is None and self.when_stale != "hold":
            problem = f"when_stale={self.when_stale} has no effect without max_staleness_s"
            raise ValueError(f"{problem}; set both, or leave when_stale out")


USED_WITH = {
    "slack_s": ("when_stale", "wait"),
    "guidance": ("overlap", "rtc"),
    "ensemble_decay": ("overlap", "temporal_ensemble"),
}
"""field -> another one, and the value without which the first has no effect"""


def without_effect(
    config: RuntimeConfig,
    fields: Sequence[str],
    *,
    given: Mapping[str, object] | None = None,
    usual: Any = RuntimeConfig,
) -> str:
    """The names of options that somebody has set, of those that would have no effect.

    Args:
        fields: of the config; they are set where they differ from `usual`.
        given: other options, with what was given for them.
    """
    names = [name for name, value in (given or {}).items() if value]
    return ", ".join([*names, *(name for name in fields if getattr(config, name) != getattr(usual, name))])


def data_margin(limits: str) -> float | None:
    """`data` -> 0, `data+10%` -> 0.1; None if the word names a file."""
    found = re.fullmatch(r"data(?:\+(\d+(?:\.\d+)?)%)?", limits)
    return None if found is None else float(found[1] or 0) / 100


@dataclass(frozen=True)
class SimulatedLatency(CheckedConfig):
    """How long each system takes on a virtual clock, seconds."""

    system1: NonNegative = 0.0
    """of a plan"""
    system2: NonNegative = 0.0
    """of a refresh"""
    jitter: NonNegative = 0.0
    """each duration is drawn evenly from its mean plus and minus this, and is never negative"""

    @classmethod
    def parse(cls, text: str) -> "SimulatedLatency":
        """`system1=60ms,system2=400ms,jitter=20ms` -> seconds; `s` and `ms` are understood, and what is left out is 0.

        Raises:
            ValueError: a part is not of that form, or named twice.
        """
        seconds: dict[str, float] = {}
        for part in text.split(","):
            found = re.fullmatch(r"\s*(system1|system2|jitter)\s*=\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", part)
            if found is None:
                expected = "system1=60ms,system2=400ms,jitter=20ms (ms or s; each may be left out)"
                raise ValueError(f"expected {expected}, got {part.strip()!r}")
            check(found[1] not in seconds, f"{found[1]} is given twice in {text!r}")
            seconds[found[1]] = float(found[2]) / (1000 if found[3] == "ms" else 1)
        return cls(**seconds)

    def __str__(self) -> str:
        return f"system1={1000 * self.system1:g}ms,system2={1000 * self.system2:g}ms,jitter={1000 * self.jitter:g}ms"
