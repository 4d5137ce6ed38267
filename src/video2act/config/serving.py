"""How a policy is served: the address, and the limits of one client."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from video2act.config.checks import Between, CheckedConfig, CountingInt, NonNegative, Positive, check
from video2act.config.programs import EngineName
from video2act.config.runtime import RuntimeConfig


@dataclass(frozen=True)
class ConnectionLimits(CheckedConfig):
    """Limits of one client, so that it cannot block the others."""

    max_clients: CountingInt = 32
    """connections at once; one that ended while the policy hangs in its answer counts until that comes back"""
    max_message_bytes: Annotated[int, Between(1, 2**31)] = 16 * 2**20
    """a larger message closes the connection (code 1009) and is not kept in memory"""
    max_messages_per_s: Positive = 500.0
    """on average over a second; further ones get an error and are not read. Eight times as many frames of less than 1
    KiB are allowed; more close the connection (code 1008)"""
    answer_timeout_s: Positive = 60.0
    """longest time for one answer"""
    first_condition_timeout_s: Positive | None = None
    """the same until an episode has its first plan, which waits for System 2's first condition: a new prompt may have
    to be read by a large text encoder. Default: answer_timeout_s"""
    message_timeout_s: Positive = 20.0
    """for the rest of a message that has begun, for a handshake, for the answer to a ping, and for a client to take
    what it is sent"""
    shutdown_s: Positive = 5.0
    """after SIGTERM: for the answers in progress and the end of the connections; what is left then is cut"""

    @property
    def first_answer_s(self) -> float:
        """Longest time for the answer that waits for a first condition."""
        return self.first_condition_timeout_s or self.answer_timeout_s

    @property
    def first_condition_s(self) -> float:
        """Longest wait for a first condition: less than the answer may take, so that the answer can say what failed."""
        return 0.9 * self.first_answer_s


@dataclass(frozen=True)
class ServeOptions(ConnectionLimits):
    """How `serve` offers a policy to robots on the network."""

    host: str = "127.0.0.1"
    """address to listen on; any address but loopback needs an API key"""
    port: Annotated[int, Between(0, 2**16 - 1)] = 8000
    """0 for any free port"""
    only: Literal["system2"] | None = None
    """system2: serve System 2 alone, for a robot that runs System 1 itself"""
    system2: Literal["thread", "inline"] = "thread"
    """thread runs System 2 beside System 1; inline is reproducible"""
    refresh_every: CountingInt | None = None
    """control steps between refreshes of System 2; default: as trained"""
    max_staleness_s: NonNegative | None = None
    """with an older video condition the robot is asked to hold its last target; default: no limit"""
    limits: str = ""
    """limits of actions: data (the range of the demonstrations), data+10%, or a json file with low and high"""
    outside_limits: Literal["clamp", "hold"] = "clamp"
    """an action outside the limits is clamped, or its plan is not sent and the robot is asked to hold its last
    target"""
    api_key_file: Path | None = None
    """file with the key that clients must send; or set VIDEO2ACT_API_KEY"""
    device: str = "cpu"
    """device of the policy"""
    engine: EngineName = "torch"
    """what computes the policy; onnxruntime and openvino run folders that `export` has written"""

    def _check(self) -> None:
        if self.only == "system2":
            check(self.engine == "torch", "System 2 is served alone by engine torch only; leave engine out")
            names, default = ("system2", "refresh_every", "max_staleness_s", "limits", "outside_limits"), ServeOptions()
            changed = [name for name in names if getattr(self, name) != getattr(default, name)]
            check(
                not changed,
                f"System 2 alone makes no plans: set {', '.join(changed)} on the robot, not with only='system2'",
            )

    @property
    def runtime(self) -> RuntimeConfig:
        return RuntimeConfig(
            max_staleness_s=self.max_staleness_s,
            limits=self.limits,
            outside_limits=self.outside_limits,
            first_condition_timeout_s=self.first_condition_s,
        )
