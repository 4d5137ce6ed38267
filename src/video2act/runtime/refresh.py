"""One refresh of System 2, and the rule that says when the next one is due: the same in the control loop, a thread or a process.

System 2 starts at most once in `refresh_every` control steps, on the newest frame there is; what was observed in between
goes into its history and is never worked off one by one.
"""

import threading
import time
import weakref
from dataclasses import dataclass

import torch

from video2act.clips import FrameHistory
from video2act.config import StreamConfig
from video2act.interfaces import HoldError, Perceiver
from video2act.runtime.frame_ring import Frame, FrameRing
from video2act.types import Tokens, Video, VideoCondition


def check_refresh_every(refresh_every: int) -> None:
    if refresh_every < 1:
        raise ValueError(
            f"refresh_every counts control steps between two refreshes of System 2: at least 1, got {refresh_every}"
        )


@dataclass(frozen=True)
class Refreshed:
    """What one refresh understood, of which frame, and what it took."""

    tokens: Tokens
    observed_at: float
    episode: int
    duration_s: float

    def condition(self, version: int) -> VideoCondition:
        return VideoCondition(self.tokens, self.observed_at, self.episode, version)


TURN_TIMEOUT_S = 10.0
_turns: dict[int, threading.Lock] = {}
"""by `id`: a network that is tapped is run by one thread at a time, and a stale condition may be refreshed beside a thread"""


def perceive(system: Perceiver, clips: dict[str, Video], *, newest: Frame) -> Refreshed:
    """One refresh: the clips that end at `newest` -> tokens.

    Raises:
        HoldError: another thread has been at a refresh of this System 2 for too long.
    """
    turn = _turns.get(id(system))
    if turn is None:
        turn = _turns.setdefault(id(system), threading.Lock())
        weakref.finalize(system, _turns.pop, id(system), None)
    if not turn.acquire(timeout=TURN_TIMEOUT_S):
        raise HoldError(f"System 2 has been at another refresh for more than {TURN_TIMEOUT_S:g} s")
    try:
        return _perceive(system, clips, newest=newest)
    finally:
        turn.release()


def _perceive(system: Perceiver, clips: dict[str, Video], *, newest: Frame) -> Refreshed:
    started = time.perf_counter()
    with torch.no_grad():  # gradient mode belongs to a thread: the caller's does not reach a worker
        tokens = system.perceive(clips, [newest.observation.instruction])
    if tokens.data.is_cuda:
        # kernels are only queued so far: a published condition is a finished one, and the duration is a real one
        torch.cuda.current_stream(tokens.data.device).synchronize()
    return Refreshed(tokens, newest.observation.time, newest.episode, time.perf_counter() - started)


class Refresher:
    """Follows the frames in a ring and refreshes whenever that is due. Lives where System 2 works."""

    def __init__(self, system: Perceiver, streams: tuple[StreamConfig, ...], *, refresh_every: int, control_fps: float):
        check_refresh_every(refresh_every)
        self._system = system
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._history = FrameHistory(streams)
        self._span = self._history.span
        self._ring: FrameRing | None = None
        self._next_ticket = 0
        self._episode = -1
        self._next_refresh = 0

    def work(self, ring: FrameRing) -> Refreshed | None:
        """Take in the frames that came since, and refresh if that is due; None if it is not.

        What fails stays due: the next call tries again, on the newest frame of then.
        """
        if ring is not self._ring:  # frames are numbered anew
            self._ring, self._next_ticket = ring, 0
        newest = self._catch_up(ring)
        if newest is None or newest.control_step < self._next_refresh:
            return None
        refreshed = perceive(self._system, self._history.clips(self._control_fps), newest=newest)
        self._next_refresh = newest.control_step + self._refresh_every
        return refreshed

    def _catch_up(self, ring: FrameRing) -> Frame | None:
        """The newest frame, with all that a clip needs in the history. What lies further back than any clip is skipped.

        Raises:
            RuntimeError: an encoder that must see all of an episode has fallen further behind than the ring reaches.
        """
        newest, frame = ring.newest, None
        if newest < self._next_ticket:  # nothing came since
            return ring.read(newest) if newest >= 0 else None
        last = ring.read(newest)
        if last is None:  # overwritten meanwhile
            return self._catch_up(ring)
        first = max(self._next_ticket, newest - self._span + 1, newest - last.control_step)
        if newest - first >= ring.layout.capacity:
            raise RuntimeError(
                f"System 2 is {newest - first + 1} frames behind and the ring holds {ring.layout.capacity}, but its encoder "
                "(encoding='stream') must see all of an episode: run it inline, or train with encoding='window'"
            )
        for ticket in range(first, newest + 1):
            frame = ring.read(ticket)
            if frame is None:  # overwritten meanwhile: begin again with what is newest now
                return self._catch_up(ring)
            if frame.episode != self._episode:
                self._history.reset()
                self._episode, self._next_refresh = frame.episode, 0
            self._history.append(frame.observation)
            self._next_ticket = ticket + 1
        return frame
