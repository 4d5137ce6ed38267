"""One refresh of System 2, wherever it works: one thread at a time, timed, on the clips that end at one frame."""

import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from video2act.clips import FrameHistory
from video2act.interfaces import HoldError, Perceiver
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.types import Observation, Tokens, Video, VideoCondition


@dataclass(frozen=True)
class Refreshed:
    """The result of one refresh."""

    tokens: Tokens
    observed_at: float
    episode: int
    duration_s: float
    lag_s: float

    def condition(self, version: int) -> VideoCondition:
        return VideoCondition(self.tokens, self.observed_at, self.episode, version, self.lag_s)


TIMES_KEPT = 10_000
"""measured durations, the newest: a robot or a server may run for months"""

TURN_TIMEOUT_S = 10.0
_turns: dict[int, threading.Lock] = {}
"""by `id`"""


@contextmanager
def turn(system: Perceiver, timeout_s: float | None = None) -> Iterator[None]:
    """Let one thread at a time run a System 2.

    Args:
        timeout_s: longest wait; None: `TURN_TIMEOUT_S`.
    Raises:
        HoldError: others are at it for longer.
    """
    lock = _turns.get(id(system))
    if lock is None:
        lock = _turns.setdefault(id(system), threading.Lock())
        weakref.finalize(system, _turns.pop, id(system), None)
    timeout_s = TURN_TIMEOUT_S if timeout_s is None else timeout_s
    if not lock.acquire(timeout=timeout_s):
        raise HoldError(f"System 2 has been at another refresh for more than {timeout_s:g} s", "system2_busy")
    try:
        yield
    finally:
        lock.release()


def perceive(system: Perceiver, clips: dict[str, Video], *, newest: Frame, lag_s: float) -> Refreshed:
    """One refresh: the clips of the moment of `newest` -> tokens. Raises HoldError as `turn`.

    Args:
        lag_s: of the clips (`FrameHistory.lag_s`).
    """
    with turn(system):
        started = time.perf_counter()
        torch = sys.modules.get("torch")  # without it in memory, no system of this process has tensors
        with torch.no_grad() if torch else nullcontext():  # a thread has a gradient mode of its own
            tokens = system.perceive(clips, [newest.observation.instruction])
        if torch and getattr(tokens.data, "is_cuda", False):
            # kernels are only queued so far: others must see a finished condition, and the duration must be real
            torch.cuda.current_stream(tokens.data.device).synchronize()
        duration_s = time.perf_counter() - started
        return Refreshed(tokens, newest.observation.time, newest.episode, duration_s, lag_s)


def warm_up(system: Perceiver, spec: RefreshSpec, *, instruction: str) -> Refreshed:
    """One refresh on black frames: the first one of a process is many times slower than the others."""
    sides: dict[str, int] = {}
    for stream in spec.streams:
        sides[stream.camera] = max(sides.get(stream.camera, 0), *stream.frame_px)
    images = {camera: np.zeros((side, side, 3), np.uint8) for camera, side in sides.items()}
    black = Observation(images, np.zeros(0, np.float32), instruction, time=0.0)
    history = FrameHistory(spec.streams)
    history.append(black)
    newest = Frame(black, episode=-1, control_step=0)
    return perceive(system, history.clips(spec.control_fps), newest=newest, lag_s=history.lag_s)
