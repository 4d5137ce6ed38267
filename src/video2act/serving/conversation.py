"""What a robot says on one connection to a served policy: frames in order and requests for plans, one answer to each.

A few messages are sent before the first of them is answered: over a long way a robot makes frames faster than answers
come back. Nothing follows the first frame of an episode until it is answered: if the server refuses it, the next frame
begins the episode.
"""

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from video2act.interfaces import HoldError
from video2act.serving.codec import MessageError, Part, joined, pack_part
from video2act.serving.link import Connection, RemoteError
from video2act.types import Observation

FEW, MANY = 3, 8
"""messages without an answer; many, where the way takes the time: to a slow server they would hold up the next request
for a plan. Our server reads a few while it is at the first. With more of them waiting it would not read the signs of
life that it asks for every 20 s"""
SHORT_S = 10.0
"""of a wait for an answer: then many may be without one"""
MANY_BYTES = 2**20
"""without an answer: larger ones are slow on the way themselves"""


@dataclass(frozen=True)
class PackedFrame:
    """The observation of one control step, packed in the thread that gave it: its arrays may change afterwards."""

    place: tuple[int, int]
    """episode and control step"""
    time: float
    instruction: str
    part: Part

    @classmethod
    def of(cls, observation: Observation, place: tuple[int, int]) -> "PackedFrame":
        """Raises TypeError or ValueError, naming the field, for a value that cannot be sent."""
        now = observation
        words = {"images": now.images, "state": now.state, "prompt": now.instruction, "time": now.time}
        return cls(place, now.time, now.instruction, pack_part(words))

    def is_same(self, other: "PackedFrame") -> bool:
        """Whether both are of one observation."""
        return (self.place[0], self.time, self.instruction) == (other.place[0], other.time, other.instruction)


@dataclass(frozen=True)
class Said:
    """A message that waits for its answer."""

    frame: PackedFrame | None
    """None: it asks for a plan on the server's last frame"""
    question: int | None
    """number of the request for a plan; None: it asks for none"""
    begins: bool
    """it begins an episode"""
    newest_time: float
    """of the frames that the server had then, this one included; infinite: not known"""
    num_bytes: int
    at: float


class Conversation:
    """One connection. All methods are for one thread; another one listens.

    Args:
        changed: notified when an answer has come.
        owed: place of the newest frame when the connection began. The frames until then are the clip that the server is
            shown again, and none of them is left out.
        timeout_s: longest wait for an answer.
        first_plan_timeout_s: the same until the server's episode has its first plan: its answers wait for System 2.
    """

    def __init__(
        self,
        connection: Connection,
        changed: threading.Condition,
        *,
        owed: tuple[int, int],
        timeout_s: float,
        first_plan_timeout_s: float,
    ):
        self.contract = connection.contract
        self.owed = owed
        self.sent = (-1, -1)
        """place of the newest frame that was sent"""
        self.asked = 0
        """number of the newest request for a plan that was sent"""
        self.has_plan = False
        """whether the server's episode has its first plan"""
        self.refusal: RemoteError | None = None
        """why the server does not have the last frame that it answered"""
        self._connection = connection
        self._changed = changed
        self._timeout_s, self._first_plan_timeout_s = timeout_s, first_plan_timeout_s
        self._episode = -1
        """the server's"""
        self._newest: PackedFrame | None = None
        """the last frame that was sent; None if the server refused it"""
        self._waiting: deque[Said] = deque()
        self._heard: deque[dict[str, Any] | Exception] = deque()
        self._heard_at = 0.0
        self._is_quick = False
        """whether the server itself takes less than half a control step for a frame"""
        threading.Thread(target=self._listen, name="answers of a server", daemon=True).start()

    @property
    def has_heard(self) -> bool:
        return bool(self._heard)

    @property
    def can_send(self) -> bool:
        """Whether another message may follow now."""
        count = len(self._waiting)
        if count and self._waiting[-1].begins:
            return False
        is_light = self._is_quick and sum(said.num_bytes for said in self._waiting) < MANY_BYTES
        return count < FEW or (count < MANY and is_light and self.limit_s <= SHORT_S)

    @property
    def awaits_plan(self) -> bool:
        return any(said.question is not None for said in self._waiting)

    @property
    def limit_s(self) -> float:
        return self._timeout_s if self.has_plan else self._first_plan_timeout_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the next answer is late; None: no answer is waited for."""
        if not self._waiting:
            return None
        return max(0.0, max(self._heard_at, self._waiting[0].at) + self.limit_s - time.monotonic())

    def has_seen(self, frame: PackedFrame) -> bool:
        """Whether the server has this observation or a newer one of its episode, or will have before the next."""
        newest = self._newest
        if newest is None or newest.place[0] != frame.place[0]:
            return False
        return frame.is_same(newest) or frame.time < newest.time

    def send(self, frame: PackedFrame | None, question: int | None) -> None:
        """Send a frame, a request for a plan on it, or one for a plan on the server's last frame. Raises OSError or
        WebSocketException: the connection broke, or the server takes no data."""
        words: dict[str, Any] = {"plan": question is not None}
        begins = frame is not None and frame.place[0] != self._episode
        parts = [pack_part(words)] if frame is None else [frame.part, pack_part({**words, "reset": begins})]
        data = joined(*parts)
        self._connection.send(data, self.limit_s)
        if frame is not None:
            self.sent, self._episode, self._newest = max(self.sent, frame.place), frame.place[0], frame
            self.has_plan = self.has_plan and not begins
        if question is not None:
            self.asked = question
        newest_time = self._newest.time if self._newest else math.inf
        self._waiting.append(Said(frame, question, begins, newest_time, len(data), time.monotonic()))

    def take(self) -> tuple[Said, dict[str, Any] | RemoteError | HoldError]:
        """The oldest message and its answer, which has been heard.

        Raises:
            OSError, WebSocketException: the connection broke.
            MessageError: what came is no answer.
        """
        answer = self._heard.popleft()
        if isinstance(answer, Exception) and not isinstance(answer, RemoteError | HoldError):
            raise answer
        if not self._waiting:
            raise MessageError("the server answered without a question")
        said, self._heard_at = self._waiting.popleft(), time.monotonic()
        if said.frame is not None:
            self.refusal = answer if isinstance(answer, RemoteError) else None
            if self.refusal is not None:
                self._newest = None if self._newest is said.frame else self._newest
                self._episode = -1 if said.begins else self._episode
        if said.question is None and isinstance(answer, dict):
            timing = answer.get("server_timing")
            server_ms = timing.get("infer_ms") if isinstance(timing, dict) else None
            self._is_quick = isinstance(server_ms, float) and server_ms < 500 * self.contract.period_s
        return said, answer

    def _listen(self) -> None:
        is_open = True
        while is_open:
            try:
                heard = self._connection.receive()
            except (RemoteError, HoldError) as error:
                heard = error
            except Exception as error:  # noqa: BLE001 - raised again by `take`
                heard, is_open = error, False
            with self._changed:
                if len(self._heard) >= MANY:  # each waits for one of the messages that were sent
                    heard, is_open = MessageError("the server says more than it was asked"), False
                self._heard.append(heard)
                self._changed.notify_all()
