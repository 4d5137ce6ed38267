"""`video2act serve`: a policy, or its System 2 alone, for robots on the network.

All clients share one copy of the weights. Plans are made one at a time, in the order of the requests. System 2 has one
worker and takes clients in turn, so that a client's new episode does not delay another client's plan. Each client has
noise of its own, which begins anew with every episode: with System 2 inline, the same episode gives the same plans,
whatever other clients do.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from rich.console import Console

from video2act.config import ConnectionLimits, PolicyConfig, RuntimeConfig, ServeOptions
from video2act.engines.choice import check_engine, load_policy
from video2act.files.run_folder import FrameSizes, load_config, load_frame_sizes, load_instructions
from video2act.interfaces import ConfiguredSystem, Perceiver
from video2act.limits import Limits
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.freshness import check_staleness_limit
from video2act.runtime.places import check_encoding
from video2act.runtime.refresh import turn, warm_up
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import System2Worker, ThreadSlowLoop
from video2act.serving.access import check_bind, check_port, load_api_key
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import PolicySession, Session, System2Session
from video2act.statistics import Statistics
from video2act.text.instruction import in_memory_only
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition

if TYPE_CHECKING:
    from video2act.system2 import System2

System2Mode = Literal["thread", "inline"]
log = logging.getLogger(__name__)
PROMPTS_KEPT = 256
"""prompts that are not checked again"""
MAX_NORMALISED = 1e6
"""of a state: beyond it float32 keeps nothing of the training range apart"""


@runtime_checkable
class ServedPolicy(ConfiguredSystem, Protocol):
    """What a server needs of a policy; `Video2Act` and `EnginePolicy` have it."""

    statistics: dict[str, Statistics]

    @property
    def max_instruction_bytes(self) -> int | None: ...
    def with_own_noise(self) -> ConfiguredSystem: ...
    def check_instruction(self, instruction: str) -> None: ...
    def normalised_state(self, observation: Observation) -> np.ndarray: ...
    def state_problem(self, observation: Observation) -> str: ...
    def trained_instruction(self) -> str: ...


class ClientSystem:
    """A `DualSystem` for one client: the policy's weights, used by one client at a time, and noise of its own.

    Args:
        acting: held while a plan is made; shared by all clients.
        timeout_s: longest wait for System 2, which all clients share.
    """

    def __init__(self, policy: ServedPolicy, acting: threading.Lock, *, timeout_s: float):
        self.config = policy.config
        self._policy = policy
        self._acting = acting
        self._timeout_s = timeout_s
        self.begin_episode()

    def begin_episode(self) -> None:
        """Its noise depends neither on earlier episodes nor on other clients."""
        self._own = self._policy.with_own_noise()

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Raises HoldError if others are at System 2 for too long."""
        with turn(self._policy, self._timeout_s):
            return self._policy.perceive(clips, instruction)

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        with self._acting:
            return self._own.act(observation, condition)


@dataclass
class Serving:
    """The parts of a server for one policy."""

    contract: Contract
    make_session: Callable[[], Session]
    gauges: Callable[[], dict[str, float]] = dict
    trouble: Callable[[], str] = str
    close: Callable[[], object] = lambda: None


def serve_policy(
    system: ServedPolicy,
    instructions: tuple[str, ...],
    *,
    frame_sizes: FrameSizes,
    refresh_every: int,
    system2: System2Mode,
    runtime: RuntimeConfig,
) -> Serving:
    """Sessions of a whole policy. Each client has its own frames, conditions and episode.

    Raises:
        FileNotFoundError, ValueError: the limits of actions cannot be read, or have another size.
    """
    config, acting, timeout_s = system.config, threading.Lock(), runtime.first_condition_timeout_s
    limits = Limits.find(runtime.limits, lambda: system.statistics["action"])
    if limits is not None:
        limits.check_size(config.action_dim, "this policy")
    contract = Contract.of(
        config,
        "policy",
        action_names=system.statistics["action"].names,
        instructions=instructions,
        frame_sizes=frame_sizes,
        max_prompt_bytes=system.max_instruction_bytes,
    )
    spec = RefreshSpec(config.system2.streams if config.system2 else (), refresh_every, config.fps)
    check_staleness_limit(runtime, spec, is_served=True)
    trained = system.trained_instruction()
    warm_up_server(system, instructions or (trained,) * bool(trained), spec)
    worker = System2Worker(system, hang_timeout_s=runtime.hang_timeout_s) if system2 == "thread" else None

    read = instruction_reader(system.check_instruction)

    def check(observation: Observation) -> None:
        check_state(system, observation)
        read(observation.instruction)

    def make_session() -> Session:
        client = ClientSystem(system, acting, timeout_s=timeout_s)
        loop = (
            ThreadSlowLoop(worker, spec, first_condition_timeout_s=timeout_s, hang_timeout_s=runtime.hang_timeout_s)
            if worker
            else InlineSlowLoop(client, spec)
        )
        policy = DualPolicy(client, loop, cameras=config.cameras, runtime=runtime)
        return PolicySession(
            policy,
            contract,
            limits=limits,
            outside=runtime.outside_limits,
            check=check,
            state_problem=system.state_problem,
            rhythm=lcm(*(stream.every for stream in spec.streams)),
        )

    if worker is None:
        return Serving(contract, make_session)

    def gauges() -> dict[str, float]:
        return {"refreshes": worker.num_refreshes, "refresh_failures": worker.num_failures}

    return Serving(contract, make_session, gauges, worker.trouble, worker.close)


