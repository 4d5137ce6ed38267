"""A websocket connection that one client cannot use to stop a server.

websockets bounds bytes. It does not bound frames: a megabyte holds 170,000 empty ones, and the event loop would parse
them all before it turns to another client. Here a client has an allowance of small frames; beyond it the connection is
closed. Connections in the middle of their handshake are bounded too: a new one takes the place of the oldest. Nor does
it bound the time of a client that reads nothing: here it is cut.
"""

import asyncio
from typing import Any

from video2act.config import ConnectionLimits
from video2act.extras import extra
from video2act.serving.access import Rate

with extra("serve", "serving"):
    from websockets.asyncio.server import ServerConnection
    from websockets.frames import CloseCode, Frame
    from websockets.http11 import Request
    from websockets.protocol import SEND_EOF, State

FRAMES_PER_MESSAGE = 8
"""small frames: the pieces of a message, pings and pongs"""
SMALL_BYTES = 1024
"""larger frames are bounded by their bytes"""
PIECE_BYTES = 4096
"""received bytes that are parsed between two looks at the allowance; at most 700 frames"""
MAX_HANDSHAKES = 64
LAST_WORDS_S = 1.0
"""for the reason to reach a client before its connection is cut"""


class Connections:
    """The connections of one server."""

    def __init__(self, limits: ConnectionLimits):
        self.limits = limits
        self._all: dict[BoundedConnection, None] = {}
        """oldest first"""

    def __call__(self, *arguments: Any, **options: Any) -> "BoundedConnection":
        """Makes a connection, for websockets' `create_connection`."""
        return BoundedConnection(self, *arguments, **options)

    def add(self, connection: "BoundedConnection") -> None:
        unfinished = [other for other in self._all if other.state is State.CONNECTING]
        if len(unfinished) >= MAX_HANDSHAKES:
            unfinished[0].transport.abort()
            self.remove(unfinished[0])  # it ends in the loop's next turn, and this turn may bring many more
        self._all[connection] = None

    def remove(self, connection: "BoundedConnection") -> None:
        self._all.pop(connection, None)

    @property
    def open(self) -> list["BoundedConnection"]:
        """Those that have finished their handshake."""
        return [connection for connection in self._all if connection.state is State.OPEN]

    def abort(self) -> None:
        """Cut all, finished or not, without a word."""
        for connection in list(self._all):
            connection.transport.abort()


class BoundedConnection(ServerConnection):
    """A connection whose client may send a bounded number of small frames per second, and must read what it is sent."""

    def __init__(self, connections: Connections, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.frames_exceeded = False
        self.is_unread = False
        """the client took nothing for too long, and was cut"""
        self._connections = connections
        self._frames = Rate(FRAMES_PER_MESSAGE * connections.limits.max_messages_per_s)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            if self.frames_exceeded:
                return
            super().data_received(data[start : start + PIECE_BYTES])

    def process_event(self, event: Request | Frame) -> None:
        if self.frames_exceeded:
            return
        if isinstance(event, Frame) and len(event.data) < SMALL_BYTES and self._frames.is_exceeded():
            self.frames_exceeded = True
            self.protocol.fail(CloseCode.POLICY_VIOLATION, "too many small frames")
            self.send_data()
            self.loop.call_later(LAST_WORDS_S, self.transport.abort)
            return
        super().process_event(event)

    async def drain(self) -> None:
        # answers, pings and goodbyes all wait here
        limit_s = self._connections.limits.message_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await super().drain()
        except TimeoutError:
            self.is_unread = True
            raise TimeoutError(f"the client did not take what it was sent within {limit_s:g} s") from None

    def send_data(self) -> None:
        # in one piece, and not to a lost connection: asyncio would log every attempt
        writes = self.protocol.data_to_send()
        if (data := b"".join(writes)) and not self.transport.is_closing():
            self.transport.write(data)
        if SEND_EOF in writes and not self.transport.is_closing():
            self.transport.write_eof()
