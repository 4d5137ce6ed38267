"""A policy on another machine.

The newest frames of the episode are kept, as many as a clip spans, and sent in order. After a lost connection all of
them are sent again, because a new connection is a new episode for the server. There is no other queue, so nothing grows
while a server is slow or away. What a way or a server cannot take in time is left out: the plan comes first.
"""

import logging
import threading
from collections import deque

from video2act.incidents import Incidents
from video2act.interfaces import NoPlanError
from video2act.observations import check_time
from video2act.serving.access import check_address
from video2act.serving.answer_checks import read_plan
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.conversation import Conversation, PackedFrame
from video2act.serving.link import Connection, Link
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
        ValueError: the address does not begin with `ws://`, or the server does not serve a policy.
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
        check_address(address)
        self.contract: Contract
        """cameras, sizes, horizon, `execute_steps`, ..."""
        self.incidents = Incidents()
        self._timeout_s = timeout_s
        self._first_plan_timeout_s = first_plan_timeout_s
        self._changed = threading.Condition()
        self._frames: deque[PackedFrame] = deque(maxlen=1)
        self._episode, self._control_step = -1, 0
        self._question = 0
        """number of the newest request for a plan"""
        self._wanted: PackedFrame | None = None
        self._answered: tuple[int, ActionChunk | Exception] | None = None
        self._has_plan = False
        self._link = Link(address, api_key, converse=self._converse, troubled=self._note, waits=waits)
        self._contracted: Contract | None = None
        self._link.start()
        with self._changed:
            self._changed.wait_for(lambda: self._contracted or self._link.failure, first_plan_timeout_s)
        if self._contracted is None:
            self._link.close()
            reason = self._link.trouble or f"{address}: no answer"
            if self._link.failure is None:
                reason += f", for {first_plan_timeout_s:g} s (first_plan_timeout_s)"
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
            self._wanted = None
            self._frames.clear()

    def observe(self, observation: Observation) -> None:
        """Give a frame to the sender, without waiting.

        Raises:
            ValueError: its time does not rise; the server would refuse it, but not before a plan of an earlier frame
                had passed for its own.
            TypeError, ValueError: a value cannot be sent, such as a tensor of torch; it is passed over.
            ConnectionError: the policy has been closed.
        """
        self._check_open()
        frame = PackedFrame.of(observation, (self._episode, self._control_step))
        with self._changed:
            check_time(frame.time, self._frames[-1].time if self._frames else None)
            self._frames.append(frame)
            self._control_step += 1
            self._changed.notify_all()

    def infer(self, observation: Observation) -> ActionChunk:
        """A plan for an observation, usually the one observed last.

        Raises:
            NoPlanError: no plan came in time (a TimeoutError, and a HoldError); the message names the last failure of
                the connection.
            HoldError: the video condition is too old to plan on.
            RemoteError: the server refused the observation, or its policy failed.
            ConnectionError: the server cannot be used any more (a wrong key, another policy in its place, a plan that
                is not as its metadata says), or the policy has been closed, also while this waits.
            TypeError, ValueError: a value of the observation cannot be sent.
        """
        self._check_open()
        timeout_s = self._timeout_s if self._has_plan else self._first_plan_timeout_s
        frame = PackedFrame.of(observation, (self._episode, self._control_step - 1))
        with self._changed:
            self._question += 1
            question = self._question
            self._wanted = frame
            self._changed.notify_all()

            def is_over() -> bool:
                has_answer = self._answered is not None and self._answered[0] == question
                return has_answer or self._link.failure is not None or self._link.is_closed.is_set()

            self._changed.wait_for(is_over, timeout_s)
            answered, self._wanted = self._answered, None
        if answered is not None and answered[0] == question:
            if isinstance(answered[1], Exception):
                raise answered[1]
            self._has_plan = True
            return answered[1]
        self._check_open()
        if self._link.failure is not None:
            raise ConnectionError(self.incidents[-1].text) from self._link.failure
        trouble = f"; last: {self.incidents[-1].text}" if self.incidents else ""
        raise NoPlanError(f"no plan from {self._link.address} within {timeout_s:g} s{trouble}", "connection")

    def close(self) -> None:
        """End the connection. Who waits in `infer` gets a ConnectionError."""
        with self._changed:
            self._link.is_closed.set()
            self._changed.notify_all()
        self._link.close()

    def _check_open(self) -> None:
        if self._link.is_closed.is_set():
            raise ConnectionError(f"the connection to {self._link.address} has been closed; make a new RemotePolicy")

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
            owed = self._frames[-1].place if self._frames else (-1, -1)
            self._changed.notify_all()
        limits = {"timeout_s": self._timeout_s, "first_plan_timeout_s": self._first_plan_timeout_s}
        talk = Conversation(connection, self._changed, owed=owed, **limits)
        while not self._link.is_closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: talk.has_heard or self._due(talk), talk.left_s)
                due = None if talk.has_heard else self._due(talk)
            if talk.has_heard:
                self._take(talk)
            elif due:
                talk.send(*due)
            else:
                raise TimeoutError(f"no answer for {talk.limit_s:g} s")

    def _due(self, talk: Conversation) -> tuple[PackedFrame | None, int | None] | None:
        """The next frame to send, and the number of the question if a plan on it is asked for. No frame: a plan on what
        the server has. None: nothing is to be sent now."""
        if not talk.can_send:
            return None
        unsent = next((frame for frame in self._frames if frame.place > talk.sent), None)
        wanted = self._wanted
        if wanted is None or talk.asked == self._question or talk.awaits_plan:
            return (unsent, None) if unsent else None
        if talk.has_seen(wanted):
            # not again: after newer frames the server's time would run backwards
            return None, self._question
        if unsent is None or unsent.place > wanted.place or self._is_overdue(wanted, unsent, talk=talk):
            unsent = wanted
        return unsent, (self._question if unsent.is_same(wanted) else None)

    def _is_overdue(self, wanted: PackedFrame, unsent: PackedFrame, *, talk: Conversation) -> bool:
        """Whether a plan must not wait for an older frame: the robot has gone on for as long as it executes a plan. The
        server repeats the frame before a gap."""
        newest = self._frames[-1] if self._frames else wanted
        has_gone_on = newest.place >= (wanted.place[0], wanted.place[1] + talk.contract.execute_steps)
        return has_gone_on and unsent.place > talk.owed

    def _take(self, talk: Conversation) -> None:
        """Pass on an answer: a plan or an error to who asked, other errors as incidents."""
        said, answer = talk.take()
        if said.question is None:
            if isinstance(answer, Exception):
                self._note(f"{self._link.address}: {answer}")
        elif isinstance(answer, Exception):
            self._tell(said.question, answer)
        elif said.frame is None and talk.refusal is not None:  # the plan is of an earlier frame
            self._tell(said.question, talk.refusal)
        else:
            chunk = read_plan(answer, talk.contract, newest_time=said.newest_time)
            talk.has_plan = True
            if "state_clipped" in answer:
                clipped = f"the state is far outside the training data: {answer['state_clipped']}; clipped"
                self.incidents.note("state_clipped", f"{self._link.address}: {clipped}"[:500])
            self._tell(said.question, chunk)

    def _tell(self, question: int, answer: ActionChunk | Exception) -> None:
        with self._changed:
            if question == self._question:  # otherwise `infer` has timed out, and another plan is wanted
                self._answered, self._wanted = (question, answer), None
                self._changed.notify_all()
