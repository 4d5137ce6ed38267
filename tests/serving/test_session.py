"""What a message does to a policy: episodes, time, gaps. No network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from serving_fakes import CONTRACT, PERIOD_S, CountingPolicy, message

from video2act.config import PolicyConfig
from video2act.interfaces import HoldError
from video2act.limits import Limits
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.serving.session import PolicySession, System2Session
from video2act.types import ActionChunk, Observation, Tokens, Video


@pytest.fixture
def policy() -> CountingPolicy:
    return CountingPolicy()


@pytest.fixture
def session(policy: CountingPolicy) -> PolicySession:
    return PolicySession(policy, CONTRACT)


def at(step: float, **words: Any) -> dict[str, Any]:
    return message(step, time=100.0 + step * PERIOD_S, **words)


def frames(policy: CountingPolicy) -> list[float]:
    """The numbers of the observations the policy has been shown in this episode."""
    return [float(seen.state[0]) for seen in policy.seen]


def test_a_connection_is_an_episode(session: PolicySession, policy: CountingPolicy):
    answer = session.answer(at(0))
    assert policy.num_episodes == 1
    assert answer["actions"].dtype == np.float32
    assert answer["actions"].tolist() == [[1.0, 0.0]] * 4
    assert answer["observed_at"] == 100.0
    assert answer["period_s"] == PERIOD_S
    assert set(answer["policy_timing"]) == {"observe_ms", "infer_ms"}


def test_reset_begins_another_one(session: PolicySession, policy: CountingPolicy):
    session.answer(at(0))
    session.answer(at(5, reset=True))
    assert policy.num_episodes == 2
    assert frames(policy) == [5.0]


def test_reset_with_the_first_message_begins_no_second_episode(session: PolicySession, policy: CountingPolicy):
    session.answer(at(0, reset=True))
    assert policy.num_episodes == 1


def test_the_clock_may_go_back_with_a_reset(session: PolicySession, policy: CountingPolicy):
    session.answer(at(10))
    session.answer(at(0, reset=True))
    assert frames(policy) == [0.0]


def test_without_a_plan_there_are_no_actions(session: PolicySession, policy: CountingPolicy):
    answer = session.answer(at(0, plan=False))
    assert "actions" not in answer
    assert frames(policy) == [0.0]


def test_a_plan_can_be_asked_for_afterwards(session: PolicySession, policy: CountingPolicy):
    session.answer(at(3, plan=False))
    assert session.answer({"plan": True})["actions"][0].tolist() == [1.0, 3.0]
    assert frames(policy) == [3.0]


def test_there_must_be_something_to_plan_on(session: PolicySession):
    with pytest.raises(MessageError, match="nothing to plan on: send an observation first"):
        session.answer({"plan": True})


def test_gaps_are_filled_with_the_frame_before(session: PolicySession, policy: CountingPolicy):
    assert session.answer(at(0))["frames_repeated"] == 0
    assert session.answer(at(1))["frames_repeated"] == 0
    assert session.answer(at(4))["frames_repeated"] == 2
    assert frames(policy) == [0.0, 1.0, 1.0, 1.0, 4.0]


def test_a_repeated_frame_keeps_its_own_time(session: PolicySession, policy: CountingPolicy):
    """A condition made of it is as old as what was seen."""
    session.answer(at(0))
    session.answer(at(3))
    assert [seen.time for seen in policy.seen] == [100.0, 100.0, 100.0, 100.0 + 3 * PERIOD_S]


def test_a_long_gap_is_filled_as_far_as_a_clip_reaches(session: PolicySession, policy: CountingPolicy):
    session.answer(at(0))
    assert session.answer(at(1e6))["frames_repeated"] == CONTRACT.history_steps
    assert len(policy.seen) == CONTRACT.history_steps + 2


def test_a_long_gap_keeps_the_rhythm_in_which_streams_look(policy: CountingPolicy):
    """The newest frame of a clip was then one that training would not have shown."""
    session = PolicySession(policy, CONTRACT, rhythm=8)
    session.answer(at(0))
    for step in (3, 105, 1110):
        session.answer(at(step))
        assert (len(policy.seen) - 1) % 8 == step % 8
    assert len(policy.seen) < 60


def test_two_observations_in_one_control_step_are_one_frame(session: PolicySession, policy: CountingPolicy):
    session.answer(at(0))
    answer = session.answer(at(0.4))
    assert frames(policy) == [0.0]
    assert answer["actions"][0].tolist() == pytest.approx([1.0, 0.4])
    assert answer["observed_at"] == pytest.approx(100.02)


def test_jitter_neither_drops_nor_repeats(session: PolicySession, policy: CountingPolicy):
    rng = np.random.default_rng(0)
    session.answer(at(0))
    for step in range(1, 50):
        session.answer(at(step + rng.uniform(-0.4, 0.4)))
    assert len(policy.seen) == 50


def test_a_clock_that_runs_backwards_is_refused_and_changes_nothing(session: PolicySession, policy: CountingPolicy):
    session.answer(at(2))
    with pytest.raises(MessageError, match=r"time runs backwards: 100\.050000 s after 100\.100000 s"):
        session.answer(at(1))
    session.answer(at(3))
    assert frames(policy) == [2.0, 3.0]


def test_a_clock_that_stands_still_is_refused_and_changes_nothing(session: PolicySession, policy: CountingPolicy):
    """System 2 saw the first frame for ever, and nothing said so."""
    session.answer(at(2))
    with pytest.raises(MessageError, match=r"time stands still: two observations of 100\.100000 s"):
        session.answer(message(3, time=100.0 + 2 * PERIOD_S))
    session.answer(at(3))
    assert frames(policy) == [2.0, 3.0]


def test_an_observation_that_is_sent_again_is_planned_on_again(session: PolicySession, policy: CountingPolicy):
    session.answer(at(2, plan=False))
    assert session.answer(at(2))["actions"][0].tolist() == [1.0, 2.0]
    assert frames(policy) == [2.0]


@pytest.mark.parametrize("every", [1, 4, 0.5])
def test_observations_that_come_too_fast_are_told(session: PolicySession, every: float):
    """Every other one is no frame for System 2. A client that asks every few control steps leaves gaps, which is
    allowed."""
    answers = [session.answer(at(every * step)) for step in range(12)]
    told = ["control_rate" in answer for answer in answers]
    assert told == ([False] * 10 + [True] * 2 if every == 0.5 else [False] * 12)
    assert (
        every != 0.5 or "the control loop runs at 40 Hz, and the training data at 20 Hz" in answers[-1]["control_rate"]
    )


def test_frames_of_another_size_than_in_training_are_told(policy: CountingPolicy):
    """Only a `Runner` noted them."""
    contract = replace(CONTRACT, frame_sizes=dict.fromkeys(CONTRACT.cameras, (480, 640)))
    answer = PolicySession(policy, contract).answer(at(0))
    assert "the training data are 640x480" in answer["image_size"]
    assert "image_size" not in PolicySession(policy, CONTRACT).answer(at(0))


def test_clocks_are_not_mixed(session: PolicySession):
    session.answer(at(0))
    with pytest.raises(MessageError, match="'time' must be in every message of an episode or in none"):
        session.answer(message())


def test_without_a_clock_the_servers_counts(policy: CountingPolicy):
    clock = iter([5.0, 5.0 + PERIOD_S, 5.0 + 4 * PERIOD_S])
    session = PolicySession(policy, CONTRACT, clock=lambda: next(clock))
    assert [session.answer(message(step))["frames_repeated"] for step in range(3)] == [0, 0, 2]


def test_a_refused_message_changes_nothing(session: PolicySession, policy: CountingPolicy):
    session.answer(at(0))
    with pytest.raises(MessageError):
        session.answer(at(1, state=np.zeros(7), reset=True))
    assert policy.num_episodes == 1
    assert frames(policy) == [0.0]


LIMITS = Limits((0.0, -1.0), (0.5, 1.0))


def test_actions_outside_the_limits_are_clamped_and_counted(policy: CountingPolicy):
    answer = PolicySession(policy, CONTRACT, limits=LIMITS).answer(at(0))
    assert answer["actions"].tolist() == [[0.5, 0.0]] * 4
    assert answer["actions"].dtype == np.float32
    assert answer["actions_clamped"] == 4


def test_a_plan_outside_the_limits_is_held_if_that_is_asked_for(policy: CountingPolicy):
    session = PolicySession(policy, CONTRACT, limits=LIMITS, outside="hold")
    with pytest.raises(HoldError, match=r"number 0 of action 0 is 1, outside the limits 0 to 0\.5"):
        session.answer(at(0))
    inside = PolicySession(CountingPolicy(), CONTRACT, limits=Limits((0.0, 0.0), (9.0, 9.0)), outside="hold").answer(
        at(1)
    )
    assert inside["actions_clamped"] == 0


def test_numbers_that_are_not_finite_are_not_sent(session: PolicySession):
    with pytest.raises(ValueError, match="planned a number that is not finite; the plan was not sent"):
        session.answer(message(prompt="diverge"))


def test_a_plan_is_made_on_the_newest_observation_within_a_control_step(session: PolicySession, policy: CountingPolicy):
    """It is no frame of its own, and still what the robot sees now."""
    session.answer(at(0, plan=False))
    session.answer(at(0.4, plan=False))
    assert session.answer({"plan": True})["actions"][0].tolist() == pytest.approx([1.0, 0.4])
    with pytest.raises(MessageError, match=r"100\.010000 s after 100\.020000 s"):
        session.answer(at(0.2))


def test_two_messages_of_one_moment_are_in_order(session: PolicySession, policy: CountingPolicy):
    session.answer(at(3))
    assert session.answer(at(3))["frames_repeated"] == 0
    assert frames(policy) == [3.0]


def test_drift_is_counted_from_the_beginning_of_the_episode(session: PolicySession, policy: CountingPolicy):
    """Robots that are a little slow: 0.8 of a control step more each time are 8 steps in ten."""
    for number in range(11):
        session.answer(at(0.8 * number))
    assert len(policy.seen) == 9
    session.answer(at(50, reset=True))
    assert session.answer(at(51))["frames_repeated"] == 0
    assert frames(policy) == [50.0, 51.0]


def test_an_instruction_that_changes_within_a_control_step_is_seen_at_once(
    session: PolicySession, policy: CountingPolicy
):
    session.answer(at(0))
    session.answer(at(0.2, prompt="pull"))
    assert [seen.instruction for seen in policy.seen] == ["push", "pull"]
    session.answer(at(0.4, prompt="pull"))
    session.answer(at(1, prompt="pull"))
    assert [seen.instruction for seen in policy.seen] == ["push", "pull"]
    session.answer(at(2, prompt="pull"))
    assert len(policy.seen) == 3


def test_an_episode_waits_for_its_first_plan(session: PolicySession):
    waits = [session.is_first]
    for message_ in (at(0, plan=False), at(1), at(2), at(3, reset=True, plan=False), at(4)):
        session.answer(message_)
        waits.append(session.is_first)
    assert waits == [True, True, False, False, True, False]


def test_what_the_policy_cannot_use_is_the_messages_fault_and_changes_nothing(policy: CountingPolicy):
    def check(observation: Observation) -> None:
        if observation.instruction == "odd":
            raise ValueError("no embedding for 'odd'")

    session = PolicySession(policy, CONTRACT, check=check)
    session.answer(at(0))
    for words in ({}, {"reset": True}):
        with pytest.raises(MessageError, match="no embedding for 'odd'"):
            session.answer(at(1, prompt="odd", **words))
    assert policy.num_episodes == 1
    assert frames(policy) == [0.0]
    assert session.answer(at(1))["frames_repeated"] == 0


def test_an_answer_says_for_when_its_plan_is(policy: CountingPolicy, monkeypatch: pytest.MonkeyPatch):
    """Not for the message: a policy may answer with a plan that it has made on an earlier observation."""
    monkeypatch.setattr(
        policy, "infer", lambda seen: ActionChunk(np.zeros((4, 2), np.float32), seen.time - 0.02, PERIOD_S)
    )
    answer = PolicySession(policy, CONTRACT).answer(at(0))
    assert answer["observed_at"] == pytest.approx(99.98)
    assert "actions_clamped" not in answer


def test_durations_are_in_milliseconds(session: PolicySession, monkeypatch: pytest.MonkeyPatch):
    ticks = iter([1.0, 1.25, 2.0, 2.5])
    monkeypatch.setattr("video2act.serving.session.time.perf_counter", lambda: next(ticks))
    assert session.answer(at(0))["policy_timing"] == {"observe_ms": 250.0, "infer_ms": 500.0}


def test_of_a_plan_that_is_clamped_actions_are_counted_not_numbers(policy: CountingPolicy):
    limits = Limits((0.0, 0.0), (0.5, 0.5))
    assert PolicySession(policy, CONTRACT, limits=limits).answer(at(9))["actions_clamped"] == 4

    policy.infer = lambda seen: ActionChunk(np.array([[0.1, 0.1], [9.0, 0.1], [0.1, 0.1]]), seen.time, PERIOD_S)  # type: ignore[method-assign]
    assert PolicySession(policy, CONTRACT, limits=limits).answer(at(0))["actions_clamped"] == 1
    with pytest.raises(HoldError, match="number 0 of action 1 is 9"):
        PolicySession(policy, CONTRACT, limits=limits, outside="hold").answer(at(1))


class TestSystem2:
    @pytest.fixture
    def session(self, small_config: PolicyConfig) -> System2Session:
        def perceive(clips: dict[str, Video], instruction: list[str]) -> Tokens:
            assert instruction == ["push"]
            return Tokens.all_visible(clips["motion"].grid.mean(dim=(2, 3, 4))[None].to(torch.bfloat16))

        return System2Session(perceive, Contract.of(small_config, "system2"))

    def clips(self, brightness: int, time: float, episode: int) -> dict[str, Any]:
        clips = {"spatial": np.zeros((1, 16, 16, 3), np.uint8), "motion": np.full((9, 16, 16, 3), brightness, np.uint8)}
        return {"clips": clips, "prompt": "push", "time": time, "episode": episode}

    def test_tokens_say_whose_they_are(self, session: System2Session):
        answer = session.answer(self.clips(255, 2.5, 7))
        assert answer["tokens"].dtype == np.float32
        assert answer["tokens"].tolist() == [[[1.0, 1.0, 1.0]]]
        assert answer["mask"].tolist() == [[True]]
        assert (answer["observed_at"], answer["episode"]) == (2.5, 7)

    @pytest.mark.parametrize(("time", "episode"), [(2.0, 7), (9.0, 6)])
    def test_older_ones_are_refused(self, session: System2Session, time: float, episode: int):
        session.answer(self.clips(0, 2.5, 7))
        with pytest.raises(MessageError, match="clips come in order"):
            session.answer(self.clips(0, time, episode))

    def test_it_waits_for_its_first_clips_and_measures_milliseconds(
        self, session: System2Session, monkeypatch: pytest.MonkeyPatch
    ):
        ticks = iter([1.0, 1.25])
        monkeypatch.setattr("video2act.serving.session.time.perf_counter", lambda: next(ticks))
        assert session.is_first
        assert session.answer(self.clips(0, 2.5, 7))["policy_timing"] == {"perceive_ms": 250.0}
        assert not session.is_first

    def test_what_cannot_be_read_or_failed_changes_nothing(self, small_config: PolicyConfig):
        def check(instruction: str) -> None:
            if instruction == "too long":
                raise ValueError("too long")

        def perceive(clips: dict[str, Video], instruction: list[str]) -> Tokens:
            if instruction == ["fail"]:
                raise ZeroDivisionError
            return Tokens.all_visible(torch.zeros(1, 1, 1))

        session = System2Session(perceive, Contract.of(small_config, "system2"), check=check)
        for prompt, error in (("too long", MessageError), ("fail", ZeroDivisionError)):
            with pytest.raises(error):
                session.answer(self.clips(0, 9.0, 7) | {"prompt": prompt})
            assert session.is_first
        assert session.answer(self.clips(0, 2.5, 7))["observed_at"] == 2.5  # earlier than what was refused

    def test_a_new_episode_may_begin_at_any_time(self, session: System2Session):
        session.answer(self.clips(0, 2.5, 7))
        assert session.answer(self.clips(0, 0.0, 8))["episode"] == 8
