"""One System 2 for many episodes at once: a server has one device, and every client has an episode.

A single worker thread refreshes those that are due, in turn. An episode waits in line at most once. When its turn
comes, its newest frame is used: there is no backlog, and no client starves another. Every episode has a slow loop with
its own frames and conditions.
"""

import logging
import threading
import time
from collections import deque

from video2act.clips import FrameHistory
from video2act.incidents import Incidents
from video2act.interfaces import Perceiver, System2Error
from video2act.refresh_rule import ATTEMPTS, Frame, RefreshRule, RefreshSpec, pause_s
from video2act.runtime.refresh import TIMES_KEPT, perceive
from video2act.types import Observation, Video, VideoCondition

log = logging.getLogger(__name__)
CLOSE_S = 1.0
"""for a refresh in progress, when a server stops"""


class SharedSystem2:
    """The worker, and the line before it. Every client takes a slow loop from `new_loop`.

    Args:
        first_condition_timeout_s: bounds the wait for the first condition of an episode.
        hang_timeout_s: a refresh that takes longer is reported.
    """

    def __init__(
        self,
        system: Perceiver,
        spec: RefreshSpec,
        *,
        first_condition_timeout_s: float = 60.0,
        hang_timeout_s: float = 10.0,
    ):
        self.num_refreshes = 0
        self.num_failures = 0
        self._system = system
        self._spec = spec
        self._timeout_s = first_condition_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._working_since: float | None = None
        self._logged: float | None = None
        """the refresh whose hang is in the log"""
        self._changed = threading.Condition()
        self._line: deque[SharedSlowLoop] = deque()
        self._is_closed = False
        self._worker = threading.Thread(target=self._work, name="system2", daemon=True)
        self._worker.start()

    def new_loop(self) -> "SharedSlowLoop":
        return SharedSlowLoop(self, self._spec, first_condition_timeout_s=self._timeout_s)

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
        limit_s = self._hang_timeout_s
        problem = f"one refresh of System 2 has taken {working_s:.0f} s so far, more than {limit_s:g} s: it hangs"
        if since != self._logged:
            self._logged = since
            log.error("%s. Conditions grow old; restart the server", problem)
        return problem

    def close(self) -> None:
        """End the worker, after the refresh it is in. One that hangs is left behind, and ends with the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        wait_s = min(self._hang_timeout_s, CLOSE_S)
        self._worker.join(wait_s)
        if self._worker.is_alive():
            log.error("System 2's thread did not end within %g s; a refresh hangs in it", wait_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._line or self._is_closed)
                if self._is_closed:
                    return
                loop = self._line.popleft()
            self._working_since = time.monotonic()
            try:
                self.num_refreshes += loop.refresh(self._system)
            except Exception as error:  # whatever it is: its client must learn of it, and the other clients' turn comes
                log.exception("System 2 failed")
                self.num_failures += 1
                loop.failed(error)
            self._working_since = None


class SharedSlowLoop:
    """The slow loop of one client. It waits for the first condition of an episode and for nothing after it."""

    def __init__(self, shared: SharedSystem2, spec: RefreshSpec, *, first_condition_timeout_s: float):
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.incidents = Incidents()
        self._shared = shared
        self._spec = spec
        self._timeout_s = first_condition_timeout_s
        self._changed = threading.Condition()
        self._history = FrameHistory(spec.streams)
        self._rule = RefreshRule(spec.refresh_every)
        self._newest: Frame | None = None
        self._episode = -1
        self._in_work = -1
        """episode that the worker refreshes"""
        self._condition: VideoCondition | None = None
        self._version = 0
        self._failures: list[Exception] = []
        """in a row, in this episode"""
        self._retry_at = 0.0
        self._is_in_trouble = False

    def reset(self, episode: int) -> None:
        with self._changed:
            self._history.reset()
            self._episode = episode
            self._version = 0
            self._newest = self._condition = None
            self._failures, self._retry_at = [], 0.0

    def observe(self, observation: Observation) -> None:
        with self._changed:
            self._history.append(observation)
            control_step = 0 if self._newest is None else self._newest.control_step + 1
            self._newest = Frame(observation, self._episode, control_step)
            is_due = self._is_due()
        if is_due:
            self._shared.ask_for_refresh(self)
        trouble = self._shared.trouble()
        if trouble and not self._is_in_trouble:
            self.incidents.note("system2_hangs", trouble)
        self._is_in_trouble = bool(trouble)

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only.

        Raises:
            RuntimeError: no frame was observed.
            System2Error: System 2 failed three times in a row before the first condition.
            TimeoutError: the first condition of the episode did not come.
        """
        end = time.monotonic() + self._timeout_s
        with self._changed:
            if self._newest is None:
                raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
            while self._condition is None:
                if len(self._failures) >= ATTEMPTS:
                    error = self._failures[-1]
                    raise System2Error(f"System 2 failed {ATTEMPTS} times in a row: {error}") from error
                now = time.monotonic()
                if now >= end:
                    raise TimeoutError(
                        f"System 2 gave no condition for episode {self._episode} within {self._timeout_s} s; it "
                        f"hangs, serves "
                        "too many clients, or its first call is slower than that: raise first_condition_timeout_s"
                    )
                if self._failures and now >= self._retry_at:
                    # a blocked client sends no frames, so it is queued again here
                    self._shared.ask_for_refresh(self)
                    self._changed.wait(end - now)
                else:
                    self._changed.wait(min(end, self._retry_at or end) - now)
            return self._condition

    def clips(self) -> dict[str, Video]:
        with self._changed:
            return self._history.clips(self._spec.control_fps)

    def close(self) -> None:
        """The worker stays; a refresh that it still makes for this loop is dropped."""
        self.reset(-1)

    # the worker's thread

    def refresh(self, system: Perceiver) -> bool:
        """Refresh on the newest frame, if that is still due; returns whether it was. Raises what System 2 raises."""
        with self._changed:
            newest = self._newest
            if newest is None or not self._is_due():
                return False  # a new episode has begun, or a refresh was made, while this loop stood in line
            self._in_work = newest.episode
            clips = self._history.clips(self._spec.control_fps)
        refreshed = perceive(system, clips, newest=newest)
        with self._changed:
            self.perceive_s.append(refreshed.duration_s)
            if newest.episode == self._episode:
                self._rule = self._rule.after(newest)
                self._version += 1
                self._condition = refreshed.condition(self._version)
                self._failures, self._retry_at = [], 0.0
                self._changed.notify_all()
        return True

    def failed(self, error: Exception) -> None:
        self.incidents.note("system2_failed", f"System 2 failed: {type(error).__name__}: {error}")
        with self._changed:
            if self._in_work == self._episode:
                self._failures = [*self._failures, error]
                self._retry_at = time.monotonic() + pause_s(len(self._failures))
                self._changed.notify_all()

    def _is_due(self) -> bool:
        return self._newest is not None and self._rule.is_due(self._newest) and time.monotonic() >= self._retry_at
