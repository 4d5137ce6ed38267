"""One connection to a server that greets and then reads nothing: as one that is stopped, or behind a broken cable."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from serving_fakes import CONTRACT
from websockets.exceptions import WebSocketException
from websockets.server import ServerProtocol

from video2act.interfaces import HoldError
from video2act.serving.codec import MAX_TEXT, pack
from video2act.serving.link import HOLD, Connection, RemoteError, _read
from video2act.serving.remote_policy import RemotePolicy
from video2act.types import Observation

LARGE = {"clips": np.zeros(20_000_000, np.uint8)}
"""more than the buffers of both machines take"""


def greet(listening: socket.socket, accepted: list[socket.socket]) -> None:
    with suppress(OSError):  # the end: it is shut down
        while True:
            accepted.append(listening.accept()[0])
            protocol = ServerProtocol()
            while not (events := protocol.events_received()):
                protocol.receive_data(accepted[-1].recv(2**16))
            protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
            protocol.send_binary(pack(CONTRACT.to_metadata()))
            accepted[-1].sendall(b"".join(protocol.data_to_send()))


@pytest.fixture
def address() -> Iterator[str]:
    """The address of a server that reads nothing."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=greet, args=(listening, accepted), daemon=True).start()
        yield f"ws://127.0.0.1:{port}"
        listening.shutdown(socket.SHUT_RDWR)
    for each in accepted:
        each.close()


def test_a_message_that_the_server_does_not_read_is_given_up(address: str):
    """A client blocked for ever in `send`."""
    connection = Connection(address, None)
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            connection.ask(LARGE, 0.3)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5.0)
    assert not asking.is_alive()
    assert isinstance(failures[0], TimeoutError)
    assert str(failures[0]) == "the server took no data for 0.3 s"
    connection.close()


def test_a_connection_is_closed_although_another_thread_is_sending(address: str):
    """`close` waited for ever for the lock that the blocked `send` held."""
    connection = Connection(address, None)

    def ask() -> None:
        with suppress(OSError, WebSocketException):
            connection.ask(LARGE, 600.0)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    time.sleep(0.3)  # it is in the middle of its message
    ending = threading.Thread(target=connection.close, daemon=True)
    ending.start()
    ending.join(5.0)
    asking.join(1.0)
    assert (ending.is_alive(), asking.is_alive()) == (False, False)


def test_a_goodbye_that_the_server_does_not_answer_is_not_waited_for(address: str):
    started = time.monotonic()
    Connection(address, None).close()
    assert time.monotonic() - started < 3.0


def test_a_policy_whose_server_reads_nothing_is_closed_in_time(address: str):
    policy = RemotePolicy(address, timeout_s=60.0)
    policy.reset()
    image = np.zeros((2000, 2000, 3), np.uint8)
    policy.observe(Observation({"front": image}, np.zeros(2, np.float32), "push", 0.0))
    time.sleep(0.3)
    ending = threading.Thread(target=policy.close, daemon=True)
    ending.start()
    ending.join(9.0)
    assert not ending.is_alive()
    assert not policy._link._thread.is_alive()


@pytest.mark.parametrize(("start", "error"), [(HOLD, HoldError), ("", RemoteError)])
def test_an_error_of_a_server_is_kept_short_and_without_codes_for_a_terminal(start: str, error: type[Exception]):
    """A server's text of megabytes stayed whole among the incidents of the robot."""
    with pytest.raises(error) as found:
        _read(f"{start}no plan\x1b[2J" + "a" * 5_000_000)
    assert str(found.value).startswith("no plan?[2Jaaa")
    assert len(str(found.value)) <= MAX_TEXT
