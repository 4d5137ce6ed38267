"""A policy of ten lines behind a real server on loopback, and a client that may say anything."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from video2act.config import ConnectionLimits, FrameConfig
from video2act.frames import FrameUse
from video2act.serving.codec import pack, unpack
from video2act.serving.contract import Contract, ImageRule
from video2act.serving.server import Server
from video2act.serving.session import PolicySession, Session
from video2act.types import ActionChunk, Observation

PERIOD_S = 0.05
CONTRACT = Contract(
    serves="policy",
    cameras=("front",),
    image_size=(16, 16),
    image_rules={"front": ImageRule((FrameUse("", "front", (16, 16), FrameConfig()),))},
    state_dim=2,
    action_dim=2,
    horizon=4,
    execute_steps=2,
    refresh_every=4,
    period_s=PERIOD_S,
    history_steps=8,
    streams={},
    instructions=("push the block",),
)


class CountingPolicy:
    """Plans what it has seen: the first column is the number of frames of this episode, the second what the state
    says."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.num_episodes = 0
        self.is_closed = False
        self.gate: threading.Event | None = None
        """set by tests that want a policy to be slow"""
        self.is_planning = threading.Event()

    def reset(self) -> None:
        self.seen = []
        self.num_episodes += 1

    def observe(self, observation: Observation) -> None:
        self.seen.append(observation)

    def infer(self, observation: Observation) -> ActionChunk:
        self.is_planning.set()
        if self.gate is not None:
            self.gate.wait(30)
        if observation.instruction == "fail":
            raise FileNotFoundError("the instruction 'fail' has no embedding")
        if observation.instruction == "diverge":
            return ActionChunk(np.full((4, 2), np.nan), observation.time, PERIOD_S)
        plan = np.tile([float(len(self.seen)), float(observation.state[0])], (4, 1))
        return ActionChunk(plan, observation.time, PERIOD_S)

    def close(self) -> None:
        self.is_closed = True


def observation(step: int, instruction: str = "push") -> Observation:
    """What a robot sees at a control step."""
    image = np.full((16, 16, 3), step % 256, np.uint8)
    return Observation({"front": image}, np.array([step, 0.0], np.float32), instruction, step * PERIOD_S)


def message(number: Any = 0.0, /, **words: Any) -> dict[str, Any]:
    """A good observation, with some words replaced; None takes one out."""
    good = {
        "images/front": np.zeros((16, 16, 3), np.uint8),
        "state": np.array([number, 0.0], np.float32),
        "prompt": "push",
    }
    return {word: value for word, value in (good | words).items() if value is not None}


@contextmanager
def serving(
    make_session: Callable[[], Session] | None = None,
    contract: Contract = CONTRACT,
    limits: ConnectionLimits | None = None,
    **options: Any,
) -> Iterator[Server]:
    """A server on a free port, of a `CountingPolicy` per client."""
    make = make_session or (lambda: PolicySession(CountingPolicy(), contract))
    options = {"port": 0, **options}
    with Server(make, contract.to_metadata(), limits=limits, **options).running() as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def far_away(server: Server, round_trip_s: float) -> Iterator[str]:
    """The address of a server behind a network whose messages take half a round trip each way."""
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            loop.call_later(round_trip_s / 2, writer.write, data)
        loop.call_later(round_trip_s / 2, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", server.port)
        with suppress(ConnectionError):
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    network = loop.run_until_complete(asyncio.start_server(connected, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{network.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Client:
    """Says what it is told, byte by byte if need be."""

    def __init__(self, server: Server, **options: Any):
        self._ending = ExitStack()
        connecting = connect(server.address, compression=None, max_size=None, proxy=None, **options)
        self.connection: ClientConnection = self._ending.enter_context(connecting)
        self.metadata = unpack(self.connection.recv(5))  # type: ignore[arg-type]

    def ask(self, message: Any) -> Any:
        return self.say(pack(message))

    def say(self, data: bytes | str) -> Any:
        """What is answered: a map, or the text of an error."""
        self.connection.send(data)
        answer = self.connection.recv(10)
        return answer if isinstance(answer, str) else unpack(answer)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.close()
