"""One refresh of System 2, and how a worker follows the frames: the same in a thread and in a process.

A refresh uses the newest frame. Frames between two refreshes go into the history only.
"""

import threading
import time
import weakref
from dataclasses import dataclass

import numpy as np
import torch

from video2act.clips import FrameHistory
from video2act.interfaces import HoldError, Perceiver
from video2act.refresh_rule import Frame, RefreshRule, RefreshSpec
from video2act.runtime.frame_ring import NO_STATE, FrameRing
from video2act.types import Observation, Tokens, Video, VideoCondition


@dataclass(frozen=True)
class Refreshed:
    """The result of one refresh."""

    tokens: Tokens
    observed_at: float
    episode: int
    duration_s: float

    def condition(self, version: int) -> VideoCondition:
        return VideoCondition(self.tokens, self.observed_at, self.episode, version)


TIMES_KEPT = 10_000
"""measured durations, the newest: a robot or a server may run for months"""

TURN_TIMEOUT_S = 10.0
_turns: dict[int, threading.Lock] = {}
"""by `id`: one thread at a time runs a network. Clients of a server share one, and a stale condition is refreshed
beside a thread"""


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
        raise HoldError(f"System 2 has been at another refresh for more than {TURN_TIMEOUT_S:g} s", "system2_busy")
    try:
        return _perceive(system, clips, newest=newest)
    finally:
        turn.release()


def _perceive(system: Perceiver, clips: dict[str, Video], *, newest: Frame) -> Refreshed:
    started = time.perf_counter()
    with torch.no_grad():  # gradient mode belongs to a thread: the caller's does not reach a worker
        tokens = system.perceive(clips, [newest.observation.instruction])
    if tokens.data.is_cuda:
        # kernels are only queued so far: others must see a finished condition, and the duration must be real
        torch.cuda.current_stream(tokens.data.device).synchronize()
    return Refreshed(tokens, newest.observation.time, newest.episode, time.perf_counter() - started)


def warm_up(system: Perceiver, spec: RefreshSpec, *, instruction: str) -> Refreshed:
    """One refresh on black frames: the first one of a process is many times slower than the others."""
    sides: dict[str, int] = {}
    for stream in spec.streams:
        sides[stream.camera] = max(sides.get(stream.camera, 0), *stream.frame_px)
    images = {camera: np.zeros((side, side, 3), np.uint8) for camera, side in sides.items()}
    black = Observation(images, NO_STATE, instruction, time=0.0)
    history = FrameHistory(spec.streams)
    history.append(black)
    return perceive(system, history.clips(spec.control_fps), newest=Frame(black, episode=-1, control_step=0))


class RingReader:
    """A history that follows the frames in a ring."""

    def __init__(self, spec: RefreshSpec):
        self._control_fps = spec.control_fps
        self._history = FrameHistory(spec.streams)
        self._ring: FrameRing | None = None
        self._next_ticket = 0
        self._episode = -1

    def clips(self) -> dict[str, Video]:
        """The clips that end at the frame that `catch_up` returned."""
        return self._history.clips(self._control_fps)

    def catch_up(self, ring: FrameRing) -> Frame | None:
        """The newest frame, with all that a clip needs in the history. Frames older than any clip are skipped.

        Raises:
            RuntimeError: an encoder that needs the whole episode is further behind than the ring reaches.
        """
        if ring is not self._ring:  # frames are numbered anew
            self._ring, self._next_ticket = ring, 0
        newest, frame = ring.newest, None
        if newest < self._next_ticket:  # nothing new
            return ring.read(newest) if newest >= 0 else None
        last = ring.read(newest)
        if last is None:  # overwritten meanwhile
            return self.catch_up(ring)
        oldest = 0 if self._history.needs_every_frame else newest - self._history.span + 1
        first = max(self._next_ticket, oldest, newest - last.control_step)
        if newest - first >= ring.layout.capacity:
            raise RuntimeError(
                f"System 2 is {newest - first + 1} frames behind and the ring holds {ring.layout.capacity}, but its "
                f"encoder "
                "(encoding='stream') must see all of an episode: run it inline, or train with encoding='window'"
            )
        for ticket in range(first, newest + 1):
            frame = ring.read(ticket)
            if frame is None:  # overwritten meanwhile: begin again with what is newest now
                return self.catch_up(ring)
            if frame.episode != self._episode:
                self._history.reset()
                self._episode = frame.episode
            self._history.append(frame.observation, control_step=frame.control_step)
            self._next_ticket = ticket + 1
        return frame


class Refresher:
    """Follows the frames in a ring and refreshes when that is due. Lives where System 2 works."""

    def __init__(self, system: Perceiver, spec: RefreshSpec):
        self._system = system
        self._rule = RefreshRule(spec.refresh_every)
        self._reader = RingReader(spec)

    def work(self, ring: FrameRing) -> Refreshed | None:
        """Take in the new frames, and refresh if that is due; None if it is not. Raises as `RingReader.catch_up`."""
        newest = self._reader.catch_up(ring)
        if newest is None or not self._rule.is_due(newest):
            return None
        refreshed = perceive(self._system, self._reader.clips(), newest=newest)
        self._rule = self._rule.after(newest)
        return refreshed
