"""Connections to a server: one, and one that is made again after a failure, in a thread of its own.

Errors that may pass are tried again. Errors that will not (a wrong key, another policy) are final.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from video2act.extras import extra
from video2act.interfaces import HoldError
from video2act.refresh_rule import pause_s
from video2act.serving.access import authorization
from video2act.serving.codec import MessageError, bounded, pack, unpack
from video2act.serving.contract import Contract

with extra("serve", "serving"):
    from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
    from websockets.sync.client import connect

CONNECT_TIMEOUT_S = 5.0
CLOSE_S = 1.0
"""for a goodbye to be taken, and for its answer"""
STABLE_S = 10.0
"""a connection that held for so long is tried again quickly"""
MAX_ANSWER_BYTES = 64 * 2**20

HOLD = "hold the last target: "
"""prefix of an answer that asks the robot to hold: there was nothing fresh to plan on"""


class RemoteError(RuntimeError):
    """The server answered with an error."""


TROUBLE = (OSError, WebSocketException, MessageError)
"""what a connection can raise, beside the server's own `RemoteError` and `HoldError`"""


class Connection:
    """One connection to a server, open when it is constructed.

    Raises:
        OSError, WebSocketException: no server answered, or it refused the connection.
        MessageError: another kind of server answered.
    """

    def __init__(self, address: str, api_key: str | None):
        connecting = connect(
            address,
            compression=None,
            max_size=MAX_ANSWER_BYTES,
            additional_headers={"Authorization": authorization(api_key)} if api_key else None,
            open_timeout=CONNECT_TIMEOUT_S,
            close_timeout=CLOSE_S,
            ping_interval=None,  # a late answer is noticed sooner than a ping
            proxy=None,  # a robot's server is on its own network
        )
        self._socket = ExitStack().enter_context(connecting)
        try:
            self.contract = Contract.from_metadata(self._receive(CONNECT_TIMEOUT_S, time.monotonic()))
        except BaseException:
            self.close()
            raise

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a message.

        Raises:
            RemoteError: the answer is an error.
            HoldError: there is nothing fresh to plan on.
            OSError, WebSocketException: the connection broke, or the server did not take the message, or no answer came
                in time.
        """
        data, began = pack(message), time.monotonic()
        self.send(data, timeout_s)
        return _as_map(self._receive(timeout_s, began))

    def send(self, data: bytes, timeout_s: float) -> None:
        """Send a packed message. Raises OSError or WebSocketException: the connection broke, or the server took no data
        for so long."""
        with self._cut_after(timeout_s):
            self._socket.send(data)

    def receive(self) -> dict[str, Any]:
        """The next answer, however long it takes; `close` ends the wait. Raises as `ask`."""
        return _as_map(_read(self._socket.recv()))

    def close(self) -> None:
        """End the connection within some seconds, also while another thread asks."""
        with suppress(TimeoutError), self._cut_after(CLOSE_S):
            self._socket.close()

    @contextmanager
    def _cut_after(self, timeout_s: float) -> Iterator[None]:
        """Cut the connection if the server takes no data for so long: websockets would wait for ever, and hold the lock
        that `close` needs. Raises TimeoutError then."""
        is_late = threading.Event()

        def cut() -> None:
            is_late.set()
            with suppress(OSError):  # it is closed already
                # not by the method of a wss socket, which changes what the sending thread works with
                socket.socket.shutdown(self._socket.socket, socket.SHUT_RDWR)

        timer = threading.Timer(timeout_s, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, WebSocketException) as error:
            if is_late.is_set():
                raise TimeoutError(f"the server took no data for {timeout_s:g} s") from error
            raise
        finally:
            timer.cancel()

    def _receive(self, timeout_s: float, began: float) -> Any:
        """The next message, if it comes within `timeout_s` of `began`."""
        try:
            answer = self._socket.recv(max(0.0, began + timeout_s - time.monotonic()))
        except TimeoutError as error:
            raise TimeoutError(f"no answer for {timeout_s:g} s") from error
        return _read(answer)


def _read(answer: str | bytes) -> Any:
    if isinstance(answer, str):
        told = _printable(answer.removeprefix(HOLD))
        raise HoldError(told) if answer.startswith(HOLD) else RemoteError(told)
    return unpack(answer)


def _printable(text: str) -> str:
    """A text of another machine, for a log and a terminal here: short, and without codes that steer a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in bounded(text))


def _as_map(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise MessageError(f"the server answered with a {type(answer).__name__}, expected a map")
    return answer


class Link:
    """One server, one thread. The control loop never waits for it.

    Args:
        converse: called in the thread with every new connection; runs until `is_closed`.
        troubled: called with every failure.
        waits: for a server that is not there yet; if not, a failure before the first connection is final.
    """

    def __init__(
        self,
        address: str,
        api_key: str | None,
        *,
        converse: Callable[[Connection], None],
        troubled: Callable[[str], None],
        waits: bool,
    ):
        self.address = address
        self.is_closed = threading.Event()
        self.failure: Exception | None = None
        """why the thread ended, if it did"""
        self.trouble = ""
        """the last failure, and whose"""
        self._api_key = api_key
        self._converse = converse
        self._troubled = troubled
        self._tries_again = waits
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._work, name=f"link to {address}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the connection."""
        self.is_closed.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(CONNECT_TIMEOUT_S)

    def _work(self) -> None:
        failures = 0
        while not self.is_closed.is_set():
            began = time.monotonic()
            try:
                self._connect_and_converse()
            except Exception as error:  # noqa: BLE001 - the control loop must see it
                if self.is_closed.is_set():
                    return
                self.trouble = f"{self.address}: {describe_error(error)}"
                may_pass = isinstance(error, (*TROUBLE, RemoteError)) and not is_final(error)
                if not (may_pass and self._tries_again):
                    self.failure = error
                    self._troubled(f"{self.trouble}; given up")
                    return
                failures = 1 if time.monotonic() - began > STABLE_S else failures + 1
                wait_s = pause_s(failures)
                self._troubled(f"{self.trouble}; trying again in {wait_s:.1f} s")
                self.is_closed.wait(wait_s)

    def _connect_and_converse(self) -> None:
        self._connection = connection = Connection(self.address, self._api_key)
        self._tries_again = True
        try:
            if not self.is_closed.is_set():
                self._converse(connection)
        finally:
            self._connection = None
            connection.close()


def is_final(error: Exception) -> bool:
    """Whether trying again cannot help: a bad address, a wrong key, or another kind of server."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (401, 403, 404)
    return isinstance(error, InvalidURI | MessageError | PermissionError)


def describe_error(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, InvalidStatus):
        body = _printable((error.response.body or b"").decode(errors="replace").strip())
        reason = f"refused with {error.response.status_code} {error.response.reason_phrase}"
        return f"{reason}: {body}" if body else reason
    if isinstance(error, ConnectionClosed):
        reason = error.rcvd.reason if error.rcvd else ""
        return f"the connection was closed{f': {reason}' if reason else ' without a reason'}"
    return bounded(str(error)) or type(error).__name__