def check_state(policy: ServedPolicy, observation: Observation) -> None:
    """Raises ValueError for a state so far outside the training range that it must be a mistake of the client."""
    state, seen = observation.state, policy.statistics["state"]
    is_near = np.abs(policy.normalised_state(observation)) <= MAX_NORMALISED
    if not is_near.all():
        number = int(np.argmin(is_near))
        raise ValueError(
            f"number {number} of the state is {state[number]:.4g}, but training has seen {seen.min[number]:.4g} to "
            f"{seen.max[number]:.4g}: no plan can be made that far outside. Check the sensor and its unit"
        )


def serve_system2(system: "System2", config: PolicyConfig, *, instructions: tuple[str, ...]) -> Serving:
    """Sessions of System 2 alone. Raises ValueError if its encoder needs whole episodes."""
    import torch

    from video2act.text.encoder import longest_instruction

    streams = config.system2.streams if config.system2 else ()
    check_encoding("another machine", streams)
    contract = Contract.of(
        config,
        "system2",
        instructions=instructions,
        max_prompt_bytes=longest_instruction(system),
        fingerprint=system.fingerprint(),
    )
    turn = threading.Lock()
    warm_up_server(system, instructions, RefreshSpec(streams, 1, config.fps))

    def perceive(clips: dict[str, Video], instruction: list[str]) -> Tokens:
        with turn, torch.no_grad():
            return system.perceive(clips, instruction)

    read = instruction_reader(torch.no_grad()(system.check_instruction))
    return Serving(contract, lambda: System2Session(perceive, contract, check=read))


def instruction_reader(check: Callable[[str], None]) -> Callable[[str], None]:
    """Checks what clients say, by reading it. Reading a new sentence may take seconds: it has a lock of its own, so
    that the plans of other clients go on. Nothing of it is written to disk."""
    reading = threading.Lock()

    @lru_cache(maxsize=PROMPTS_KEPT)
    def read(instruction: str) -> None:
        with reading, in_memory_only():
            check(instruction)

    return read


def warm_up_server(system: Perceiver, instructions: tuple[str, ...], spec: RefreshSpec) -> None:
    """One refresh and one plan, before clients may connect: the first ones after a start take long.

    Raises:
        Whatever the policy raises for a training instruction. It could not serve anybody.
    """
    instruction = instructions[0] if instructions else "warm up"
    try:
        refreshed = warm_up(system, spec, instruction=instruction)
        if isinstance(system, ServedPolicy):
            px, state = system.config.image_px, np.array(system.statistics["state"].mean, np.float32)
            images = {camera: np.zeros((px, px, 3), np.uint8) for camera in system.config.cameras}
            system.with_own_noise().act(Observation(images, state, instruction, 0.0), refreshed.condition(1))
    except (ValueError, OSError) as problem:
        if instructions:
            raise
        # the run folder records no instruction, and this text encoder knows some sentences only
        log.warning("the server was not warmed up, so the first answer may take longer: %s", problem)


@contextmanager
def serving(
    policy: ServedPolicy, system2: System2Mode = "thread", *, runtime: RuntimeConfig | None = None, **options: Any
) -> Iterator[Server]:
    """Serve a policy from a thread of this process while the block runs, for tests and benchmarks.

    Args:
        runtime: without it, as `serve` has it.
        options: of `Server`; without them a free port on loopback.
    """
    limits = options.get("limits") or ConnectionLimits()
    parts = serve_policy(
        policy,
        (),
        frame_sizes={},
        refresh_every=policy.config.refresh_every,
        system2=system2,
        runtime=runtime or RuntimeConfig(first_condition_timeout_s=limits.first_condition_s),
    )
    options = {"port": 0, "gauges": parts.gauges, "trouble": parts.trouble, **options}
    try:
        with Server(parts.make_session, parts.contract.to_metadata(), **options).running() as server:
            yield server
    finally:
        parts.close()


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
    check_port(chosen.host, chosen.port)
    check_engine(run, chosen.engine)
    config, instructions = load_config(run), load_instructions(run)
    if chosen.only == "system2":
        from video2act.system2 import load_system2

        parts = serve_system2(load_system2(run, chosen.device), config, instructions=instructions)
    else:
        policy = load_policy(run, chosen.engine, device=chosen.device)
        parts = serve_policy(
            policy,
            instructions,
            frame_sizes=load_frame_sizes(run),
            refresh_every=chosen.refresh_every or config.refresh_every,
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
