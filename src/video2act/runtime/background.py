"""What happens when System 2 fails, hangs or dies beside the control loop: the same in a thread, a process, elsewhere.

The last condition stays and grows old; `Freshness` judges its age. System 2 is started again after a pause, which
doubles with every failure in a row. Each failure is noted as an incident. The control loop waits for the first
condition of an episode only. Frames go into a ring, conditions come out of a mailbox.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from video2act.clips import FrameHistory, stream_image
from video2act.incidents import Incidents
from video2act.interfaces import System2Error
from video2act.refresh_rule import ATTEMPTS, RefreshSpec, pause_s
from video2act.runtime.frame_ring import FrameRing, RingLayout
from video2act.runtime.refresh import TIMES_KEPT, Refreshed, RingReader
from video2act.types import Observation, Video, VideoCondition

STREAM_RING = 1024
"""frames, for an encoder that goes on through an episode of any length: it takes in what has come since its last
refresh"""


@dataclass(frozen=True)
class GivenUp:
    """In place of a first condition."""

    episode: int
    problem: str
    cause: BaseException | None


class BackgroundSlowLoop:
    """The control loop's side. A subclass runs System 2 and calls `_publish` and `_failed`.

    Args:
        where: how messages name the place where System 2 works.
        first_condition_timeout_s: bounds the one wait there is, for the first condition of an episode.
    """

    def __init__(self, where: str, spec: RefreshSpec, *, first_condition_timeout_s: float, hang_timeout_s: float):
        for name, value in (
            ("first_condition_timeout_s", first_condition_timeout_s),
            ("hang_timeout_s", hang_timeout_s),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.incidents = Incidents()
        self._where = where
        self._spec = spec
        self._timeout_s = first_condition_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._closing = threading.Event()
        self._ring: FrameRing | None = None
        self._episode = -1
        self._control_step = 0
        self._num_conditions = 0
        self._numbered_episode = -1
        self._failures_in_row = 0
        self._changed = threading.Condition()
        self._newest: VideoCondition | GivenUp | None = None
        """what the worker gave last; a newer one takes its place"""

    def reset(self, episode: int) -> None:
        """Raises ValueError for a number that was there before: what is still under way for that one would count for
        this."""
        if episode <= self._episode:
            raise ValueError(
                f"episode {episode} begins after episode {self._episode}; numbers count up. Of a slow loop that is "
                f"used again, "
                "keep the policy too: it counts its episodes"
            )
        self._episode = episode
        self._control_step = 0
        self._failures_in_row = 0  # an episode is given up for its own failures

    def observe(self, observation: Observation) -> None:
        """Hand over the frames of one control step, without waiting.

        Raises:
            KeyError: a camera that a stream reads is missing.
            ValueError: its image is not uint8 of shape (height, width, 3).
        """
        if self._closing.is_set():
            raise RuntimeError(f"System 2 ({self._where}) has been closed; make a new slow loop")
        self._ring_for(observation).write(observation, self._episode, control_step=self._control_step)
        self._control_step += 1
        self._wake()

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only.

        Raises:
            System2Error: System 2 failed several times before the first one.
            RuntimeError: `observe` was not called.
            TimeoutError: the first one did not come.
        """
        if self._control_step == 0:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        episode = self._episode

        def has_come() -> bool:
            # what a refresh that began before the reset still publishes carries the old number
            return self._newest is not None and self._newest.episode == episode

        with self._changed:
            message = self._newest if self._changed.wait_for(has_come, self._timeout_s) else None
        if message is None:
            last = f"; last incident: {self.incidents[-1].text}" if self.incidents else ""
            raise TimeoutError(
                f"System 2 ({self._where}) gave no condition for episode {episode} within {self._timeout_s} s; "
                f"it hangs, or its first call is slower than that: raise first_condition_timeout_s{last}"
            )
        if isinstance(message, GivenUp):
            raise System2Error(
                f"System 2 failed in its {self._where}, {ATTEMPTS} times in a row:\n{message.problem}"
            ) from message.cause
        return message

    def clips(self) -> dict[str, Video]:
        """The clips that end at the newest frame. Raises as `RingReader.catch_up`."""
        assert self._ring is not None, "clips was called before observe"
        reader = RingReader(self._spec)
        reader.catch_up(self._ring)
        return reader.clips()

    def close(self) -> None:
        """End what was started."""
        raise NotImplementedError

    # for subclasses

    def _wake(self) -> None:
        """A frame has come."""

    def _ring_changed(self, ring: FrameRing, old: FrameRing | None) -> None:
        """Frames of another size have come, or the first."""

    def _make_ring(self, layout: RingLayout) -> FrameRing:
        return FrameRing(layout)

    def _publish(self, refreshed: Refreshed) -> None:
        self._failures_in_row = 0
        self._num_conditions = self._num_conditions + 1 if refreshed.episode == self._numbered_episode else 1
        self._numbered_episode = refreshed.episode
        self.perceive_s.append(refreshed.duration_s)
        self._put(refreshed.condition(self._num_conditions))

    def _failed(self, problem: str, cause: BaseException | None = None) -> float:
        """Note a failure; returns how long to pause before the next attempt, in seconds."""
        self._failures_in_row += 1
        wait_s = pause_s(self._failures_in_row)
        last_line = problem.strip().splitlines()[-1]
        self.incidents.note("system2_failed", f"System 2 ({self._where}): {last_line}; next attempt in {wait_s:g} s")
        newest = self._newest
        has_condition = isinstance(newest, VideoCondition) and newest.episode == self._episode
        if self._failures_in_row >= ATTEMPTS and not has_condition:
            self._put(GivenUp(self._episode, problem, cause))
        return wait_s

    def _put(self, message: VideoCondition | GivenUp) -> None:
        with self._changed:
            self._newest = message
            self._changed.notify_all()

    def _ring_for(self, observation: Observation) -> FrameRing:
        """The ring, made anew if cameras have another size than before."""
        cameras = {}
        for stream in self._spec.streams:
            image = stream_image(observation, stream.name, camera=stream.camera)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"camera {stream.camera!r} gave {image.dtype} of shape {image.shape}; "
                    "an image is uint8 of shape (height, width, 3)"
                )
            cameras[stream.camera] = image.shape[:2]
        if self._ring is None or self._ring.layout.cameras != cameras:
            # twice what a clip spans: while that much is read, as much again may be written
            history = FrameHistory(self._spec.streams)
            capacity = 2 * history.span + 16
            if history.needs_every_frame:
                capacity = max(capacity, STREAM_RING)
            old, self._ring = self._ring, self._make_ring(RingLayout(cameras, capacity))
            self._ring_changed(self._ring, old)
        return self._ring
