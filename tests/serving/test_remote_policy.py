"""A served policy as a `Policy`: the same plans, bounded waits, and connections that come back."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from serving_fakes import CONTRACT, PERIOD_S, CountingPolicy, free_port, observation, serving

from video2act import Runner
from video2act.config import PolicyConfig
from video2act.evaluation.served import ServedSystem
from video2act.interfaces import HoldError, NoPlanError, Policy
from video2act.refresh_rule import RefreshSpec
from video2act.serving.client import RemoteError, RemotePolicy, RemoteSystem2
from video2act.serving.contract import Contract
from video2act.serving.conversation import FEW
from video2act.serving.server import Server
from video2act.serving.session import PolicySession, System2Session
from video2act.types import Observation, VideoCondition


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_it_is_a_policy(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        assert isinstance(policy, Policy)
        assert policy.contract == CONTRACT


def test_every_frame_reaches_the_server_and_plans_are_of_their_observation(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        for episode in range(3):
            policy.reset()
            for step in range(12):
                now = observation(100 * episode + step)
                policy.observe(now)
                if step % 4 == 0:
                    chunk = policy.infer(now)
                    # the number of frames of this episode, and the state of this observation
                    assert chunk.actions.tolist() == [[step + 1.0, 100.0 * episode + step]] * 4
                    assert chunk.observed_at == now.time
                    assert chunk.period == PERIOD_S


def test_an_observation_of_its_own_can_be_planned_on(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        policy.observe(observation(0))
        assert policy.infer(observation(1)).actions[0].tolist() == [2.0, 1.0]


def test_the_first_frame_is_shown_though_a_plan_was_asked_for_before_any():
    """It had the number of the observation planned on, and was taken for one that was sent."""
    there = CountingPolicy()
    with serving(lambda: PolicySession(there, CONTRACT)) as server, closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        policy.infer(observation(0))
        for step in (1, 2):
            policy.observe(observation(step))
        policy.infer(observation(2))
    assert [int(seen.images["front"].max()) for seen in there.seen] == [0, 1, 2]


def test_a_plan_that_is_asked_for_late_is_made_on_what_is_newest(server: Server):
    """Planning beside the control loop: newer frames have been sent, and time must not run backwards."""
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        seen = [observation(step) for step in range(4)]
        for now in seen:
            policy.observe(now)
            policy.infer(now)
        assert policy.infer(seen[1]).actions[0].tolist() == [4.0, 3.0]


@pytest.mark.parametrize("step", [0, 1], ids=["backwards", "still"])
def test_a_time_that_does_not_rise_is_refused_before_it_is_sent(server: Server, step: int):
    """The plan of the frame before passed for that of this one, where both calls came in direct succession."""
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        for good in (0, 1):
            policy.observe(observation(good))
        with pytest.raises(ValueError, match=r"Observation\.time must rise"):
            policy.observe(observation(step))
        policy.observe(observation(2))
        assert policy.infer(observation(2)).actions[0].tolist() == [3.0, 2.0]
        policy.reset()
        policy.observe(observation(0))


def test_an_episode_whose_first_frame_is_refused_is_not_counted_to_the_one_before(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        for step in range(5):
            policy.observe(observation(step))
            policy.infer(observation(step))
        policy.reset()
        wrong = Observation({"front": np.zeros((8, 8, 3), np.uint8)}, np.zeros(2, np.float32), "push", 5 * PERIOD_S)
        policy.observe(wrong)
        with pytest.raises(RemoteError):
            policy.infer(wrong)
        policy.observe(observation(6))
        assert policy.infer(observation(6)).actions[0].tolist() == [1.0, 6.0]


def test_observing_never_waits():
    slow = CountingPolicy()
    slow.gate = threading.Event()
    with serving(lambda: PolicySession(slow, CONTRACT)) as server, closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        policy.observe(observation(0))
        asking = threading.Thread(target=policy.infer, args=(observation(0),))
        asking.start()
        assert slow.is_planning.wait(30)
        started = time.perf_counter()
        for step in range(1, 200):
            policy.observe(observation(step))
        assert time.perf_counter() - started < 5.0  # waiting for the gate would take 30
        slow.gate.set()
        asking.join()
        # what is sent is no backlog: the frames that a clip can reach back to, the newest last
        assert policy.infer(observation(199)).actions[0, 1] == 199.0
        assert len({seen.time for seen in slow.seen}) <= FEW + CONTRACT.history_steps + 1


def test_what_cannot_be_sent_is_raised_where_it_is_given_and_the_link_stays(server: Server):
    """One tensor of torch ended the link for good, and the next call said so, not this one."""
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        wrong = observation(0)
        object.__setattr__(wrong, "state", torch.zeros(2))  # not by the constructor, which checks types in tests
        for give in (policy.observe, policy.infer):
            with pytest.raises(TypeError, match=r"'state' cannot be sent: .* numpy arrays, got Tensor"):
                give(wrong)
        policy.observe(observation(1))
        assert policy.infer(observation(1)).actions[0].tolist() == [1.0, 1.0]
        assert not policy.incidents


def test_a_frame_is_sent_as_it_was_when_it_was_given():
    """A camera may draw its next image into the same memory, while the frame waits to be sent."""
    slow = CountingPolicy()
    slow.gate = threading.Event()
    with serving(lambda: PolicySession(slow, CONTRACT)) as server, closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        asking = threading.Thread(target=policy.infer, args=(observation(0),))
        asking.start()
        assert slow.is_planning.wait(30)
        now = observation(7)
        policy.observe(now)
        now.images["front"][:] = 99
        now.state[:] = 99
        slow.gate.set()
        asking.join()
        policy.infer(observation(8))
        assert (slow.seen[-2].images["front"].max(), slow.seen[-2].state[0]) == (7, 7.0)


def test_closing_ends_a_wait_for_a_plan_and_further_calls_say_that_it_is_closed():
    """Who waited was left waiting, and waited again at each further call."""
    slow = CountingPolicy()
    slow.gate = threading.Event()
    with serving(lambda: PolicySession(slow, CONTRACT)) as server:
        policy = RemotePolicy(server.address)
        policy.reset()
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                policy.infer(observation(0))
            except ConnectionError as error:
                failures.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        assert slow.is_planning.wait(30)
        policy.close()
        asking.join(5)
        slow.gate.set()
        assert "has been closed; make a new RemotePolicy" in str(failures[0])
        for give in (policy.observe, policy.infer):
            with pytest.raises(ConnectionError, match="has been closed"):
                give(observation(1))
        policy.close()


def test_what_the_server_refuses_is_raised_and_the_next_plan_comes(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        wrong = Observation({"front": np.zeros((8, 8, 3), np.uint8)}, np.zeros(2, np.float32), "push", 0.0)
        policy.observe(wrong)
        with pytest.raises(RemoteError, match="8x8 are too small for 16x16"):
            policy.infer(wrong)
        policy.observe(observation(1))
        assert policy.infer(observation(1)).actions[0, 1] == 1.0


def test_a_frame_that_the_server_has_no_condition_of_yet_does_not_end_the_connection():
    """A server whose System 2 was at another client's refresh ended the robot's program."""

    class Busy(CountingPolicy):
        def observe(self, observation: Observation) -> None:
            super().observe(observation)
            if len(self.seen) == 1:
                raise HoldError("System 2 has been at another refresh for more than 60 s", "system2_busy")

    with serving(lambda: PolicySession(Busy(), CONTRACT)) as server, closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        policy.observe(observation(0))
        deadline = time.monotonic() + 5
        while not policy.incidents and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "at another refresh" in policy.incidents[0].text
        policy.observe(observation(1))
        assert policy.infer(observation(1)).actions[0].tolist() == [2.0, 1.0]
        assert len(policy.incidents) == 1


def test_an_error_of_the_policy_is_raised(server: Server):
    with closing(RemotePolicy(server.address)) as policy:
        policy.reset()
        with pytest.raises(RemoteError, match="FileNotFoundError: the instruction 'fail' has no embedding"):
            policy.infer(observation(0, "fail"))


def test_a_server_that_starts_anew_is_shown_the_clip_again():
    port = free_port()
    with ExitStack() as ending:
        with serving(port=port) as first:
            policy = ending.enter_context(closing(RemotePolicy(first.address, timeout_s=10.0)))
            policy.reset()
            for step in range(20):
                policy.observe(observation(step))
                assert policy.infer(observation(step)).actions[0].tolist() == [step + 1.0, step]
        policy.observe(observation(20))
        threading.Timer(0.3, lambda: ending.enter_context(serving(port=port))).start()
        policy.observe(observation(21))
        # as many frames as a clip reaches back to, and the one planned on
        assert policy.infer(observation(21)).actions[0].tolist() == [CONTRACT.history_steps + 1.0, 21.0]
        assert any("trying again" in incident.text for incident in policy.incidents)


def test_a_lost_server_is_an_error_within_bounds():
    with serving() as server:
        policy = RemotePolicy(server.address, timeout_s=0.5)
        policy.reset()
        policy.observe(observation(0))
        policy.infer(observation(0))
    started = time.perf_counter()
    with pytest.raises(TimeoutError, match=r"no plan from ws://127.0.0.1:\d+ within 0.5 s; last: .*trying again"):
        policy.infer(observation(1))
    assert time.perf_counter() - started < 1.0
    policy.close()


def test_a_server_that_hangs_is_an_error_within_bounds():
    policy_there = CountingPolicy()
    with ExitStack() as ending:
        server = ending.enter_context(serving(lambda: PolicySession(policy_there, CONTRACT)))
        with closing(RemotePolicy(server.address, timeout_s=0.3)) as policy:
            policy.reset()
            policy.infer(observation(0))
            policy_there.gate = threading.Event()
            with pytest.raises(TimeoutError, match="no plan from"):
                policy.infer(observation(1))
            policy_there.gate.set()
            policy_there.gate = None
            assert policy.infer(observation(2)).actions[0, 1] == 2.0


def test_a_late_answer_is_not_taken_for_a_new_one():
    policy_there = CountingPolicy()
    with ExitStack() as ending:
        server = ending.enter_context(serving(lambda: PolicySession(policy_there, CONTRACT)))
        with closing(RemotePolicy(server.address, timeout_s=0.2, first_plan_timeout_s=5.0)) as policy:
            policy.reset()
            policy.infer(observation(0))
            policy_there.gate = threading.Event()
            with pytest.raises(TimeoutError):
                policy.infer(observation(1))
            policy.reset()
            policy_there.gate.set()
            for step in range(50, 60):
                assert policy.infer(observation(step)).actions[0, 1] == step


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "an API key is needed"), ({"api_key": "wrong"}, "the API key is wrong")],
)
def test_a_wrong_key_is_told_at_once(options: dict[str, Any], reason: str):
    with serving(api_key="secret") as server:
        with pytest.raises(ConnectionError, match=f"refused with 401 Unauthorized: {reason}"):
            RemotePolicy(server.address, **options)
        RemotePolicy(server.address, api_key="secret").close()


def test_nobody_there_is_an_error_within_bounds_and_the_wait_is_not_silent(caplog: pytest.LogCaptureFixture):
    started = time.perf_counter()
    with pytest.raises(ConnectionError, match=r"no policy is served there: .*Connection refused") as refused:
        RemotePolicy(f"ws://127.0.0.1:{free_port()}", first_plan_timeout_s=0.5)
    assert "trying again" not in str(refused.value), "it has given up"
    assert "for 0.5 s (first_plan_timeout_s)" in str(refused.value)
    assert time.perf_counter() - started < 2.0
    assert "trying again in" in caplog.text, "a robot's program says why it waits"


@pytest.mark.parametrize(
    ("address", "right"),
    [("robot:8000", "ws://robot:8000"), ("http://robot:8000", "ws://robot:8000"), ("https://robot", "wss://robot")],
)
def test_no_address_is_an_error_at_once_that_names_the_right_one(address: str, right: str):
    """It said that no policy was served there, and to start one."""
    with pytest.raises(ValueError, match=f"^{address} is no address .* begins with ws://; use {right}$"):
        RemotePolicy(address)
    with pytest.raises(ValueError, match=f"use {right}$"):
        RemoteSystem2(address, RefreshSpec((), 1, 20.0))


def test_system2_alone_is_no_policy(small_config: PolicyConfig):
    contract = Contract.of(small_config, "system2")
    make = lambda: System2Session(lambda clips, instruction: None, contract)  # type: ignore[arg-type,return-value]  # noqa: E731
    with serving(make, contract) as server, pytest.raises(ValueError, match=r"serves System 2 alone .* not a policy"):
        RemotePolicy(server.address)


def test_another_policy_in_its_place_is_not_driven_with():
    port = free_port()
    with serving(port=port) as first:
        policy = RemotePolicy(first.address, timeout_s=5.0)
        policy.reset()
        policy.infer(observation(0))
    other = replace(CONTRACT, horizon=8)
    with serving(contract=other, port=port), pytest.raises(ConnectionError, match="another policy answers there now"):
        policy.infer(observation(1))
    policy.close()


def test_a_robot_holds_while_its_server_is_away():
    """Under Runner: the plan runs out, the last target is held, and a server that comes back drives it again."""
    port = free_port()
    with ExitStack() as ending:
        with serving(port=port) as first:
            policy = ending.enter_context(closing(RemotePolicy(first.address, timeout_s=0.2)))
            runner = ending.enter_context(Runner(policy, execute_steps=2))
            runner.reset()
            assert runner.rates.system2_hz is None
            last = [runner.step(observation(step)) for step in range(4)][-1]
        for step in range(4, 8):
            decision = runner.decide(observation(step))
            assert decision.is_held
        np.testing.assert_array_equal(decision.action, last)
        assert "connection" in runner.incidents.counts
        ending.enter_context(serving(port=port))
        policy._timeout_s = 10.0  # pauses between attempts grow
        assert not runner.decide(observation(8)).is_held
        assert runner.rates.system2_hz is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_staleness_s": 0.5, "when_stale": "error"}, "max_staleness_s, when_stale"),
        ({"hang_timeout_s": 1.0}, "hang_timeout_s"),
        ({"system2": "thread"}, "system2"),
    ],
)
def test_options_of_system2_are_not_ignored_for_a_served_policy(server: Server, options: dict[str, Any], named: str):
    """A limit of staleness was taken without a word, and the robot went on with a System 2 that hung."""
    told = f"so {named} would have no effect: leave it out.*serve --max-staleness-s"
    with closing(RemotePolicy(server.address)) as policy, pytest.raises(ValueError, match=told):
        Runner(policy, **options)


def test_no_more_steps_are_executed_than_a_plan_has(server: Server):
    told = "execute_steps=9, but a plan of this policy has 4 actions.*at most 4"
    with closing(RemotePolicy(server.address)) as policy, pytest.raises(ValueError, match=told):
        Runner(policy, execute_steps=9)


def test_the_first_plan_of_an_absent_server_is_an_error_under_runner():
    with serving() as server:
        policy = RemotePolicy(server.address, timeout_s=0.2, first_plan_timeout_s=1.0)
    with closing(policy), Runner(policy) as runner:
        runner.reset()
        with pytest.raises(NoPlanError, match=r"no plan from .*There is no earlier target to hold"):
            runner.step(observation(0))


def test_an_evaluation_ends_with_a_server_that_goes_away():
    with serving() as server:
        policy = RemotePolicy(server.address, timeout_s=0.2, first_plan_timeout_s=0.5)
    with closing(policy):
        system = ServedSystem(policy)
        system.begin_episode()
        system.observe(observation(0))
        with pytest.raises(TimeoutError, match="no plan from") as caught:
            system.act(observation(0), VideoCondition(system.perceive({}, ["push"]), 0.0, 0))
        assert not isinstance(caught.value, HoldError)
