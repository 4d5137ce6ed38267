"""The thread that runs System 2 for one slow loop, or for many: a server has one device, and every client an episode.

It refreshes the loops that are due, in turn. A loop waits in line at most once. When its turn comes, its newest frame
is used: there is no backlog, and no loop starves another.
"""

import logging
import math
import threading
import time
from typing import Protocol, runtime_checkable

from video2act.interfaces import Perceiver

log = logging.getLogger(__name__)
CLOSE_S = 1.0
"""for a refresh in progress, when a server stops"""


@runtime_checkable
class Refreshing(Protocol):
    """A slow loop, as the worker uses it."""

    def refresh(self, system: Perceiver) -> bool:
        """Refresh on the newest frame, if that is still due; returns whether it was. Raises what System 2 raises."""
        ...

    def failed(self, error: Exception) -> float:
        """Note a failed refresh; returns the pause before the next attempt in seconds, infinite if there is none."""
        ...


class System2Worker:
    """The thread, and the line before it. Give it to several `ThreadSlowLoop`s to share one System 2.

    Args:
        hang_timeout_s: a refresh that takes longer is reported. It cannot be ended: a thread cannot be killed.
    """

    def __init__(self, system: Perceiver, *, hang_timeout_s: float = 10.0):
        self.num_refreshes = 0
        self.num_failures = 0
        self._system = system
        self._hang_timeout_s = hang_timeout_s
        self._working_since: float | None = None
        self._changed = threading.Condition()
        self._line: dict[Refreshing, float] = {}
        """loop -> moment before which it is not refreshed"""
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="system2", daemon=True)
        self._thread.start()

    def ask(self, loop: Refreshing) -> None:
        """Put a loop in the line, unless it stands there."""
        with self._changed:
            self._line.setdefault(loop, 0.0)
            self._changed.notify()

    def forget(self, loop: Refreshing) -> None:
        with self._changed:
            self._line.pop(loop, None)

    def trouble(self) -> str:
        """That a refresh hangs, and since when; empty if none does."""
        since = self._working_since
        working_s = 0.0 if since is None else time.monotonic() - since
        if working_s < self._hang_timeout_s:
            return ""
        return (
            f"one refresh of System 2 has taken {working_s:.3g} s so far, more than {self._hang_timeout_s:g} s; a "
            "thread cannot be killed, so conditions grow old. Start the program again, or run System 2 in a process"
        )

    def close(self, wait_s: float = CLOSE_S) -> bool:
        """End the thread, after the refresh it is in; returns whether it has ended. One that hangs is left behind, and
        ends with the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        wait_s = min(wait_s, self._hang_timeout_s)
        self._thread.join(wait_s)
        if self._thread.is_alive():
            log.error("System 2's thread did not end within %g s; a refresh hangs in it", wait_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (loop := self._next()) is not None:
            self._working_since = time.monotonic()
            try:
                self.num_refreshes += loop.refresh(self._system)
            except Exception as error:  # noqa: BLE001 - the loop reports it, and the other loops' turn comes
                self.num_failures += 1
                self._let_wait(loop, loop.failed(error))
            self._working_since = None

    def _let_wait(self, loop: Refreshing, pause_s: float) -> None:
        """Also where the loop has asked again while its refresh failed."""
        with self._changed:
            self._line.pop(loop, None)
            if math.isfinite(pause_s):
                self._line[loop] = time.monotonic() + pause_s

    def _next(self) -> Refreshing | None:
        """Take the next loop from the line; None when the worker is closed."""
        with self._changed:
            while not self._is_closed:
                now = time.monotonic()
                for loop, not_before in self._line.items():
                    if not_before <= now:
                        del self._line[loop]
                        return loop
                self._changed.wait(min(self._line.values()) - now if self._line else None)
        return None
