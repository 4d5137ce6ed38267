"""What one client can do to the others: nothing. Floods of frames, half-open connections, endless texts."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import pytest
from serving_fakes import CONTRACT, Client, CountingPolicy, message, serving
from test_server import get, wait_until
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.uri import parse_uri

from video2act.config import ConnectionLimits
from video2act.serving.bounded_connection import MAX_HANDSHAKES
from video2act.serving.codec import MAX_TEXT, pack
from video2act.serving.link import RemoteError, describe_error
from video2act.serving.server import Server, Sparse
from video2act.serving.session import PolicySession

MASK = b"\x80mask"
EMPTY = {
    "continuations": (b"\x02" + MASK, b"\x00" + MASK),
    "continuations of a text": (b"\x01" + MASK, b"\x00" + MASK),
    "pings": (b"", b"\x89" + MASK),
    "pongs": (b"", b"\x8a" + MASK),
    "messages": (b"", b"\x82" + MASK),
    "continuations of one byte": (b"\x02" + MASK, b"\x00\x81mask\x00"),
}
"""what opens the flood, and the frame that it is made of"""


@pytest.fixture
def asyncio_log(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield caplog.records


class Watch:
    """The longest that `/healthz` took while the block ran."""

    def __init__(self, server: Server):
        self._server = server
        self._is_over = threading.Event()
        self.longest_s = 0.0
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._is_over.is_set():
            started = time.monotonic()
            assert get(self._server, "/healthz")[0] == 200
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            time.sleep(0.01)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.parametrize("flood", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("closes", [False, True])
def test_a_flood_of_empty_frames_does_not_freeze_the_server(
    flood: tuple[bytes, bytes], closes: bool, asyncio_log: list[logging.LogRecord]
):
    """300,000 of them froze it for two to six seconds, and filled asyncio's log when the client was gone.

    Ten times as many are sent, so that a freeze and a busy machine cannot be taken for each other.
    """
    first, frame = flood
    with serving() as server, Client(server) as other:
        attacker = Client(server, ping_interval=None)
        raw = attacker.connection.socket
        with Watch(server) as watch:
            with suppress(OSError):
                raw.sendall(first + 3_000_000 * frame)
                if closes:
                    raw.close()
            wait_until(lambda: server.metrics.get("errors", "frames") == 1)
            assert "actions" in other.ask(message())
        assert watch.longest_s < 4.0
        if not closes:
            with pytest.raises(ConnectionClosed, match=r"1008 \(policy violation\) too many small frames"):
                list(attacker.connection)
        wait_until(lambda: '"clients": 1,' in get(server, "/healthz")[1])
    assert [record.getMessage() for record in asyncio_log if record.name == "asyncio"] == []


def test_a_large_message_in_pieces_is_no_flood():
    with serving() as server, Client(server) as client:
        for step in range(3):
            data = pack(message(**{"images/front": np.zeros((1024, 1024, 3), np.uint8), "time": float(step)}))
            client.connection.send(data[start : start + 1100] for start in range(0, len(data), 1100))
            assert isinstance(client.connection.recv(5), bytes)
        assert server.metrics.get("errors", "frames") == 0


def test_the_allowance_of_frames_follows_that_of_messages():
    with serving(limits=ConnectionLimits(max_messages_per_s=10.0)) as server, Client(server) as client:
        for _ in range(9):  # an observation in four small pieces, ten times a second
            data = pack({"plan": True})
            client.connection.send([data[:2], data[2:4], data[4:5], data[5:]])
            assert "nothing to plan on" in str(client.connection.recv(5))


def test_a_client_that_does_not_read_its_answers_gives_its_place_back():
    """It kept its place for ever: the ping that should have found it out waited behind the answer."""

    class LargeAnswers(PolicySession):
        def answer(self, message: Any) -> dict[str, Any]:
            return {"padding": np.zeros(30_000_000, np.uint8)}  # more than the buffers of the system take

    limits = ConnectionLimits(message_timeout_s=0.3, max_clients=1)
    with serving(lambda: LargeAnswers(CountingPolicy(), CONTRACT), limits=limits) as server:
        deaf = socket.create_connection((server.host, server.port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        protocol = ClientProtocol(parse_uri(server.address))
        protocol.send_request(protocol.connect())
        deaf.sendall(b"".join(protocol.data_to_send()))
        while not protocol.events_received():
            protocol.receive_data(deaf.recv(1))
        protocol.send_binary(pack({}))
        deaf.sendall(b"".join(protocol.data_to_send()))
        wait_until(lambda: server.metrics.get("errors", "timeout") == 1)
        assert server.metrics.get("closed", "1006") == 1
        wait_until(lambda: takes_a_client(server))  # the place is given back a moment after the closing is counted
        deaf.close()


def takes_a_client(server: Server) -> bool:
    try:
        Client(server).__exit__()
    except InvalidStatus:
        return False
    return True


class TestShutdown:
    """`SIGTERM` took 21 s while one connection was half open."""

    LIMITS = ConnectionLimits(shutdown_s=0.5, message_timeout_s=20.0)

    def took(self, open_one: Callable[[Server], Any], num: int = 1) -> float:
        with serving(limits=self.LIMITS) as server:
            held = [open_one(server) for _ in range(num)]
            time.sleep(0.1)
            started = time.monotonic()
        assert held
        return time.monotonic() - started

    def test_with_a_connection_that_says_nothing(self):
        assert self.took(lambda server: socket.create_connection((server.host, server.port))) < 0.4

    def test_with_one_that_stops_in_its_handshake(self):
        assert self.took(lambda server: Half(server, b"GET / HTTP/1.1\r\nHost: "), num=5) < 0.4

    def test_with_a_client_that_does_not_say_goodbye(self):
        def deaf(server: Server) -> Half:
            half = Half(server, HANDSHAKE)
            assert b"101 Switching" in half.socket.recv(1000)
            return half

        assert 0.3 < self.took(deaf) < 1.5

    def test_with_one_that_stops_within_a_message(self):
        def broken(server: Server) -> Half:
            return Half(server, HANDSHAKE + b"\x02\xfe\x10\x00mask" + bytes(100))

        assert self.took(broken) < 1.5

    def test_with_one_that_does_not_read_its_answers(self):
        def full(server: Server) -> Half:
            half = Half(server, HANDSHAKE)
            half.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            half.socket.sendall(100 * (b"\x89\xfd" + b"mask" + bytes(125)))
            return half

        assert self.took(full) < 1.5

    def test_with_a_policy_that_hangs_and_a_half_open_connection(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        with serving(lambda: PolicySession(slow, CONTRACT), limits=self.LIMITS) as server:
            client, half = Client(server), Half(server, b"GET ")
            client.connection.send(pack(message()))
            assert slow.is_planning.wait(5)
            started = time.monotonic()
        assert time.monotonic() - started < 1.0
        with pytest.raises(ConnectionClosed, match="the server is shutting down"):
            client.connection.recv(1)
        half.socket.close()
        slow.gate.set()


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Half:
    """A connection of bytes."""

    def __init__(self, server: Server, data: bytes):
        self.socket = socket.create_connection((server.host, server.port), timeout=5)
        self.socket.sendall(data)

    def is_closed(self) -> bool:
        """Whether the server has closed it, with what was sent read or unread."""
        try:
            return self.socket.recv(10) == b""
        except ConnectionResetError:
            return True


def test_half_open_connections_do_not_keep_others_out():
    with serving() as server:
        halves = [Half(server, b"GET / HT") for _ in range(MAX_HANDSHAKES + 40)]
        with Client(server) as client:
            assert "actions" in client.ask(message())
        wait_until(halves[0].is_closed)  # the oldest ones made room
        for half in halves:
            half.socket.close()


def is_open(connecting: socket.socket) -> bool:
    """Whether the server has kept a socket that does not block."""
    try:
        return connecting.recv(10) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_a_burst_of_half_open_connections_does_not_pass_the_limit():
    """Of connections that came in one turn of the event loop, each cut the same one, and all others stayed."""
    with serving() as server, ExitStack() as ending:
        burst = [ending.enter_context(socket.socket()) for _ in range(MAX_HANDSHAKES + 30)]
        for each in burst:
            each.setblocking(False)
            each.connect_ex((server.host, server.port))
        wait_until(lambda: sum(map(is_open, burst)) <= MAX_HANDSHAKES)
        with Client(server) as client:
            assert "actions" in client.ask(message())


LONG = "x" * 1_000_000
TEXTS = {
    "a key": {LONG: 1},
    "a camera": message(**{"images/front": None, f"images/{LONG}": np.zeros((16, 16, 3), np.uint8)}),
    "a camera of a map": message(**{"images/front": None, "images": {LONG: 1}}),
    "a camera twice": message(**{f"images/{LONG}": 1, "images": {LONG: 1}}),
    "a thousand keys": {f"{number}{LONG[:900]}": 1 for number in range(1000)},
    "a key that is no string": {LONG.encode(): 1},
    "cameras of several types": message(**{"images/front": None, "images": {1: 1, "a": 1, None: 1}}),
    "a prompt": message(prompt=LONG),
    "a prompt of bytes": message(prompt=LONG.encode()),
    "a state": message(state=LONG),
    "a time": message(time=LONG),
    "a flag": message(reset=LONG),
    "a dtype": message(state={b"__ndarray__": True, b"data": b"", b"dtype": LONG, b"shape": [1]}),
    "a shape": message(state={b"__ndarray__": True, b"data": b"", b"dtype": "<f4", b"shape": [10**9] * 1000}),
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_the_text_of_an_error_is_bounded(content: dict):
    """A message of 14 MB came back as an error of 14 MB."""
    with serving() as server, Client(server) as client:
        answer = client.ask(content)
        assert isinstance(answer, str)
        assert 10 < len(answer) <= MAX_TEXT
        assert server.metrics.get("errors", "message") == 1


def test_the_text_of_a_policys_error_is_bounded_on_both_sides():
    class Wordy(CountingPolicy):
        def infer(self, observation):
            raise RuntimeError(LONG)

    with serving(lambda: PolicySession(Wordy(), CONTRACT)) as server, Client(server) as client:
        answer = client.ask(message())
        assert answer.startswith("the policy failed: RuntimeError: xxx")
        assert len(answer) == MAX_TEXT
    assert len(describe_error(RemoteError(LONG))) == MAX_TEXT


def test_the_labels_of_metrics_are_a_fixed_set():
    """Every close code that a client made up became a label."""
    with serving() as server:
        before = len(get(server, "/metrics")[1].splitlines())
        for code in (1000, 3000, 3001, 4000, 4999):
            client = Client(server)
            client.connection.close(code)
        wait_until(lambda: server.metrics.get("closed", "other") == 4)
        assert len(get(server, "/metrics")[1].splitlines()) == before
        with pytest.raises(KeyError):
            server.metrics.count("closed", "3000")


def test_two_authorization_headers_are_refused_with_401():
    """They were an internal error, 500."""
    request = b"GET %s HTTP/1.1\r\nHost: here\r\n" + 2 * b"Authorization: Api-Key secret\r\n" + b"\r\n"
    with serving(api_key="secret") as server:
        for path in (b"/", b"/metrics"):
            assert b"401 Unauthorized" in Half(server, request % path).socket.recv(1000)
        assert server.metrics.get("refused", "api_key") == 2


def test_a_key_of_other_letters_is_refused_with_401():
    """A byte that is no ASCII was an internal error, 500."""
    request = b"GET %s HTTP/1.1\r\nHost: here\r\nAuthorization: Api-Key \xff\r\n\r\n"
    with serving(api_key="secret") as server:
        for path in (b"/", b"/metrics"):
            assert b"401 Unauthorized" in Half(server, request % path).socket.recv(1000)


def test_other_headers_that_come_twice_are_no_internal_error():
    for name in (b"Origin: http://evil.example\r\n", b"Upgrade: websocket\r\n", b"Host: there\r\n"):
        with serving() as server:
            answer = Half(server, HANDSHAKE[:-2] + 2 * name + b"\r\n").socket.recv(1000)
            assert answer.split()[1] in (b"101", b"400", b"403", b"426")


def test_the_servers_own_log_is_sparse():
    record = logging.LogRecord("server", logging.ERROR, "", 1, "the policy failed", (), None)
    sparse = Sparse(per_s=5.0)
    assert sum(sparse.filter(record) for _ in range(1000)) == 5
    time.sleep(0.25)
    assert sparse.filter(record)
    assert record.msg == "(995 records before this one were left out) the policy failed"
