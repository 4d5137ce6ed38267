"""What a robot says to a served policy over a long way, or to a server that cannot follow it."""

import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from serving_fakes import CONTRACT, PERIOD_S, CountingPolicy, far_away, free_port, observation, serving

from video2act import Runner
from video2act.interfaces import NoPlanError
from video2act.serving.client import RemotePolicy
from video2act.serving.conversation import MANY, Conversation
from video2act.serving.link import Connection
from video2act.serving.session import PolicySession
from video2act.types import Observation

FAST = replace(CONTRACT, history_steps=32, horizon=16, execute_steps=4)


class FastPolicy(CountingPolicy):
    """With plans of `FAST`."""

    def infer(self, observation: Observation) -> Any:
        return replace(super().infer(observation), actions=np.full((16, 2), float(len(self.seen))))


class SlowSession(PolicySession):
    """Takes two control steps for each message."""

    def answer(self, message: Any) -> dict[str, Any]:
        time.sleep(2 * PERIOD_S)
        return super().answer(message)


def test_a_robot_gets_plans_and_shows_every_frame_though_the_round_trip_exceeds_a_control_step():
    """Each frame's answer was awaited before the next was sent: frames piled up, and plans ceased for good."""
    there, new_plans = FastPolicy(), []
    with (
        serving(lambda: PolicySession(there, FAST), FAST) as server,
        far_away(server, 1.6 * PERIOD_S) as address,
        closing(RemotePolicy(address, timeout_s=5.0)) as policy,
        Runner(policy, system1="thread") as runner,
    ):
        runner.reset()
        began = time.monotonic()
        for step in range(60):
            time.sleep(max(0.0, began + step * PERIOD_S - time.monotonic()))
            if runner.decide(observation(step)).is_new_plan:
                new_plans.append(step)
        policy.infer(observation(60))
    assert new_plans[-1] > 50
    assert len({frame.time for frame in there.seen}) > 50  # all 61, unless this machine is busy


def test_a_plan_does_not_wait_for_frames_that_a_slow_server_cannot_take():
    """A plan waited for all frames before it, and came when nobody wanted it any more. Frames are left out instead, and
    the server repeats the one before: a clip spans the same seconds."""
    there = FastPolicy()
    plans = []
    with (
        serving(lambda: SlowSession(there, FAST), FAST) as server,
        closing(RemotePolicy(server.address, timeout_s=5.0)) as policy,
    ):
        policy.reset()
        steps = iter(range(60))
        policy.observe(observation(next(steps)))
        policy.infer(observation(0))
        newest, is_over = [0], threading.Event()

        def plan() -> None:
            while not is_over.is_set():
                chunk = policy.infer(observation(newest[0]))
                plans.append((newest[0], chunk.observed_at / PERIOD_S, chunk.actions[0, 0]))

        planning = threading.Thread(target=plan)
        planning.start()
        for step in steps:
            time.sleep(PERIOD_S)
            policy.observe(observation(step))
            newest[0] = step
        is_over.set()
        planning.join()
    assert len(plans) >= 3
    for newest_step, planned_step, num_frames in plans:
        assert newest_step - planned_step < FAST.horizon  # it was 64: two steps for each of the last 32 frames
        assert num_frames == round(planned_step) + 1, "frames and repeats are as many as control steps"


def test_no_frame_is_left_out_while_the_robot_waits_for_its_plan():
    """An evaluation stands still until the plan is there, so a slow server sees everything."""
    there = FastPolicy()
    with (
        serving(lambda: SlowSession(there, FAST), FAST) as server,
        closing(RemotePolicy(server.address, timeout_s=30.0)) as policy,
    ):
        policy.reset()
        for step in range(25):
            policy.observe(observation(step))
            if step % 12 == 0:
                policy.infer(observation(step))
    assert [round(frame.time / PERIOD_S) for frame in there.seen] == list(range(25))


class SlowRefresh(FastPolicy):
    """Its first frame takes as long as a first refresh within the plans does."""

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        if len(self.seen) == 1:
            time.sleep(0.6)


def test_a_frame_may_take_as_long_as_a_first_plan_until_its_episode_has_one():
    """With `serve --system2 inline` the first frame waits for System 2: the client gave up after `timeout_s`, sent it
    again, and never came to an end."""
    with (
        serving(lambda: PolicySession(SlowRefresh(), FAST), FAST) as server,
        closing(RemotePolicy(server.address, timeout_s=0.2, first_plan_timeout_s=20.0)) as policy,
    ):
        for _ in range(2):
            policy.reset()
            policy.observe(observation(0))
            time.sleep(0.1)  # it is sent by itself, before a plan is asked for
            policy.infer(observation(0))
        assert not policy.incidents


def test_after_a_reconnection_the_first_refresh_is_waited_for_too():
    """The server's new episode has no condition yet, though the robot has had plans."""
    port = free_port()
    with ExitStack() as ending:
        with serving(lambda: PolicySession(FastPolicy(), FAST), FAST, port=port) as first:
            remote = RemotePolicy(first.address, timeout_s=0.2, first_plan_timeout_s=20.0)
            policy = ending.enter_context(closing(remote))
            policy.reset()
            policy.infer(observation(0))
        there = SlowRefresh()
        ending.enter_context(serving(lambda: PolicySession(there, FAST), FAST, port=port))
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            with suppress(NoPlanError):
                policy.infer(observation(1))
                break
        assert there.num_episodes == 1


def test_answers_that_nobody_asked_for_are_not_kept():
    """A server that talks without end filled the robot's memory, while the robot waited to be asked for an action."""
    said = count()

    class Talkative(Connection):
        def __init__(self) -> None:
            self.contract = CONTRACT

        def receive(self) -> dict[str, Any]:
            return {"number": next(said)}

    before = set(threading.enumerate())
    Conversation(Talkative(), threading.Condition(), owed=(0, 0), timeout_s=1.0, first_plan_timeout_s=1.0)
    for listener in set(threading.enumerate()) - before:
        listener.join(10.0)
        assert not listener.is_alive()
    assert next(said) <= MANY + 1
