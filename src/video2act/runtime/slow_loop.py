"""How System 2 keeps up with an episode: inside the control loop at fixed control steps, or beside it in a thread.

All loops follow `refresh_rule.py`.

- `InlineSlowLoop` lets the robot wait. It is deterministic: use it to score.
- `ThreadSlowLoop` refreshes in a worker thread. It shares Python's lock and the cores with the control loop, which
  becomes slower. A thread that hangs cannot be ended.
- `ProcessSlowLoop` (`process_loop.py`) gives it a process, and a device, of its own.
- `VirtualSlowLoop` (`virtual_clock.py`) computes inline and delivers late, on the simulator's clock.

Episodes are numbered, and so is everything made from their frames. What carries another number is refused, so a reset
has nothing to clear by hand. A policy without System 2 has no streams, and its `perceive({}, ...)` returns zero tokens.
"""

import threading
import time
import traceback
from collections import deque
from typing import Protocol, runtime_checkable

from video2act.clips import FrameHistory
from video2act.incidents import Incidents
from video2act.interfaces import Perceiver
from video2act.refresh_rule import Frame, RefreshRule, RefreshSpec
from video2act.runtime.background import BackgroundSlowLoop
from video2act.runtime.refresh import TIMES_KEPT, Refresher, perceive
from video2act.types import Observation, Video, VideoCondition


@runtime_checkable
class SlowLoop(Protocol):
    """Feeds System 2 with frames, and answers with its newest condition."""

    perceive_s: deque[float]
    """seconds that each refresh took, over all episodes; the newest"""
    incidents: Incidents
    """failures of System 2 that were noticed"""

    def reset(self, episode: int) -> None:
        """Episode number `episode` begins; conditions of earlier ones are refused from now on. Numbers count up."""
        ...

    def observe(self, observation: Observation) -> None:
        """Called exactly once per control step: the history needs every frame, whether or not a refresh follows."""
        ...

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of the running episode.

        A loop beside the control loop waits for the first condition of an episode, within bounds, and never again; when
        System 2 fails later, it keeps answering the last one.
        """
        ...

    def clips(self) -> dict[str, Video]:
        """The clips that end at the newest frame that was observed."""
        ...

    def close(self) -> None: ...


class InlineSlowLoop:
    """System 2 runs in the control loop: without failures at control steps 0, n, 2n, ... of each episode.

    An error of System 2 is raised by `observe`. The refresh stays due at the next control step.
    """

    def __init__(self, system: Perceiver, spec: RefreshSpec):
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.incidents = Incidents()
        self._system = system
        self._spec = spec
        self._history = FrameHistory(spec.streams)
        self._begin(-1)

    def reset(self, episode: int) -> None:
        self._history.reset()
        self._begin(episode)

    def _begin(self, episode: int) -> None:
        self._episode = episode
        self._rule = RefreshRule(self._spec.refresh_every)
        self._control_step = 0
        self._num_conditions = 0
        self._condition: VideoCondition | None = None

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        frame = Frame(observation, self._episode, self._control_step)
        self._control_step += 1
        if self._rule.is_due(frame):
            self._condition = self._refresh(frame)

    def _refresh(self, frame: Frame) -> VideoCondition:
        refreshed = perceive(self._system, self.clips(), newest=frame)
        self._rule = self._rule.after(frame)
        self.perceive_s.append(refreshed.duration_s)
        self._num_conditions += 1
        return refreshed.condition(self._num_conditions)

    def condition(self, observation: Observation) -> VideoCondition:
        if self._condition is None:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        return self._condition

    def clips(self) -> dict[str, Video]:
        return self._history.clips(self._spec.control_fps)

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
        spec: RefreshSpec,
        *,
        first_condition_timeout_s: float = 60.0,
        hang_timeout_s: float = 10.0,
    ):
        super().__init__(
            "thread", spec, first_condition_timeout_s=first_condition_timeout_s, hang_timeout_s=hang_timeout_s
        )
        self._refresher = Refresher(system, spec)
        self._frame_has_come = threading.Event()
        self._working_since: float | None = None
        self._worker = threading.Thread(target=self._work, name="system2", daemon=True)
        self._worker.start()

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        since = self._working_since
        if since is not None and time.monotonic() - since > self._hang_timeout_s:
            self._working_since = None  # said once
            self.incidents.note(
                "system2_hangs",
                f"System 2 (thread): one refresh has taken more than {self._hang_timeout_s:g} s; a thread cannot be "
                f"killed, so "
                "it goes on with the last condition. Run System 2 in a process to have it started again",
            )

    def close(self) -> None:
        """End the thread, after the refresh it is in. One that hangs is noted and left behind: it ends with the
        process."""
        self._closing.set()
        self._frame_has_come.set()
        self._worker.join(self._hang_timeout_s)
        if self._worker.is_alive():
            self.incidents.note(
                "system2_hangs",
                f"System 2 (thread): it did not end within {self._hang_timeout_s:g} s; a refresh hangs in it",
            )

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
