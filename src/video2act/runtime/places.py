"""Where System 2 works, and the slow loop that belongs to each place.

| system2 | where System 2 works | results |
|---|---|---|
| `inline` | in the control loop, every n control steps | reproducible |
| `thread` | beside it, in a thread | depend on the speed of this machine |
| `process` | in a process, and on a device, of its own | depend on the speed of this machine |
| `ws://host:port` | on another machine | depend on that machine and on the network |

With simulated latency both systems are computed inline and delivered late on the observations' clock: reproducible
again.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from video2act.config import RuntimeConfig, StreamConfig
from video2act.config.runtime import without_effect
from video2act.interfaces import DualSystem, KnowsSystem2, LoadsSystem2, Perceiver
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.runtime.virtual_clock import Durations, VirtualSlowLoop

REMOTE = ("ws://", "wss://")
CONNECT_S = 10.0
"""for a connection that is made again, before the answer is waited for"""


def check_where(system2: str) -> None:
    """Raises ValueError unless System 2 can work there."""
    if system2 not in ("inline", "thread", "process") and not system2.startswith(REMOTE):
        raise ValueError(f"System 2 works inline, in a thread, in a process, or at ws://host:port; got {system2!r}")


def check_encoding(system2: str, streams: tuple[StreamConfig, ...]) -> None:
    """Raises ValueError where System 2 would be sent clips, and its encoder needs the whole episode."""
    if system2 not in ("inline", "thread") and any(stream.encoding == "stream" for stream in streams):
        raise ValueError(
            f"system2={system2!r} gets only the newest clip, but encoding='stream' needs every frame of the episode; "
            "run System 2 inline or in a thread, or train with encoding='window'"
        )


def keeps_real_time(system2: str, runtime: RuntimeConfig) -> bool:
    """Whether something works beside the control loop, so that a simulator must keep its real rate."""
    return system2 != "inline" or runtime.system1 == "thread"


def check_virtual(system2: str, runtime: RuntimeConfig) -> None:
    """Raises ValueError if simulated latency cannot be combined with these."""
    if keeps_real_time(system2, runtime):
        raise ValueError(
            "simulated latency computes both systems inline and delivers late; leave out system2 and system1 (got "
            f"system2={system2!r}, system1={runtime.system1!r}), or leave out the simulated latency to measure this "
            f"machine's own"
        )
    if runtime.when_stale == "wait" and runtime.max_staleness_s is not None:
        raise ValueError(
            "when_stale='wait' waits on this machine's clock, which a virtual one ignores; choose hold, inline or error"
        )


def check_used(system2: str, runtime: RuntimeConfig) -> None:
    """Raise ValueError for an option of System 2 that has no effect where it works."""
    fields = ("hang_timeout_s", "first_condition_timeout_s") * (system2 == "inline")
    if names := without_effect(runtime, fields + ("system2_device",) * (system2 != "process")):
        raise ValueError(f"{names} would have no effect with system2={system2!r}; leave it out")


def check_given_loop(runtime: RuntimeConfig, given: Mapping[str, object]) -> None:
    """Raise ValueError for options that a slow loop which is there already would ignore.

    Args:
        given: other options of System 2, with what was given for them.
    """
    if names := without_effect(runtime, ("system2_device", "hang_timeout_s", "first_condition_timeout_s"), given=given):
        raise ValueError(
            f"system2 is a slow loop that is there already, so {names} would have no effect; make the loop "
            "with them, or leave them out"
        )


@dataclass(frozen=True)
class System2Source:
    """What a slow loop needs beside the system, wherever System 2 works; see `Runner`."""

    spec: RefreshSpec
    runtime: RuntimeConfig
    instruction: str = ""
    load_system2: Callable[[], Perceiver] | None = None

    def start(self, system2: str, system: DualSystem, *, durations: Durations | None = None) -> SlowLoop:
        """The slow loop that `system2` names.

        Raises:
            ValueError: System 2 cannot work there; nothing has been started.
            System2Error, TimeoutError: System 2 could not be started there.
        """
        check_where(system2)
        check_encoding(system2, self.spec.streams)
        hang_s, first_s = self.runtime.hang_timeout_s, self.runtime.first_condition_timeout_s
        if durations is not None:
            check_virtual(system2, self.runtime)
            return VirtualSlowLoop(system, self.spec, durations=durations)
        check_used(system2, self.runtime)
        if system2 == "inline":
            return InlineSlowLoop(system, self.spec)
        if system2 == "thread":
            return ThreadSlowLoop(system, self.spec, first_condition_timeout_s=first_s, hang_timeout_s=hang_s)
        if not self.spec.streams:
            raise ValueError(f"there is no System 2 to run at system2={system2!r}; choose inline")
        if system2 != "process":
            return self._connect(system2, system)
        build, instruction = self.load_system2, self.instruction
        if isinstance(system, LoadsSystem2):
            build = build or system.system2_loader(self.runtime.system2_device)
            instruction = instruction or system.trained_instruction()
        if build is None:
            raise ValueError(
                f"system2='process' needs load_system2, a function that makes System 2 there: {type(system).__name__} "
                f"has no folder to load it from"
            )
        return ProcessSlowLoop(
            build, self.spec, instruction=instruction, first_condition_timeout_s=first_s, hang_timeout_s=hang_s
        )

    def _connect(self, address: str, system: DualSystem) -> SlowLoop:
        """System 2 behind `video2act serve --only system2`. It must be that of `system`, if that knows its own."""
        # by name: its websockets are an extra of the package, and the runtime knows interfaces only
        client = importlib.import_module("video2act.serving.client")
        own: dict[str, Any] = {}
        if isinstance(system, KnowsSystem2):
            own = {"token_dim": system.config.system1.hidden, "fingerprint": system.system2_fingerprint()}
        hang_s = self.runtime.hang_timeout_s
        remote = client.connect_system2(address, self.spec, answer_timeout_s=hang_s, **own)
        return ThreadSlowLoop(
            remote,
            self.spec,
            first_condition_timeout_s=self.runtime.first_condition_timeout_s,
            hang_timeout_s=hang_s + CONNECT_S,  # an answer that is late is a failure of the connection
            where=address,
            end_system=remote.close,
        )
