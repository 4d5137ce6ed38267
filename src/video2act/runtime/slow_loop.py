"""How System 2 keeps up with an episode: beside the control loop in a thread, or inside it at fixed control steps.

Both loops mean the same by `refresh_every`: System 2 starts at most once in that many control steps.

- `InlineSlowLoop` refreshes exactly at control steps 0, n, 2n, ... and lets the robot wait. It is deterministic: use it to score.
- `ThreadSlowLoop` refreshes in a worker thread that always takes the newest frame. The robot waits for the first condition of an
  episode and never again. The frames travel through a queue to the thread and the history lives there, so that no lock is held
  while System 2 works; a worker process or a remote machine can take the thread's place with the same messages.

An episode has a number, and so has everything made from its frames: what carries another number is refused, so a reset has
nothing to clear by hand. A policy without System 2 has no streams, and its `perceive({}, ...)` returns zero tokens; either loop
serves it.
"""

import threading
import time
import traceback
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Protocol, runtime_checkable

import torch

from video2act.clips import FrameHistory
from video2act.config import StreamConfig
from video2act.interfaces import DualSystem
from video2act.runtime.latest import Latest
from video2act.types import Observation, VideoCondition


@runtime_checkable
class SlowLoop(Protocol):
    """Feeds System 2 with frames and answers what it last understood."""

    perceive_s: list[float]
    """seconds that every refresh took, over all episodes"""

    def reset(self, episode: int) -> None:
        """Episode number `episode` begins; conditions of earlier ones are refused from now on."""
        ...

    def observe(self, observation: Observation) -> None:
        """Called exactly once per control step: the history needs every frame, whether or not a refresh follows."""
        ...

    def condition(self, observation: Observation) -> VideoCondition:
        """What System 2 last understood of the running episode."""
        ...

    def close(self) -> None: ...


def perceive(
    system: DualSystem, history: FrameHistory, control_fps: float, newest: Observation, episode: int, perceive_s: list[float]
) -> VideoCondition:
    """One refresh: the clips that end at `newest` -> a stamped condition. Appends its duration to `perceive_s`."""
    started = time.perf_counter()
    with torch.no_grad():  # gradient mode belongs to a thread: the caller's does not reach a worker
        tokens = system.perceive(history.clips(control_fps), [newest.instruction])
    if tokens.data.is_cuda:
        # kernels are only queued so far: a published condition is a finished one, and the duration is a real one
        torch.cuda.current_stream(tokens.data.device).synchronize()
    perceive_s.append(time.perf_counter() - started)
    return VideoCondition(tokens, observed_at=newest.time, episode=episode)


def check_refresh_every(refresh_every: int) -> None:
    if refresh_every < 1:
        raise ValueError(f"refresh_every counts control steps between two refreshes of System 2: at least 1, got {refresh_every}")


class InlineSlowLoop:
    """System 2 runs in the control loop, at control steps 0, n, 2n, ... of each episode."""

    def __init__(self, system: DualSystem, streams: tuple[StreamConfig, ...], refresh_every: int, control_fps: float):
        check_refresh_every(refresh_every)
        self.perceive_s: list[float] = []
        self._system = system
        self._history = FrameHistory(streams)
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._episode = -1
        self._control_step = 0
        self._condition: VideoCondition | None = None

    def reset(self, episode: int) -> None:
        self._history.reset()
        self._episode = episode
        self._control_step = 0
        self._condition = None

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        if self._control_step % self._refresh_every == 0:
            self._condition = perceive(
                self._system, self._history, self._control_fps, observation, self._episode, self.perceive_s
            )
        self._control_step += 1

    def condition(self, observation: Observation) -> VideoCondition:
        if self._condition is None:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        return self._condition

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class _Frame:
    """What the control loop sends to the worker at every control step."""

    observation: Observation
    episode: int
    control_step: int


@dataclass(frozen=True)
class _Failure:
    """What the worker sends instead of a condition when System 2 raised."""

    error: Exception
    trace: str


class ThreadSlowLoop:
    """System 2 runs in a thread of its own, on the newest frame whenever it is free."""

    def __init__(
        self,
        system: DualSystem,
        streams: tuple[StreamConfig, ...],
        refresh_every: int,
        control_fps: float,
        first_condition_timeout_s: float = 60.0,
    ):
        """`first_condition_timeout_s` bounds the one wait there is; it covers a cold start, and ends a hang."""
        check_refresh_every(refresh_every)
        self.perceive_s: list[float] = []
        self._system = system
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._timeout_s = first_condition_timeout_s
        self._episode = -1
        self._control_step = 0
        self._inbox: SimpleQueue[_Frame | None] = SimpleQueue()
        self._outbox: Latest[VideoCondition | _Failure] = Latest()
        self._worker = threading.Thread(target=self._work, args=(streams,), name="system2", daemon=True)
        self._worker.start()

    def reset(self, episode: int) -> None:
        self._episode = episode
        self._control_step = 0

    def observe(self, observation: Observation) -> None:
        self._inbox.put(_Frame(observation, self._episode, self._control_step))
        self._control_step += 1

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only.

        Raises:
            RuntimeError: System 2 failed in its thread (the cause carries its traceback), or `observe` was not called.
            TimeoutError: the first condition of the episode did not come.
        """
        if self._control_step == 0:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        episode = self._episode
        # what a refresh that began before the reset still publishes carries the old number, and is passed over here
        message = self._outbox.wait(lambda sent: isinstance(sent, _Failure) or sent.episode == episode, self._timeout_s)
        if message is None:
            raise TimeoutError(
                f"System 2 gave no condition for episode {episode} within {self._timeout_s} s; "
                "it hangs, or its first call is slower than that: raise first_condition_timeout_s"
            )
        if isinstance(message, _Failure):
            raise RuntimeError(f"System 2 failed in its thread and has stopped:\n{message.trace}") from message.error
        return message

    def close(self) -> None:
        """End the thread, after the refresh it is in.

        Raises:
            TimeoutError: that refresh does not end.
        """
        self._inbox.put(None)
        self._worker.join(self._timeout_s)
        if self._worker.is_alive():
            raise TimeoutError(f"System 2's thread did not end within {self._timeout_s} s; a refresh hangs in it")

    def _work(self, streams: tuple[StreamConfig, ...]) -> None:
        try:
            self._refresh_until_closed(FrameHistory(streams))
        except Exception as error:  # noqa: BLE001 - whatever it is, the control loop must learn of it: a thread cannot raise there
            self._outbox.put(_Failure(error, traceback.format_exc()))

    def _refresh_until_closed(self, history: FrameHistory) -> None:
        episode, next_refresh = -1, 0
        while True:
            frames = self._wait_for_frames()
            for frame in frames:
                if frame is None:
                    return
                if frame.episode != episode:
                    history.reset()
                    episode, next_refresh = frame.episode, 0
                history.append(frame.observation)
            newest = frames[-1]
            if newest is not None and newest.control_step >= next_refresh:
                next_refresh = newest.control_step + self._refresh_every
                self._outbox.put(perceive(self._system, history, self._control_fps, newest.observation, episode, self.perceive_s))

    def _wait_for_frames(self) -> list[_Frame | None]:
        """At least one frame, and with it all that piled up during the last refresh."""
        frames = [self._inbox.get()]
        while True:
            try:
                frames.append(self._inbox.get_nowait())
            except Empty:
                return frames
