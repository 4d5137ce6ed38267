"""A policy behind a websocket with openpi's protocol: metadata when a client connects, then one answer per message.

The event loop only moves bytes. Every client has a thread that reads, checks and answers its messages in order, so one
client's wait for System 2 does not delay the others. An error is answered as text, which openpi's client raises; the
connection stays, and a message that was refused changed nothing. Plain HTTP on the same port: `/healthz` and
`/metrics`.

Requests with an `Origin` are refused: a browser sends one and a robot does not, so no web page can reach a server on
loopback.
"""

import asyncio
import json
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from video2act.config import ConnectionLimits
from video2act.extras import extra
from video2act.interfaces import HoldError
from video2act.serving.access import Rate, check_bind, port_is_named, refusal
from video2act.serving.bounded_connection import BoundedConnection, Connections
from video2act.serving.codec import MessageError, bounded, pack, unpack
from video2act.serving.link import HOLD
from video2act.serving.metrics import Metrics
from video2act.serving.session import Session
from video2act.serving.worker import Worker, settle

with extra("serve", "serving"):
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed
    from websockets.frames import CloseCode
    from websockets.http11 import Request, Response

GOODBYE = "the server is shutting down"
GOODBYE_SHARE = 0.2
"""of `shutdown_s`, for the end of the connections"""
PIECES_AT_ONCE = 32
"""pieces of a message that are taken before other clients have their turn"""


class Sparse(logging.Filter):
    """At most a few records a second: clients can cause errors much faster."""

    def __init__(self, per_s: float = 5.0):
        super().__init__()
        self._rate = Rate(per_s)
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if self._rate.is_exceeded():
            self._left_out += 1
            return False
        if self._left_out:
            record.msg = f"({self._left_out} records before this one were left out) {record.msg}"
            self._left_out = 0
        return True


log = logging.getLogger(__name__)
log.addFilter(Sparse())
_quiet = logging.getLogger(f"{__name__}.handshakes")  # websockets logs a traceback for every port scan
_quiet.setLevel(logging.CRITICAL)


