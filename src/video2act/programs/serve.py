"""`video2act serve`: a policy, or its System 2 alone, for robots on the network.

All clients share one copy of the weights. Plans are made one at a time, in the order of the requests. System 2 has one
worker and takes clients in turn, so that a client's new episode does not delay another client's plan.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from video2act.config import PolicyConfig, RuntimeConfig, ServeOptions
from video2act.files.run_folder import INSTRUCTIONS_FILE, load_config
from video2act.interfaces import Perceiver
from video2act.limits import Limits
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.places import check_encoding
from video2act.runtime.shared_slow_loop import SharedSystem2
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.serving.access import check_bind, load_api_key
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import PolicySession, Session, System2Session
from video2act.system2 import load_system2
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition

System2Mode = Literal["thread", "inline"]


class OneAtATime:
    """A `DualSystem` for many threads: it makes one plan at a time. The runtime already limits refreshes to one."""

    def __init__(self, system: Video2Act):
        self.config = system.config
        self.perceive = system.perceive
        self._system = system
        self._acting = threading.Lock()

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        with self._acting:
            return self._system.act(observation, condition)


@dataclass
class Serving:
    """The parts of a server for one policy."""

    contract: Contract
    make_session: Callable[[], Session]
    gauges: Callable[[], dict[str, float]] = dict
    trouble: Callable[[], str] = str
    close: Callable[[], None] = lambda: None


def serve_policy(
    system: Video2Act,
    instructions: tuple[str, ...],
    *,
    refresh_every: int,
    system2: System2Mode,
    runtime: RuntimeConfig,
) -> Serving:
    """Sessions of a whole policy. Each client has its own frames, conditions and episode.

    Raises:
        FileNotFoundError, ValueError: the limits of actions cannot be read, or have another size.
    """
    config, shared_system = system.config, OneAtATime(system)
    limits = Limits.find(runtime.limits, lambda: system.statistics["action"])
    if limits is not None:
        limits.check_size(config.action_dim, "this policy")
    contract = Contract.of(config, "policy", instructions=instructions)
    spec = RefreshSpec(config.system2.streams if config.system2 else (), refresh_every, config.fps)
    shared = SharedSystem2(shared_system, spec) if system2 == "thread" else None

    def make_session() -> Session:
        loop = shared.new_loop() if shared else InlineSlowLoop(shared_system, spec)
        policy = DualPolicy(shared_system, loop, cameras=config.cameras, runtime=runtime)
        return PolicySession(policy, contract, limits=limits, outside=runtime.outside_limits)

    if shared is None:
        return Serving(contract, make_session)

    def gauges() -> dict[str, float]:
        return {"refreshes": shared.num_refreshes, "refresh_failures": shared.num_failures}

    return Serving(contract, make_session, gauges, shared.trouble, shared.close)


def serve_system2(system: Perceiver, config: PolicyConfig, *, instructions: tuple[str, ...]) -> Serving:
    """Sessions of System 2 alone. Raises ValueError if its encoder needs whole episodes."""
    check_encoding("another machine", config.system2.streams if config.system2 else ())
    contract, turn = Contract.of(config, "system2", instructions=instructions), threading.Lock()

    def perceive(clips: dict[str, Video], instruction: list[str]) -> Tokens:
        with turn:
            return system.perceive(clips, instruction)

    return Serving(contract, lambda: System2Session(perceive, contract))


@contextmanager
def serving(
    policy: Video2Act, system2: System2Mode = "thread", *, runtime: RuntimeConfig | None = None, **options: Any
) -> Iterator[Server]:
    """Serve a policy from a thread of this process while the block runs, for tests and benchmarks.

    Args:
        options: of `Server`; without them a free port on loopback.
    """
    parts = serve_policy(
        policy, (), refresh_every=policy.config.refresh_every, system2=system2, runtime=runtime or RuntimeConfig()
    )
    options = {"port": 0, "gauges": parts.gauges, "trouble": parts.trouble, **options}
    with Server(parts.make_session, parts.contract.to_metadata(), **options).running() as server:
        yield server
    parts.close()


def load_instructions(run: Path) -> tuple[str, ...]:
    """The training instructions; none if the run folder has no list."""
    path = run / INSTRUCTIONS_FILE
    return tuple(json.loads(path.read_text())) if path.is_file() else ()


def serve(run: Path | str, *, is_ready: Callable[[Server], Any] | None = None, **options: Any) -> None:
    """Serve a run folder until SIGINT or SIGTERM.

    Args:
        run: the policy's run folder.
        is_ready: called when clients may connect.
        options: the fields of `ServeOptions`.
    Raises:
        TypeError: an option does not exist.
        ValueError: a public address without a key, an option out of range, a policy without System 2 where it is to be
            served, or an option of a whole policy where System 2 is served alone.
        OSError: the port is taken.
    """
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    console, run, chosen = Console(stderr=True), Path(run), ServeOptions(**options)
    api_key = load_api_key(chosen.api_key_file)
    check_bind(chosen.host, api_key)  # before gigabytes are loaded
    instructions = load_instructions(run)
    if chosen.only == "system2":
        parts = serve_system2(load_system2(run, chosen.device), load_config(run), instructions=instructions)
    else:
        policy = Video2Act.load(run, chosen.device)
        parts = serve_policy(
            policy,
            instructions,
            refresh_every=chosen.refresh_every or policy.config.refresh_every,
            system2=chosen.system2,
            runtime=chosen.runtime,
        )
    with ExitStack() as ending:
        ending.callback(parts.close)
        server = Server(
            parts.make_session,
            parts.contract.to_metadata(),
            host=chosen.host,
            port=chosen.port,
            api_key=api_key,
            limits=chosen,
            gauges=parts.gauges,
            trouble=parts.trouble,
        )

        def announce() -> None:
            what = "System 2 of" if chosen.only else "policy"
            reach = "with an API key" if api_key else "for this machine only"
            console.print(f"{what} {run} at {server.address}, {reach}", soft_wrap=True)
            if is_ready:
                is_ready(server)

        server.run_until_signal(announce)
        console.print("stopped")
