"""Puts a runtime together: where System 2 works, where System 1 plans, on which clock.

| where | System 2 works | scores |
|---|---|---|
| `inline` | in the control loop, every n control steps | reproducible |
| `thread` | beside it, in a thread | as fast as this machine |
| `process` | in a process and on a device of its own | as fast as this machine |
| `ws://host:port` | on another machine | as fast as that machine and the way there |

With simulated latency both systems are computed inline and delivered late on the simulator's clock: reproducible again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from video2act.config import RuntimeConfig, SimulatedLatency, StreamConfig
from video2act.interfaces import EnvironmentSpec, Perceiver, Policy
from video2act.limits import Limits
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.executor import Executor
from video2act.runtime.guard import Guard
from video2act.runtime.planner import InlinePlanner, ThreadPlanner
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop, ThreadSlowLoop
from video2act.runtime.virtual_clock import Durations, VirtualPlanner, VirtualSlowLoop

REMOTE = ("ws://", "wss://")

Connect = Callable[..., SlowLoop]
"""address, spec, hang_timeout_s -> a System 2 on another machine"""


def check_where(where: str) -> None:
    """Raises ValueError unless System 2 can work there."""
    if where not in ("inline", "thread", "process") and not where.startswith(REMOTE):
        raise ValueError(f"System 2 works inline, in a thread, in a process, or at ws://host:port; got {where!r}")


def check_encoding(where: str, streams: tuple[StreamConfig, ...]) -> None:
    """Raises ValueError where System 2 would be sent clips, and its encoder needs the whole episode."""
    if where not in ("inline", "thread") and any(stream.encoding == "stream" for stream in streams):
        raise ValueError(
            f"this policy's video encoder goes on through an episode (encoding='stream') and must see all of it, but to "
            f"{where!r} only the newest clip is sent; run System 2 inline or in a thread, or train with encoding='window'"
        )


def keeps_real_time(where: str, runtime: RuntimeConfig) -> bool:
    """Whether anything works beside the control loop, so that a simulator must keep its real rate."""
    return where != "inline" or runtime.system1 == "thread"


def check_virtual(where: str, runtime: RuntimeConfig) -> None:
    """Raises ValueError if simulated latency cannot be combined with these."""
    if keeps_real_time(where, runtime):
        raise ValueError(
            "simulated latency computes both systems inline and delivers late; leave out system2 and system1 (got "
            f"system2={where!r}, system1={runtime.system1!r}), or leave out the simulated latency to measure this machine's own"
        )
    if runtime.when_stale == "wait" and runtime.max_staleness_s is not None:
        raise ValueError(
            "when_stale='wait' waits on this machine's clock, which a virtual one ignores; choose hold, inline or error"
        )


@dataclass(frozen=True)
class SlowParts:
    """What any slow loop is made of."""

    spec: RefreshSpec
    build: Callable[[], Perceiver]
    """makes System 2 in a process of its own; travels there by name"""
    instruction: str
    """for the first run there"""
    connect: Connect


def make_slow_loop(where: str, system: Perceiver, *, parts: SlowParts, runtime: RuntimeConfig) -> SlowLoop:
    """The slow loop that `where` names.

    Raises:
        ValueError: there is no such place, or System 2 cannot work there.
        RuntimeError, TimeoutError: System 2 could not be started there.
    """
    check_where(where)
    check_encoding(where, parts.spec.streams)
    if where == "inline":
        return InlineSlowLoop(system, parts.spec)
    if where == "thread":
        return ThreadSlowLoop(system, parts.spec, hang_timeout_s=runtime.hang_timeout_s)
    if where == "process":
        return ProcessSlowLoop(
            parts.build, parts.spec, instruction=parts.instruction, hang_timeout_s=runtime.hang_timeout_s
        )
    return parts.connect(where, parts.spec, hang_timeout_s=runtime.hang_timeout_s)


def make_virtual_slow_loop(system: Perceiver, parts: SlowParts, *, durations: Durations) -> SlowLoop:
    return VirtualSlowLoop(system, parts.spec, durations=durations)


def make_executor(
    policy: Policy,
    spec: EnvironmentSpec,
    *,
    execute_steps: int,
    runtime: RuntimeConfig,
    limits: Limits | None = None,
    durations: Durations | None = None,
) -> Executor:
    """The executor that a config describes; with `durations`, on a virtual clock."""
    if durations is not None:
        planner = VirtualPlanner(policy, durations)
    else:
        planner = ThreadPlanner(policy) if runtime.system1 == "thread" else InlinePlanner(policy)
    return Executor(
        planner,
        Guard(spec.action_names, spec.relative_actions, limits=limits, outside=runtime.outside_limits, robot=spec.name),
        execute_steps=execute_steps,
        config=runtime,
    )


def make_durations(latency: SimulatedLatency | None) -> Durations | None:
    return None if latency is None else Durations(latency)
