"""A slow loop whose System 2 runs on another machine.

Clips are made here, at System 2's size. When the last answer is in and a refresh is due, the newest clip is sent. The
server keeps nothing between two clips, so it can be restarted at any time.
"""

import threading
import time
from collections import deque

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8

from video2act.clips import FrameHistory, stream_image
from video2act.incidents import Incidents
from video2act.interfaces import System2Error
from video2act.refresh_rule import ATTEMPTS, Frame, RefreshRule, RefreshSpec
from video2act.serving.codec import MessageError
from video2act.serving.contract import ClipShape, Contract
from video2act.serving.link import Ask, Link, RemoteError
from video2act.types import Observation, Tokens, Video, VideoCondition

TIMES_KEPT = 10_000


class RemoteSlowLoop:
    """System 2 on another machine: `observe` never waits, `condition` waits for the first one of an episode only.

    Args:
        address: of `video2act serve RUN --only system2`.
        spec: of the policy that uses the tokens; the server must serve the same streams.
        answer_timeout_s: without an answer for so long, the connection is closed and made again.
        first_condition_timeout_s: longest wait for the first condition of an episode.
    """

    def __init__(
        self,
        address: str,
        spec: RefreshSpec,
        *,
        api_key: str | None = None,
        answer_timeout_s: float = 10.0,
        first_condition_timeout_s: float = 60.0,
    ):
        if not spec.streams:
            raise ValueError("a policy without System 2 has no streams; there is nothing to ask a server for")
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        """seconds per refresh, including the network"""
        self.incidents = Incidents()
        self._streams = {stream.name: ClipShape.of(stream) for stream in spec.streams}
        self._spec = spec
        self._history = FrameHistory(spec.streams)
        self._answer_timeout_s = answer_timeout_s
        self._timeout_s = first_condition_timeout_s
        self._changed = threading.Condition()
        self._episode, self._control_step = -1, 0
        self._frames: deque[Frame] = deque(maxlen=self._history.span)
        self._condition: VideoCondition | None = None
        self._version = 0
        self._failures = 0
        """error answers in a row, in this episode"""
        self._appended = (-1, -1)
        self._rule = RefreshRule(spec.refresh_every)
        self._link = Link(address, api_key, converse=self._converse, troubled=self._troubled)
        self._link.start()

    def reset(self, episode: int) -> None:
        """Episode number `episode` begins; late answers for an earlier one are dropped.

        Raises:
            ValueError: there was such a number before.
        """
        with self._changed:
            if episode <= self._episode:
                raise ValueError(f"episode {episode} begins after episode {self._episode}; numbers count up")
            self._episode, self._control_step = episode, 0
            self._condition, self._version = None, 0
            self._failures = 0
            self._frames.clear()

    def observe(self, observation: Observation) -> None:
        """Give a frame to the sender, without waiting.

        Raises:
            KeyError: a camera that a stream reads is missing.
        """
        for name, clip in self._streams.items():
            stream_image(observation, name, camera=clip.camera)
        with self._changed:
            self._frames.append(Frame(observation, self._episode, self._control_step))
            self._control_step += 1
            self._changed.notify_all()

    def condition(self, observation: Observation) -> VideoCondition:
        """The newest condition of this episode. Waits for the first one only; a lost server shows in its age.

        Raises:
            RuntimeError: no frame was observed.
            System2Error: there is no condition yet and the server failed again and again, or for good.
            TimeoutError: the first condition of the episode did not come.
        """
        with self._changed:
            if self._control_step == 0:
                raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")

            def is_over() -> bool:
                return self._condition is not None or self._failures >= ATTEMPTS or self._link.failure is not None

            self._changed.wait_for(is_over, self._timeout_s)
            condition = self._condition
        if condition is not None:
            return condition
        if self._link.failure is not None or self._failures >= ATTEMPTS:
            raise System2Error(
                f"System 2 gave no condition for episode {self._episode}: {self.incidents[-1].text}"
            ) from self._link.failure
        raise TimeoutError(
            f"System 2 at {self._link.address} gave no condition for episode {self._episode} within "
            f"{self._timeout_s} s; it is away, hangs, or its first call is slower than that: start it, or raise "
            "first_condition_timeout_s" + (f". Last: {self.incidents[-1].text}" if self.incidents else "")
        )

    def clips(self) -> dict[str, Video]:
        """The clips that end at the newest frame."""
        with self._changed:
            frames = list(self._frames)
        history = FrameHistory(self._spec.streams)
        for frame in frames:
            history.append(frame.observation, control_step=frame.control_step)
        return history.clips(self._spec.control_fps)

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def _troubled(self, incident: str, error: Exception) -> None:
        with self._changed:
            self._failures += isinstance(error, RemoteError)
            kind = "system2_failed" if isinstance(error, RemoteError) else "connection"
            self.incidents.note(kind, f"System 2 at {incident}")
            self._changed.notify_all()

    def _converse(self, ask: Ask, contract: Contract) -> None:
        self._check(contract)
        while not self._link.is_closed.is_set():
            newest = self._next()
            if newest is not None:
                self._refresh(ask, newest)

    def _check(self, contract: Contract) -> None:
        if contract.serves != "system2":
            raise MessageError("a whole policy is served there; start the server with --only system2")
        if contract.streams != self._streams or not np.isclose(contract.period_s * self._spec.control_fps, 1):
            raise MessageError(
                f"another policy's System 2 is served there: streams {contract.streams} at "
                f"{1 / contract.period_s:g} Hz, this policy has {self._streams} at {self._spec.control_fps:g} Hz"
            )

    def _next(self) -> Frame | None:
        """The newest frame, when a refresh is due; all frames up to it are then in the history. None after a while."""
        with self._changed:
            self._changed.wait_for(self._is_due, timeout=0.5)
            if not self._is_due():
                return None
            frames = [frame for frame in self._frames if frame.place > self._appended]
            newest = self._frames[-1]
        for frame in frames:
            if frame.episode != self._appended[0]:
                self._history.reset()
            self._history.append(frame.observation, control_step=frame.control_step)
            self._appended = frame.place
        return newest

    def _is_due(self) -> bool:
        return bool(self._frames) and self._rule.is_due(self._frames[-1])

    def _refresh(self, ask: Ask, newest: Frame) -> None:
        clips = {name: to_frames(clip) for name, clip in self._history.clips(self._spec.control_fps).items()}
        now = newest.observation
        started = time.perf_counter()
        message = {"clips": clips, "prompt": now.instruction, "time": now.time, "episode": newest.episode}
        answer = ask(message, self._answer_timeout_s)
        tokens = Tokens(torch.from_numpy(answer["tokens"]), torch.from_numpy(answer["mask"]))
        with self._changed:
            self._rule = self._rule.after(newest)
            self.perceive_s.append(time.perf_counter() - started)
            self._failures = 0
            # the answer may belong to an earlier episode
            if answer["episode"] == self._episode:
                self._version += 1
                self._condition = VideoCondition(tokens, answer["observed_at"], answer["episode"], self._version)
            self._changed.notify_all()


def to_frames(clip: Video) -> UInt8[np.ndarray, "t h w 3"]:
    """The exact inverse of `clips.to_pixels` for pixels that were bytes."""
    frames = rearrange((clip.grid + 1) * 127.5, "1 c t h w -> t h w c")
    return frames.round().to(torch.uint8).contiguous().numpy()