class Server:
    """Serves sessions.

    Args:
        make_session: called for every client, in that client's thread.
        metadata: the first message of every connection.
        host: address to listen on; any address but loopback needs an API key.
        port: 0 for any free port.
        gauges: more numbers for `/metrics`.
        trouble: a fault behind the sessions, for `/healthz`; empty if there is none.

    Raises:
        ValueError: a public address without an API key.
    """

    def __init__(
        self,
        make_session: Callable[[], Session],
        metadata: dict[str, Any],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        api_key: str | None = None,
        limits: ConnectionLimits | None = None,
        gauges: Callable[[], dict[str, float]] = dict,
        trouble: Callable[[], str] = str,
    ):
        check_bind(host, api_key)
        self.host, self.port = host, port
        self.metrics = Metrics()
        self._make_session = make_session
        self._greeting = pack(metadata)
        self._api_key = api_key
        self._limits = limits or ConnectionLimits()
        self._gauges = gauges
        self._trouble = trouble
        self._num_clients = 0
        """with those that have left while the policy hangs in their answer: each holds a thread until it comes back"""
        self._busy_since: dict[asyncio.Future[Any], float] = {}
        """every answer in progress, also those that timed out"""
        self._overdue: set[asyncio.Future[Any]] = set()
        """those that timed out"""
        self._awaited: set[asyncio.Future[Any]] = set()
        self._is_stopping = False
        self._started_at = time.monotonic()

    @property
    def address(self) -> str:
        """The address for a client on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    async def run(self, stop: asyncio.Event, is_ready: Callable[[], object] = lambda: None) -> None:
        """Serve until `stop`; then finish the answers in progress and close the connections with code 1001.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        limits, connections = self._limits, Connections(self._limits)
        with port_is_named(self.host, self.port):
            server = await serve(
                self._serve,  # type: ignore[arg-type]
                self.host,
                self.port,
                create_connection=connections,  # type: ignore[arg-type]
                process_request=self._answer_http,
                compression=None,  # camera frames hardly shrink, and compression takes longer than a network does
                origins=[None],
                max_size=limits.max_message_bytes,
                max_queue=2,
                open_timeout=limits.message_timeout_s,
                ping_interval=limits.message_timeout_s,
                ping_timeout=limits.message_timeout_s,
                close_timeout=limits.shutdown_s,
                logger=_quiet,
            )
        self.port = next(iter(server.sockets)).getsockname()[1]
        is_ready()
        await stop.wait()
        self._is_stopping = True
        server.close(close_connections=False)
        end = time.monotonic() + limits.shutdown_s
        while self._awaited and time.monotonic() < end - GOODBYE_SHARE * limits.shutdown_s:
            await asyncio.sleep(0.01)
        for answer in list(self._awaited):  # the policy hangs
            settle(answer, None, error=MessageError(GOODBYE))
        closing = [
            asyncio.ensure_future(connection.close(CloseCode.GOING_AWAY, GOODBYE)) for connection in connections.open
        ]
        if closing:
            await asyncio.wait(closing, timeout=max(0.0, end - time.monotonic()))
        connections.abort()  # those that never finish their handshake, or do not answer the goodbye
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1.0)

    def run_until_signal(self, is_ready: Callable[[], object] = lambda: None) -> None:
        """Serve from the main thread until SIGINT or SIGTERM."""

        async def main() -> None:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await self.run(stop, is_ready)

        asyncio.run(main())

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Serve from a thread while the block runs."""
        loop, stop, is_ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                loop.run_until_complete(self.run(stop, is_ready.set))
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)
            finally:
                is_ready.set()
                loop.close()

        thread = threading.Thread(target=work, name="server", daemon=True)
        thread.start()
        is_ready.wait()
        try:
            if failures:
                raise failures[0]
            yield self
        finally:
            if not failures:
                loop.call_soon_threadsafe(stop.set)
            thread.join()

    # connections

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """None lets the websocket handshake go on."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return self._health(connection)
        reason = refusal(self._api_key, request.headers.get_all("Authorization"))
        if reason is not None:
            self.metrics.count("refused", "api_key")
            return connection.respond(HTTPStatus.UNAUTHORIZED, reason)
        if path == "/metrics":
            gauges = {
                "clients": float(self._num_clients),
                "uptime_seconds": time.monotonic() - self._started_at,
                **self._gauges(),
            }
            return connection.respond(HTTPStatus.OK, self.metrics.to_text(gauges))
        if path != "/":
            return connection.respond(HTTPStatus.NOT_FOUND, "there is /healthz, /metrics, and a websocket at /\n")
        if self._num_clients >= self._limits.max_clients or self._is_stopping:
            self.metrics.count("refused", "full")
            reason = "shutting down" if self._is_stopping else self._full()
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"the server is {reason}\n")
        return None

    def _full(self) -> str:
        """Why there is no place for another client, in less than the 123 bytes of a close frame."""
        num_places, num_hanging = self._limits.max_clients, len(self._overdue)
        if not num_hanging:
            return f"full: {num_places} clients are connected"
        remedy = "wait until it goes on, or start the server again"
        return f"full: the policy hangs in {num_hanging} of {num_places} places; {remedy}"

    def _health(self, connection: ServerConnection) -> Response:
        longest = max((time.monotonic() - since for since in self._busy_since.values()), default=0.0)
        trouble = self._trouble()
        is_well = not self._overdue and not trouble and not self._is_stopping
        facts = {"ok": is_well, "clients": self._num_clients, "longest_answer_in_progress_s": round(longest, 3)}
        facts |= {"trouble": trouble} if trouble else {}
        return connection.respond(
            HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(facts) + "\n"
        )

    async def _serve(self, connection: BoundedConnection) -> None:
        if self._num_clients >= self._limits.max_clients:  # several may shake hands at once
            return await connection.close(CloseCode.TRY_AGAIN_LATER, self._full())
        self._num_clients += 1
        self.metrics.count("connections", "accepted")
        worker = Worker(f"client {connection.remote_address}")
        session: Session | None = None
        try:
            made: Session = await worker.run(self._make_session)
            session = made
            await connection.send(self._greeting)
            await self._converse(connection, worker, session=made)
        except ConnectionClosed as closed:
            self.metrics.closed(closed.rcvd.code if closed.rcvd else 1006)
        except Exception:
            # errors of messages are answered; here the session could not be made
            log.exception("a connection failed")
            await connection.close(CloseCode.INTERNAL_ERROR, "internal error; the server's log says more")
        finally:
            if connection.frames_exceeded:
                self.metrics.count("errors", "frames")
            if connection.is_unread:
                self.metrics.count("errors", "timeout")
            # after what hangs in it
            worker.run(lambda: session and session.close()).add_done_callback(self._has_ended)
            worker.end()

    def _has_ended(self, closing: "asyncio.Future[Any]") -> None:
        self._num_clients -= 1
        if not closing.cancelled() and closing.exception() is not None:
            log.error("a session did not end well", exc_info=closing.exception())

    async def _converse(self, connection: BoundedConnection, worker: Worker, *, session: Session) -> None:
        rate = Rate(self._limits.max_messages_per_s)
        while True:
            data = await self._receive(connection)
            if data is None:
                return None
            if self._is_stopping:
                return await connection.close(CloseCode.GOING_AWAY, GOODBYE)
            if rate.is_exceeded():
                self.metrics.count("errors", "rate")
                await connection.send(f"too many messages: {self._limits.max_messages_per_s:g} a second are allowed")
                continue
            answer = worker.run(lambda data=data: self._answer(session, data))
            self._busy_since[answer] = time.monotonic()
            answer.add_done_callback(self._is_over)
            try:
                answered = await self._wait_for(answer, session)
            except MessageError as error:
                answered = str(error)
            if answered is None:
                # the policy goes on with an answer that timed out, and `/healthz` shows it
                self._overdue.add(answer)
                self.metrics.count("errors", "timeout")
                reason = f"no answer within {self._longest_s(session):g} s: the policy hangs, or is slower than that"
                await connection.send(reason)
                return await connection.close(CloseCode.INTERNAL_ERROR, reason)
            await connection.send(answered)

    def _longest_s(self, session: Session) -> float:
        """Seconds that an answer may take."""
        return self._limits.first_answer_s if session.is_first else self._limits.answer_timeout_s

    async def _wait_for(self, answer: "asyncio.Future[Any]", session: Session) -> str | bytes | None:
        """The answer; None if it did not come in time."""
        began = time.monotonic()
        self._awaited.add(answer)
        try:
            # the session may begin an episode meanwhile, so the limit is looked up again
            while not answer.done() and (left_s := began + self._longest_s(session) - time.monotonic()) > 0:
                await asyncio.wait({answer}, timeout=left_s)
        finally:
            self._awaited.discard(answer)
        return answer.result() if answer.done() else None

    def _is_over(self, answer: "asyncio.Future[Any]") -> None:
        del self._busy_since[answer]
        self._overdue.discard(answer)
        if not answer.cancelled():
            answer.exception()  # retrieved: asyncio would log those that nobody waits for any more

    async def _receive(self, connection: BoundedConnection) -> str | bytes | None:
        """One message; None if its rest did not come in time, and the connection is closed.

        Pings find a client that stops within a websocket frame, where it cannot answer them.
        """
        pieces: AsyncIterator[str | bytes] = connection.recv_streaming()
        received = [await anext(pieces)]
        try:
            async with asyncio.timeout(self._limits.message_timeout_s):
                async for piece in pieces:
                    received.append(piece)
                    if len(received) % PIECES_AT_ONCE == 0:
                        await asyncio.sleep(0)  # pieces that are there already are taken without a pause
        except TimeoutError:
            self.metrics.count("errors", "timeout")
            reason = f"the rest of a message did not come within {self._limits.message_timeout_s:g} s"
            await connection.send(reason)
            return await connection.close(CloseCode.POLICY_VIOLATION, reason)
        return received[0] if len(received) == 1 else received[0][:0].join(received)  # type: ignore[arg-type]

    def _answer(self, session: Session, data: str | bytes) -> str | bytes:
        """Runs in the client's thread; bytes are an answer, text is an error."""
        started = time.perf_counter()
        try:
            if isinstance(data, str):
                raise MessageError("a message is binary (msgpack), but this one came as text")
            answer = session.answer(unpack(data))
            seconds = time.perf_counter() - started
            self.metrics.count("answers", "plan" if "actions" in answer else "other")
            self.metrics.answered(seconds)
            return pack({**answer, "server_timing": {"infer_ms": 1000 * seconds}})
        except MessageError as error:
            self.metrics.count("errors", "message")
            return bounded(str(error))
        except HoldError as error:
            self.metrics.count("errors", "hold")
            return bounded(f"{HOLD}{error}")
        except Exception as error:
            # the connection stays: the cause may pass (a missing text embedding, System 2's first refresh)
            self.metrics.count("errors", "policy")
            log.exception("the policy failed")
            return bounded(f"the policy failed: {type(error).__name__}: {error}")
