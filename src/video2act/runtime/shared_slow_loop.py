"""One System 2 for many episodes at once: what a server needs, where every client has an episode and there is one device.

A single worker thread refreshes whoever is due, in turn. An episode waits in line at most once, and when its turn comes it is
seen as it is then: newest observation first, no backlog, and no client starves another. Apart from the line, every episode has
a slow loop of its own, with its own frames and conditions.
"""

import logging
import threading
import time
from collections import deque
from typing import Any

from video2act.clips import FrameHistory
from video2act.config import StreamConfig
from video2act.interfaces import Perceiver, System2Error
from video2act.runtime.frame_ring import Frame
from video2act.runtime.refresh import check_refresh_every, perceive
from video2act.types import Observation, VideoCondition

log = logging.getLogger(__name__)
ATTEMPTS = 3
"""failures in a row before the first condition of an episode is given up"""
KEPT = 1000
"""durations and incidents kept of an episode: a server may run for months"""


class SharedSystem2:
    """The worker, and the line before it. Every client takes a slow loop from `new_loop`."""

    def __init__(
        self,
        system: Perceiver,
        streams: tuple[StreamConfig, ...],
        *,
        refresh_every: int,
        control_fps: float,
        first_condition_timeout_s: float = 60.0,
        hang_timeout_s: float = 10.0,
    ):
        check_refresh_every(refresh_every)
        self.num_refreshes = 0
        self.num_failures = 0
        self._system = system
        self._streams = streams
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._timeout_s = first_condition_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._working_since: float | None = None
        self._told_of: float | None = None
        """the refresh whose hang is in the log"""
        self._changed = threading.Condition()
        self._line: deque[SharedSlowLoop] = deque()
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="system2", daemon=True)
        self._worker.start()

    def new_loop(self) -> "SharedSlowLoop":
        return SharedSlowLoop(
            self,
            self._streams,
            refresh_every=self._refresh_every,
            control_fps=self._control_fps,
            first_condition_timeout_s=self._timeout_s,
        )

    def ask_for_refresh(self, loop: "SharedSlowLoop") -> None:
        """Put a loop in the line, unless it stands there."""
        with self._changed:
            if loop not in self._line:
                self._line.append(loop)
                self._changed.notify()

    def trouble(self) -> str:
        """That a refresh hangs, and since when; empty if none does."""
        since = self._working_since
        working_s = 0.0 if since is None else time.monotonic() - since
        if working_s < self._hang_timeout_s:
            return ""
        told = f"one refresh of System 2 has taken {working_s:.0f} s so far, more than {self._hang_timeout_s:g} s: it hangs"
        if since != self._told_of:
            self._told_of = since
            log.error("%s. Conditions grow old; restart the server", told)
        return told

    def close(self) -> None:
        """End the worker, after the refresh it is in; one that hangs is left behind, and ends with the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._worker.join(self._hang_timeout_s)
        if self._worker.is_alive():
            log.error("System 2's thread did not end within %g s; a refresh hangs in it", self._hang_timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._is_closed)
                if self._is_closed:
                    return
                loop = self._line.popleft()
            self._working_since = time.monotonic()
            if loop.refresh(self._system):
                self.num_refreshes += 1
            else:
                self.num_failures += 1
            self._working_since = None


class SharedSlowLoop:
    """The slow loop of one client. Waits for the first condition of an episode and for nothing after it."""

    def __init__(
        self,
        shared: SharedSystem2,
        streams: tuple[StreamConfig, ...],
        *,
        refresh_every: int,
        control_fps: float,
        first_condition_timeout_s: float,
    ):
        self.perceive_s: list[float] = []
        self.incidents: list[str] = []
        self._shared = shared
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._timeout_s = first_condition_timeout_s
        self._changed = threading.Condition()
        self._history = FrameHistory(streams)
        self._newest: Observation | None = None
        self._episode = -1
        self._control_step = 0
        self._next_refresh = 0
        self._condition: VideoCondition | None = None
        self._version = 0
        self._failures: list[Exception] = []
        """in a row, in this episode"""
        self._is_in_trouble = False

    def reset(self, episode: int) -> None:
        with self._changed:
            self._history.reset()
            self._episode = episode
            self._control_step = self._next_refresh = self._version = 0
            self._newest = self._condition = None
            self._failures = []

    def observe(self, observation: Observation) -> None:
        with self._changed:
            self._history.append(observation)
            self._newest = observation
            is_due = self._control_step >= self._next_refresh
            self._control_step += 1
        if is_due:
            self._shared.ask_for_refresh(self)
        trouble = self._shared.trouble()
        if trouble and not self._is_in_trouble:
            keep(self.incidents, trouble)
        self._is_in_trouble = bool(trouble)

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only.

        Raises:
            RuntimeError: no frame was observed.
            System2Error: System 2 failed three times in a row before the first condition.
            TimeoutError: the first condition of the episode did not come.
        """
        with self._changed:
            if self._newest is None:
                raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
            is_over = self._changed.wait_for(
                lambda: self._condition is not None or len(self._failures) >= ATTEMPTS, self._timeout_s
            )
            condition, failures = self._condition, self._failures
        if condition is not None:
            return condition
        if is_over:
            raise System2Error(f"System 2 failed {ATTEMPTS} times in a row: {failures[-1]}") from failures[-1]
        raise TimeoutError(
            f"System 2 gave no condition for episode {self._episode} within {self._timeout_s} s; it hangs, serves too many "
            "clients, or its first call is slower than that: raise first_condition_timeout_s"
        )

    def close(self) -> None:
        """The worker is not this loop's to end; what it still does for it is dropped."""
        with self._changed:
            self._episode = -1

    def refresh(self, system: Perceiver) -> bool:
        """Called by the worker when this loop's turn has come: look at what is newest now. Returns whether it went well."""
        with self._changed:
            newest, episode, control_step = self._newest, self._episode, self._control_step
            if newest is None or episode < 0:
                return True  # a new episode began while this one stood in line
            clips = self._history.clips(self._control_fps)
            self._next_refresh = control_step - 1 + self._refresh_every
        try:
            refreshed = perceive(system, clips, newest=Frame(newest, episode, control_step))
        except Exception as error:  # whatever it is: its client must learn of it, and the other clients' turn comes
            log.exception("System 2 failed")
            self._failed(error, episode)
            return False
        with self._changed:
            keep(self.perceive_s, refreshed.duration_s)
            self._version += 1
            if episode == self._episode:
                self._condition = VideoCondition(refreshed.tokens, refreshed.observed_at, episode, self._version)
                self._failures = []
                self._changed.notify_all()
        return True

    def _failed(self, error: Exception, episode: int) -> None:
        with self._changed:
            keep(self.incidents, f"System 2 failed: {type(error).__name__}: {error}")
            if episode != self._episode:
                return
            self._failures = [*self._failures, error][-ATTEMPTS:]
            is_awaited = self._condition is None and len(self._failures) < ATTEMPTS
            self._changed.notify_all()
        if is_awaited:  # who waits for a first condition observes nothing meanwhile, so nobody else would ask again
            self._shared.ask_for_refresh(self)


def keep(items: list[Any], item: Any) -> None:
    items.append(item)
    del items[:-KEPT]
