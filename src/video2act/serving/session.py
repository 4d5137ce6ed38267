"""One client's episode: the effect of a message on a policy, and the answer.

- A connection is an episode, and `reset` begins the next one. Clients never see each other's frames.
- A policy needs a frame per control step. Robots that ask every few steps, and networks that lose messages, leave gaps.
  The frame before a gap is repeated until its end, so that a clip spans the seconds of training; the answer counts the
  repeated frames. To avoid gaps a client sends every observation, with `plan: False` between plans.
- A second observation within one control step is used for a plan, but is not another frame.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from video2act.interfaces import HoldError, Policy
from video2act.limits import Limits
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.message_checks import Clips, is_plan_request, read_clips, read_observation
from video2act.training_record import RATE_STEPS, TrainingRecord
from video2act.types import Observation, Tokens, Video


@runtime_checkable
class Session(Protocol):
    """Answers one client. Called from one thread at a time."""

    is_first: bool
    """whether the episode waits for its first plan, and so for System 2's first condition"""

    def answer(self, message: Any) -> dict[str, Any]:
        """The answer to a message. Raises MessageError for a message that cannot be used; it then changed nothing."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ClosablePolicy(Policy, Protocol):
    """A policy that ends what it started."""

    def close(self) -> None: ...


class PolicySession:
    """A whole policy of one client.

    Args:
        policy: this client's own.
        limits: of actions; an action outside is clamped, or, with `outside="hold"`, its plan is not sent.
        check: raises ValueError for an observation that the policy cannot use. Called before the policy sees it.
        state_problem: the numbers of a state that the policy clips; see `ChecksState`.
        rhythm: control steps after which all of the policy's streams look again: a long gap is filled as far as a clip
            reaches, and shortened by whole rhythms.
        clock: seconds, for clients that send no time.
    """

    def __init__(
        self,
        policy: ClosablePolicy,
        contract: Contract,
        *,
        limits: Limits | None = None,
        outside: Literal["clamp", "hold"] = "clamp",
        check: Callable[[Observation], None] = lambda observation: None,
        state_problem: Callable[[Observation], str] = lambda observation: "",
        rhythm: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.is_first = True
        self._policy = policy
        self._contract = contract
        self._limits = limits
        self._outside = outside
        self._check = check
        self._state_problem = state_problem
        self._rhythm = rhythm
        self._clock = clock
        self._trained = TrainingRecord.of_contract(contract)
        self._intervals: deque[float] = deque(maxlen=RATE_STEPS)
        self._newest: Observation | None = None
        self._has_client_clock = False
        self._started_at = 0.0
        self._control_step = 0

    def answer(self, message: Any) -> dict[str, Any]:
        """Observe, and plan unless the message says `plan: False`.

        Returns:
            `actions`, float32 `[horizon action_dim]`, the first one for the moment `observed_at`, and `period_s`
            between two; neither without a plan. `frames_repeated`: frames repeated before this one. `actions_clamped`:
            actions of the plan that were outside the limits. `policy_timing`: milliseconds. What differs from the
            training data is named, if anything does: `state_clipped`, numbers of the state that are far outside;
            `image_size`, cameras of another size; `control_rate`, observations that come faster.

        Raises:
            MessageError: the message is wrong, or its clock stands still or runs backwards; nothing has changed. After
                any other error the session has the frame.
            HoldError: there is nothing fresh to plan on, or the plan leaves the limits. The frame was observed.
            ValueError: the plan holds a number that is not finite. The frame was observed.
        """
        started = time.perf_counter()
        repeated = 0
        if is_plan_request(message):
            if self._newest is None:
                raise MessageError("there is nothing to plan on: send an observation first")
            newest, wants_plan = self._newest, True
        else:
            observed = read_observation(message, self._contract)
            has_clock, wants_plan = observed.time is not None, observed.wants_plan
            newest = observed.at(self._clock() if observed.time is None else observed.time)
            before = None if observed.is_reset else self._newest
            if before is not None:
                self._check_clock(before, newest, has_clock=has_clock)
            try:
                self._check(newest)
            except ValueError as problem:
                raise MessageError(str(problem)) from problem
            if before is None:
                self._begin(newest, has_clock=has_clock)
            else:
                repeated = self._go_on(before, newest)
        timing = {"observe_ms": 1000 * (time.perf_counter() - started)}
        answer: dict[str, Any] = {"observed_at": newest.time, "frames_repeated": repeated, "policy_timing": timing}
        answer |= self._unlike_training(newest)
        if wants_plan:
            planned = time.perf_counter()
            try:
                chunk = self._policy.infer(newest)
            except HoldError as reason:
                raise HoldError(f"{reason}{self._how_to_hold()}", reason.kind) from reason
            timing["infer_ms"] = 1000 * (time.perf_counter() - planned)
            actions = np.asarray(chunk.actions, np.float32)
            if not np.isfinite(actions).all():
                raise ValueError(
                    "the policy planned a number that is not finite; the plan was not sent. Check its weights"
                )
            if self._limits is not None:
                actions, answer["actions_clamped"] = self._limited(actions, self._limits)
            if problem := self._state_problem(newest):
                answer["state_clipped"] = problem
            self.is_first = False
            # the only array in an answer: openpi's ActionChunkBroker takes one row per step of every array it finds
            answer |= {"actions": actions, "observed_at": chunk.observed_at, "period_s": chunk.period}
        return answer

    def close(self) -> None:
        self._policy.close()

    def _limited(self, actions: np.ndarray, limits: Limits) -> tuple[np.ndarray, int]:
        """The plan within the limits, and how many of its actions were clamped."""
        is_outside = limits.outside(actions)
        if self._outside == "hold" and is_outside.any():
            step, number = (int(place[0]) for place in is_outside.nonzero())
            raise HoldError(
                f"number {number} of action {step} is {actions[step, number]:.4g}, outside the limits "
                f"{limits.low[number]:.4g} to {limits.high[number]:.4g}{self._how_to_hold()}"
            )
        return limits.clamp(actions), int(is_outside.any(axis=1).sum())

    def _how_to_hold(self) -> str:
        """For clients of other programs, which would repeat the last action."""
        relative = ", ".join(self._contract.relative_actions)
        return f"; to hold, send zeros of {relative} and the last values of the others" if relative else ""

    def _check_clock(self, before: Observation, now: Observation, *, has_clock: bool) -> None:
        if has_clock != self._has_client_clock:
            raise MessageError("'time' must be in every message of an episode or in none; begin another with 'reset'")
        if now.time < before.time:
            raise MessageError(
                f"time runs backwards: {now.time:.6f} s after {before.time:.6f} s. Send 'reset' with a new episode"
            )
        if has_clock and now.time == before.time and not _is_same(before, now):
            raise MessageError(
                f"time stands still: two observations of {now.time:.6f} s. Send the robot's monotonic clock, or no "
                "'time' at all"
            )

    def _unlike_training(self, newest: Observation) -> dict[str, str]:
        """What differs from the training data, by the kind of incident."""
        sizes = [problem for _, problem in self._trained.other_sizes(newest) if problem]
        found = {"image_size": "; ".join(sizes), "control_rate": self._trained.other_rate(self._intervals)}
        return {kind: problem for kind, problem in found.items() if problem}

    def _begin(self, first: Observation, *, has_clock: bool) -> None:
        self._policy.reset()
        self.is_first = True
        self._has_client_clock, self._started_at, self._control_step = has_clock, first.time, 0
        self._newest = first
        self._intervals.clear()
        self._policy.observe(first)

    def _go_on(self, before: Observation, now: Observation) -> int:
        """Observe the next frame, after filling the gap before it; returns how often the last frame was repeated."""
        self._newest = now
        if now.time > before.time:
            # a gap counts as one control step: its frames are repeated
            self._intervals.append(min(now.time - before.time, self._contract.period_s))
        control_step = round((now.time - self._started_at) / self._contract.period_s)
        if control_step <= self._control_step:
            if now.instruction != before.instruction:
                # System 2 learns of a new prompt at once; the frame counts as that of the next control step
                self._control_step += 1
                self._policy.observe(now)
            return 0
        missing = control_step - self._control_step - 1
        too_many = missing - self._contract.history_steps  # more than a clip spans changes nothing
        if too_many > 0:
            missing -= too_many - too_many % self._rhythm
        self._control_step = control_step
        for _ in range(missing):
            self._policy.observe(before)
        self._policy.observe(now)
        return missing


def _is_same(one: Observation, other: Observation) -> bool:
    """Whether an observation was sent again, perhaps with another prompt."""
    pairs = [(one.state, other.state), *((image, other.images.get(name)) for name, image in one.images.items())]
    return one.images.keys() == other.images.keys() and all(np.array_equal(a, b) for a, b in pairs)


class System2Session:
    """System 2 alone, for a robot that runs System 1 itself. Keeps only the time of the newest clips.

    Args:
        perceive: clips and the instruction -> tokens.
        check: raises ValueError for an instruction that System 2 cannot read.
    """

    def __init__(
        self,
        perceive: Callable[[dict[str, Video], list[str]], Tokens],
        contract: Contract,
        *,
        check: Callable[[str], None] = lambda instruction: None,
    ):
        self.is_first = True
        self._perceive = perceive
        self._contract = contract
        self._check = check
        self._newest: Clips | None = None

    def answer(self, message: Any) -> dict[str, Any]:
        """Perceive the clips.

        Returns:
            `tokens`, float32 `[1 n d]`, their `mask`, and `observed_at` and `episode` of the message.

        Raises:
            MessageError: the message is wrong, or older than the one before it.
        """
        clips = read_clips(message, self._contract)
        before = self._newest
        if before and (clips.episode, clips.time) < (before.episode, before.time):
            raise MessageError(
                f"clips come in order: episode {clips.episode} at {clips.time:.6f} s was sent after "
                f"episode {before.episode} at {before.time:.6f} s"
            )
        try:
            self._check(clips.prompt)
        except ValueError as problem:
            raise MessageError(str(problem)) from problem
        started = time.perf_counter()
        tokens = self._perceive(clips.videos, [clips.prompt])
        self._newest = clips
        self.is_first = False
        return {
            "tokens": tokens.data.float().cpu().numpy(),
            "mask": tokens.mask.cpu().numpy(),
            "observed_at": clips.time,
            "episode": clips.episode,
            "policy_timing": {"perceive_ms": 1000 * (time.perf_counter() - started)},
        }

    def close(self) -> None:
        """Nothing to end."""
