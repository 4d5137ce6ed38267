"""A policy on another machine.

The newest frames of the episode are kept, as many as a clip spans, and sent in order. After a lost connection all of
them are sent again, because a new connection is a new episode for the server. There is no other queue, so nothing grows
while a server is slow or away.
"""

import logging
import threading
from collections import deque
from typing import Any

from video2act.incidents import Incidents
from video2act.interfaces import HoldError, NoPlanError
from video2act.observations import check_time
from video2act.refresh_rule import Frame
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.link import Connection, Link, RemoteError
from video2act.types import ActionChunk, Observation

log = logging.getLogger(__name__)


class RemotePolicy:
    """A `Policy` on another machine. `observe` never waits; `infer` waits for the plan, with a timeout.

    `observe` and `infer` may be called from two threads.

    Args:
        address: `ws://host:port`, or `wss://`.
        api_key: if the server needs one.
        timeout_s: longest wait for a plan, including a reconnection.
        first_plan_timeout_s: for the first connection, and for the first plan of an episode, which waits for System 2.
        waits: for a server that is still starting; if not, it must answer at the first try.

    Raises:
        ConnectionError: no server answered, or it refused the connection.
        ValueError: the server does not serve a policy.
    """

    def __init__(
        self,
        address: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 2.0,
        first_plan_timeout_s: float = 60.0,
        waits: bool = True,
    ):
        self.contract: Contract
        """cameras, sizes, horizon, `execute_steps`, ..."""
        self.incidents = Incidents()
        self._timeout_s = timeout_s
        self._first_plan_timeout_s = first_plan_timeout_s
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque(maxlen=1)
        self._episode, self._control_step = -1, 0
        self._question = 0
        """number of the newest request for a plan"""
        self._wanted: Frame | None = None
        self._answered: tuple[int, ActionChunk | Exception] | None = None
        self._has_plan = False
        self._link = Link(address, api_key, converse=self._converse, troubled=self._note, waits=waits)
        self._contracted: Contract | None = None
        self._link.start()
        with self._changed:
            self._changed.wait_for(lambda: self._contracted or self._link.failure, first_plan_timeout_s)
        if self._contracted is None:
            self._link.close()
            reason = (
                self.incidents[-1].text if self.incidents else f"{address}: no answer within {first_plan_timeout_s:g} s"
            )
            remedy = "start it with `video2act serve RUN`, and wait until it says where it serves"
            raise ConnectionError(f"no policy is served there: {reason}; {remedy}") from self._link.failure
        self.contract = self._contracted
        if self.contract.serves != "policy":
            self._link.close()
            raise ValueError(
                f"{address} serves System 2 alone (--only system2), not a policy: Runner(policy, system2={address!r})"
            )

    def reset(self) -> None:
        """A new episode begins."""
        with self._changed:
            self._episode += 1
            self._control_step = 0
            self._has_plan = False
            self._frames.clear()

    def observe(self, observation: Observation) -> None:
        """Give a frame to the sender, without waiting. Raises ValueError: its time does not rise; the server would
        refuse it, but not before a plan of an earlier frame had passed for its own."""
        with self._changed:
            check_time(observation.time, self._frames[-1].observation.time if self._frames else None)
            self._frames.append(Frame(observation, self._episode, self._control_step))
            self._control_step += 1
            self._changed.notify_all()

    def infer(self, observation: Observation) -> ActionChunk:
        """A plan for an observation, usually the one observed last.

        Raises:
            NoPlanError: no plan came in time (a TimeoutError, and a HoldError); the message names the last failure of
                the connection.
            HoldError: the video condition is too old to plan on.
            RemoteError: the server refused the observation, or its policy failed.
            ConnectionError: the server cannot be used any more (a wrong key, another policy in its place).
        """
        timeout_s = self._timeout_s if self._has_plan else self._first_plan_timeout_s
        with self._changed:
            self._question += 1
            question = self._question
            self._wanted = Frame(observation, self._episode, max(0, self._control_step - 1))
            self._changed.notify_all()

            def is_over() -> bool:
                return self._link.failure is not None or (self._answered is not None and self._answered[0] == question)

            self._changed.wait_for(is_over, timeout_s)
            answered, self._wanted = self._answered, None
        if answered is not None and answered[0] == question:
            if isinstance(answered[1], Exception):
                raise answered[1]
            self._has_plan = True
            return answered[1]
        if self._link.failure is not None:
            raise ConnectionError(self.incidents[-1].text) from self._link.failure
        trouble = f"; last: {self.incidents[-1].text}" if self.incidents else ""
        raise NoPlanError(f"no plan from {self._link.address} within {timeout_s:g} s{trouble}", "connection")

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def _note(self, incident: str) -> None:
        log.warning("%s", incident)
        with self._changed:
            self.incidents.note("connection", incident)
            self._changed.notify_all()

    def _converse(self, connection: Connection) -> None:
        contract = connection.contract
        with self._changed:
            if self._contracted not in (None, contract):
                raise MessageError("another policy answers there now; start the robot's program anew")
            self._contracted = contract
            self._frames = deque(self._frames, maxlen=contract.history_steps + 1)
            self._changed.notify_all()
        server = _Server(connection)
        while not self._link.is_closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._unsent(server.sent), timeout=0.5)
                frames, wanted, question = self._unsent(server.sent), self._wanted, self._question
            if wanted is not None and server.has_seen(wanted):
                # do not send it again: after newer frames the server's time would run backwards
                self._plan(server, {"plan": True}, question=question)
                continue
            for frame in frames:
                if wanted is not None and frame.observation is wanted.observation:
                    self._plan(server, server.message(frame), question=question, frame=frame)
                    wanted = None
                else:
                    self._show(server, frame)
            if wanted is not None and not server.has_seen(wanted):
                self._plan(server, server.message(wanted), question=question, frame=wanted)

    def _unsent(self, sent: tuple[int, int]) -> list[Frame]:
        return [frame for frame in self._frames if frame.place > sent]

    def _show(self, server: "_Server", frame: Frame) -> None:
        try:
            server.ask({**server.message(frame), "plan": False}, self._timeout_s)
        except RemoteError as error:
            server.refused(frame)
            self._note(f"{self._link.address}: {error}")
            return
        except HoldError as error:  # the server has the frame, and no condition of it yet
            self._note(f"{self._link.address}: {error}")
        server.took(frame)

    def _plan(self, server: "_Server", message: dict[str, Any], *, question: int, frame: Frame | None = None) -> None:
        """Ask for a plan, on a new frame or on the server's last one, and pass on the plan or the error."""
        try:
            answer = server.ask(message, self._timeout_s if self._has_plan else self._first_plan_timeout_s)
        except RemoteError as error:
            if frame is not None:
                server.refused(frame)
            self._tell(question, error)
            return
        except HoldError as error:
            answer = error
        if frame is not None:
            server.took(frame)
        is_plan = isinstance(answer, dict)
        if is_plan and "state_clipped" in answer:
            told = (
                f"{self._link.address}: the state is far outside the training data: {answer['state_clipped']}; clipped"
            )
            self.incidents.note("state_clipped", told[:500])
        self._tell(
            question, ActionChunk(answer["actions"], answer["observed_at"], answer["period_s"]) if is_plan else answer
        )

    def _tell(self, question: int, answer: ActionChunk | Exception) -> None:
        with self._changed:
            if question == self._question:  # otherwise `infer` has timed out, and another plan is wanted
                self._answered, self._wanted = (question, answer), None
                self._changed.notify_all()


class _Server:
    """The frames that the server has taken on this connection."""

    def __init__(self, connection: Connection):
        self.ask = connection.ask
        self.sent = (-1, -1)
        """episode and control step of the newest frame that was sent"""
        self._episode = -1
        """the server's episode"""
        self._newest: Observation | None = None
        """the server's last frame; None if it refused that"""

    def message(self, frame: Frame) -> dict[str, Any]:
        now = frame.observation
        words = {"images": now.images, "state": now.state, "prompt": now.instruction, "time": now.time}
        return {**words, "reset": frame.episode != self._episode}

    def has_seen(self, frame: Frame) -> bool:
        """Whether the server has this observation or a newer one of its episode."""
        newest, asked = self._newest, frame.observation
        if newest is None or self._episode != frame.episode:
            return False
        return (asked.time, asked.instruction) == (newest.time, newest.instruction) or asked.time < newest.time

    def took(self, frame: Frame) -> None:
        self.sent, self._episode, self._newest = max(self.sent, frame.place), frame.episode, frame.observation

    def refused(self, frame: Frame) -> None:
        self.sent, self._newest = max(self.sent, frame.place), None
