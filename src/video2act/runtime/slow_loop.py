"""How System 2 keeps up with an episode: inside the control loop at fixed control steps, or beside it in a thread.

All loops mean the same by `refresh_every`: System 2 starts at most once in that many control steps.

- `InlineSlowLoop` refreshes exactly at control steps 0, n, 2n, ... and lets the robot wait. It is deterministic: use it to score.
- `ThreadSlowLoop` refreshes in a worker thread that always takes the newest frame. It shares Python's lock and the cores with the
  control loop, which feels it; a thread that hangs cannot be ended.
- `ProcessSlowLoop` (`process_loop.py`) gives it a process, and a device, of its own.
- `VirtualSlowLoop` (`virtual_clock.py`) computes inline and delivers late, on the simulator's clock.

An episode has a number, and so has everything made from its frames: what carries another number is refused, so a reset has
nothing to clear by hand. A policy without System 2 has no streams, and its `perceive({}, ...)` returns zero tokens; every loop
serves it.
"""

import threading
import time
import traceback
from typing import Protocol, runtime_checkable

from video2act.clips import FrameHistory
from video2act.config import StreamConfig
from video2act.interfaces import Perceiver
from video2act.runtime.background import BackgroundSlowLoop
from video2act.runtime.frame_ring import Frame
from video2act.runtime.refresh import Refresher, check_refresh_every, perceive
from video2act.types import Observation, VideoCondition


@runtime_checkable
class SlowLoop(Protocol):
    """Feeds System 2 with frames and answers what it last understood."""

    perceive_s: list[float]
    """seconds that every refresh took, over all episodes"""
    incidents: list[str]
    """one line for every failure of System 2 that was noticed"""

    def reset(self, episode: int) -> None:
        """Episode number `episode` begins; conditions of earlier ones are refused from now on. Numbers count up."""
        ...

    def observe(self, observation: Observation) -> None:
        """Called exactly once per control step: the history needs every frame, whether or not a refresh follows."""
        ...

    def condition(self, observation: Observation) -> VideoCondition:
        """What System 2 last understood of the running episode.

        A loop beside the control loop waits for the first condition of an episode, within bounds, and never again; when
        System 2 fails later, it keeps answering the last one.
        """
        ...

    def close(self) -> None: ...


class InlineSlowLoop:
    """System 2 runs in the control loop, at control steps 0, n, 2n, ... of each episode. Its errors are the caller's."""

    def __init__(self, system: Perceiver, streams: tuple[StreamConfig, ...], *, refresh_every: int, control_fps: float):
        check_refresh_every(refresh_every)
        self.perceive_s: list[float] = []
        self.incidents: list[str] = []
        self._system = system
        self._history = FrameHistory(streams)
        self._refresh_every = refresh_every
        self._control_fps = control_fps
        self._episode = -1
        self._control_step = 0
        self._num_conditions = 0
        self._condition: VideoCondition | None = None

    def reset(self, episode: int) -> None:
        self._history.reset()
        self._episode = episode
        self._control_step = 0
        self._num_conditions = 0
        self._condition = None

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        if self._control_step % self._refresh_every == 0:
            newest = Frame(observation, self._episode, self._control_step)
            refreshed = perceive(self._system, self._history.clips(self._control_fps), newest=newest)
            self.perceive_s.append(refreshed.duration_s)
            self._num_conditions += 1
            self._condition = refreshed.condition(self._num_conditions)
        self._control_step += 1

    def condition(self, observation: Observation) -> VideoCondition:
        if self._condition is None:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        return self._condition

    def close(self) -> None:
        """Nothing to end."""


class ThreadSlowLoop(BackgroundSlowLoop):
    """System 2 runs in a thread of its own, on the newest frame whenever it is free.

    Args:
        first_condition_timeout_s: bounds the wait for the first condition of an episode; it covers a cold start.
        hang_timeout_s: a refresh that takes longer is reported. It cannot be ended: a thread cannot be killed.
    """

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
        super().__init__(
            "thread", streams, first_condition_timeout_s=first_condition_timeout_s, hang_timeout_s=hang_timeout_s
        )
        self._refresher = Refresher(system, streams, refresh_every=refresh_every, control_fps=control_fps)
        self._frame_has_come = threading.Event()
        self._working_since: float | None = None
        self._worker = threading.Thread(target=self._work, name="system2", daemon=True)
        self._worker.start()

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        since = self._working_since
        if since is not None and time.monotonic() - since > self._hang_timeout_s:
            self._working_since = None  # said once
            self._note(
                f"System 2 (thread): one refresh has taken more than {self._hang_timeout_s:g} s; a thread cannot be killed, so "
                "it goes on with the last condition. Run System 2 in a process to have it started again"
            )

    def close(self) -> None:
        """End the thread, after the refresh it is in. One that hangs is noted and left behind: it ends with the process."""
        self._closing.set()
        self._frame_has_come.set()
        self._worker.join(self._hang_timeout_s)
        if self._worker.is_alive():
            self._note(f"System 2 (thread): it did not end within {self._hang_timeout_s:g} s; a refresh hangs in it")

    def _wake(self) -> None:
        self._frame_has_come.set()

    def _work(self) -> None:
        while not self._closing.is_set():
            self._frame_has_come.wait()
            self._frame_has_come.clear()
            ring = self._ring
            if ring is None or self._closing.is_set():
                continue
            self._working_since = time.monotonic()
            try:
                refreshed = self._refresher.work(ring)
                if refreshed is not None:
                    self._publish(refreshed)
            except Exception as error:  # noqa: BLE001 - whatever it is, the control loop must learn of it: a thread cannot raise there
                self._closing.wait(self._failed(traceback.format_exc(), error))
                self._frame_has_come.set()
            finally:
                self._working_since = None
