"""System 2 beside the control loop: in a thread, which may wait for a process or for another machine.

The control loop waits for the first condition of an episode only. What happens when System 2 fails: `failures.py`.
"""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from video2act.clips import FrameHistory
from video2act.incidents import Incidents
from video2act.interfaces import Perceiver
from video2act.refresh_rule import Frame, RefreshRule, RefreshSpec
from video2act.runtime.failures import Failures, GivenUp
from video2act.runtime.refresh import TIMES_KEPT, perceive
from video2act.runtime.system2_worker import System2Worker
from video2act.types import Observation, Video, VideoCondition

log = logging.getLogger(__name__)
MAX_WAITING = 1024
"""frames that wait for an encoder that must see all of them (`encoding="stream"`)"""


class ThreadSlowLoop:
    """Refreshes on the newest frame whenever System 2 is free.

    Args:
        system: System 2, or the worker that several loops share.
        first_condition_timeout_s: longest wait for the first condition of an episode; it covers a cold start.
        hang_timeout_s: a refresh that takes longer is reported.
        where: the place where System 2 works, for messages.
        end_system: called by `close`, before the thread is waited for.
    """

    def __init__(
        self,
        system: Perceiver | System2Worker,
        spec: RefreshSpec,
        *,
        first_condition_timeout_s: float = 60.0,
        hang_timeout_s: float = 10.0,
        where: str = "thread",
        end_system: Callable[[], None] = lambda: None,
    ):
        for name, value in (
            ("first_condition_timeout_s", first_condition_timeout_s),
            ("hang_timeout_s", hang_timeout_s),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.incidents = Incidents()
        self._spec = spec
        self._timeout_s = first_condition_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._where = where
        self._end_system = end_system
        self._is_shared = isinstance(system, System2Worker)
        self._failures = Failures(where, self.incidents, is_shared=self._is_shared)
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        """of the history; never asked for by `observe`, since to resize frames takes milliseconds"""
        self._history = FrameHistory(spec.streams)
        self._newest: Frame | None = None
        """in the history"""
        self._waiting: deque[Frame] = deque(maxlen=None if self._history.needs_every_frame else self._history.span)
        """for the history"""
        self._rule = RefreshRule(spec.refresh_every)
        self._episode, self._control_step = -1, 0
        self._in_work = -1
        """episode that the worker refreshes"""
        self._answer: VideoCondition | GivenUp | None = None
        """the newest of System 2, in this episode"""
        self._version = 0
        self._is_behind = False
        """the encoder has missed frames, and cannot go on in this episode"""
        self._is_in_trouble = self._is_closed = False
        self._worker = (
            system if isinstance(system, System2Worker) else System2Worker(system, hang_timeout_s=hang_timeout_s)
        )

    def reset(self, episode: int) -> None:
        """A new episode begins. Raises ValueError unless its number is higher than all before: late conditions of the
        earlier episode would count for this one."""
        with self._changed:
            if episode <= self._episode:
                raise ValueError(
                    f"episode numbers must increase: got {episode} after {self._episode}. Use the DualPolicy again "
                    "together with its slow loop, or make a new slow loop"
                )
            self._episode, self._control_step, self._version = episode, 0, 0
            self._is_behind = False
            self._failures.forget()
            self._answer = self._failures.end
            self._waiting.clear()
            self._worker.forget(self)

    def check(self, observation: Observation) -> None:
        self._history.check(observation)

    def observe(self, observation: Observation) -> None:
        """Take in the frames of one control step, without waiting.

        Raises:
            ValueError: as `check`.
            RuntimeError: the loop is closed.
        """
        self._check_open()
        seen = self._with_images_of_streams(observation)
        with self._changed:
            newest = Frame(seen, self._episode, self._control_step)
            self._control_step += 1
            is_due = self._make_room() and self._failures.end is None and self._rule.is_due(newest)
            if not self._is_behind:
                self._waiting.append(newest)
        if is_due:
            self._worker.ask(self)
        trouble = self._worker.trouble()
        if trouble and not self._is_in_trouble:
            self.incidents.note("system2_hangs", trouble)
            if self._is_shared:
                log.error("%s", trouble)
        self._is_in_trouble = bool(trouble)

    def condition(self) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only.

        Raises:
            System2Error: System 2 failed several times before the first one, or cannot be used any more.
            RuntimeError: `observe` was not called; or the loop is closed, also while this waits.
            TimeoutError: the first one did not come in time.
        """
        with self._changed:
            if self._control_step == 0:
                raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
            self._changed.wait_for(lambda: self._answer is not None or self._is_closed, self._timeout_s)
            answer, episode = self._answer, self._episode
        self._check_open()
        if answer is None:
            last = f". Last incident: {self.incidents[-1].text}" if self.incidents else ""
            raise TimeoutError(
                f"System 2 ({self._where}) gave no condition for episode {episode} within {self._timeout_s} s; it "
                "hangs, is away, serves too many clients, or its first call is slower than that: raise "
                f"first_condition_timeout_s{last}"
            )
        if isinstance(answer, GivenUp):
            raise answer.error(self._where) from answer.cause
        return answer

    def clips(self) -> tuple[dict[str, Video], float]:
        """The clips of the newest frame, and their `lag_s`."""
        with self._reading:
            self._catch_up()
            return self._history.clips(self._spec.control_fps), self._history.lag_s

    def close(self) -> None:
        """End the thread, unless it is shared, after the refresh it is in. One that hangs is noted and left behind."""
        with self._changed:
            self._is_closed = True
            self._worker.forget(self)
            self._changed.notify_all()
        self._end_system()
        if not self._is_shared and not self._worker.close(self._hang_timeout_s):
            self.incidents.note(
                "system2_hangs",
                f"System 2 ({self._where}): it did not end within {self._hang_timeout_s:g} s; a refresh hangs in it",
            )

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"System 2 ({self._where}) has been closed; make a new slow loop")

    def _with_images_of_streams(self, observation: Observation) -> Observation:
        """Without the others, which would stay in memory."""
        self.check(observation)
        cameras = {stream.camera for stream in self._spec.streams}
        return replace(observation, images={camera: observation.images[camera] for camera in cameras})

    def _make_room(self) -> bool:
        """Whether another frame may wait. False: an encoder must see every frame, and too many wait."""
        if self._waiting.maxlen is None and len(self._waiting) >= MAX_WAITING:
            self._is_behind = True
            self._waiting.clear()
            self.incidents.note(
                "system2_failed",
                f"System 2 ({self._where}): it is {MAX_WAITING} frames behind, but its encoder (encoding='stream') "
                "must see all of an episode; the condition grows old until the next one",
            )
        return not self._is_behind

    def _catch_up(self) -> Frame | None:
        """Bring the history to the newest frame, which is returned. Needs the lock of the history."""
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
        for frame in waiting:
            if self._newest is None or frame.episode != self._newest.episode:
                self._history.reset()
            self._newest = frame
            self._history.append(frame.observation, control_step=frame.control_step)
        return self._newest

    # the worker's thread

    def refresh(self, system: Perceiver) -> bool:
        """Refresh on the newest frame, if that is still due; returns whether it was. Raises what System 2 raises."""
        with self._changed:
            self._in_work = self._episode
        self._prepare()
        with self._reading:
            newest = self._catch_up()
            with self._changed:
                if newest is None or newest.episode != self._episode or self._is_closed:
                    return False  # a new episode has begun, or the loop was closed, while it stood in line
                if not self._rule.is_due(newest):
                    return False
            clips, lag_s = self._history.clips(self._spec.control_fps), self._history.lag_s
        refreshed = perceive(system, clips, newest=newest, lag_s=lag_s)
        with self._changed:
            self.perceive_s.append(refreshed.duration_s)
            if newest.episode == self._episode:
                self._rule = self._rule.after(newest)
                self._version += 1
                self._answer = refreshed.condition(self._version)
                self._failures.forget()
                self._changed.notify_all()
        return True

    def _prepare(self) -> None:
        """For subclasses: called before the newest frame is taken."""

    def failed(self, error: Exception) -> float:
        """Note a failed refresh; returns the pause before the next attempt in seconds, infinite if there is none."""
        with self._changed:
            if self._is_closed:
                return math.inf
            wait_s, given_up = self._failures.note(error, is_current=self._in_work == self._episode)
            if given_up and not isinstance(self._answer, VideoCondition):
                self._answer = given_up
                self._changed.notify_all()
            return wait_s
