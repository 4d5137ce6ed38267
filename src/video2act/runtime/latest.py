"""A mailbox with one slot where the newest message wins: how the slow system hands results to the fast one.

A reader that is late never works through a backlog, and a writer never waits for a reader. Messages must be immutable,
because the same object stays in the slot and may be read many times.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Message = TypeVar("Message")


class Latest(Generic[Message]):
    """One slot, any number of writers and readers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._message: Message | None = None

    def put(self, message: Message) -> None:
        """Replace what is in the slot."""
        with self._changed:
            self._message = message
            self._changed.notify_all()

    def get(self) -> Message | None:
        """What is in the slot, without waiting; None if nothing was ever put there."""
        with self._changed:
            return self._message

    def wait(self, wanted: Callable[[Message], bool], timeout_s: float) -> Message | None:
        """The first message that is `wanted`, at once if it is already there; None if none came in time."""

        def arrived() -> bool:
            return self._message is not None and wanted(self._message)

        with self._changed:
            return self._message if self._changed.wait_for(arrived, timeout_s) else None
