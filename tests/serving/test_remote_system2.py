"""A served System 2 as a slow loop: the same tokens, the newest clip, no other episode, and a server that may come and
go."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from serving_fakes import free_port, serving

from video2act.clips import FrameHistory, to_frames
from video2act.config import PolicyConfig, RuntimeConfig
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.places import System2Source
from video2act.runtime.slow_loop import SlowLoop
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import System2Session
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition


def observation(step: int) -> Observation:
    image = np.full((32, 32, 3), step % 256, np.uint8)
    return Observation({"front": image, "wrist": image}, np.zeros(3, np.float32), "push", step / 20)


class Perceiver:
    """Its token is the brightness of the newest frame."""

    def __init__(self) -> None:
        self.newest: list[int] = []
        self.gate: threading.Event | None = None
        self.error: Exception | None = None

    def __call__(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if self.gate is not None:
            self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.newest.append(round((float(clips["motion"].grid[0, 0, -1, 0, 0]) + 1) * 127.5))
        return Tokens.all_visible(torch.full((1, 1, 1), float(self.newest[-1])))


@pytest.fixture
def perceiver() -> Perceiver:
    return Perceiver()


def connected(address: str, spec: RefreshSpec, answer_timeout_s: float = 10.0, **options: Any) -> SlowLoop:
    """The slow loop of a robot: a thread, and in it a System 2 elsewhere."""
    runtime = RuntimeConfig(hang_timeout_s=answer_timeout_s, **options)
    return System2Source(spec, runtime).start(address, Unused())


class Unused:
    """The policy's own System 2 is not asked."""

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        raise AssertionError("the System 2 of this process was asked")

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        raise AssertionError("no plan was asked for")


@pytest.fixture
def loop_of(small_config: PolicyConfig) -> Callable[..., SlowLoop]:
    def make(server: Server, refresh_every: int = 1, **options: Any) -> SlowLoop:
        assert small_config.system2 is not None
        spec = RefreshSpec(small_config.system2.streams, refresh_every=refresh_every, control_fps=small_config.fps)
        return connected(server.address, spec, **options)

    return make


@pytest.fixture
def system2(small_config: PolicyConfig, perceiver: Perceiver) -> Callable[..., object]:
    """A context: a server of that perceiver."""
    contract = replace(Contract.of(small_config, "system2"), token_dim=1)
    return lambda **options: serving(lambda: System2Session(perceiver, contract), contract, **options)


def wait_until(is_true: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)


def test_frames_survive_the_way(small_config: PolicyConfig):
    assert small_config.system2 is not None
    history = FrameHistory(small_config.system2.streams)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(9)]
    for frame in frames:
        history.append(replace(observation(0), images={"front": frame}))
    assert np.array_equal(to_frames(history.clips(20.0)["motion"]), np.stack(frames))


def test_it_is_a_slow_loop_whose_tokens_are_those_of_the_model(small_config: PolicyConfig, make_policy, loop_of):
    """The same clip gives the same tokens here and there, to the bit."""
    policy: Video2Act = make_policy(small_config)
    contract = Contract.of(small_config, "system2")
    rng = np.random.default_rng(0)
    assert small_config.system2 is not None
    history = FrameHistory(small_config.system2.streams)
    with (
        serving(lambda: System2Session(policy.perceive, contract), contract) as server,
        closing(loop_of(server)) as loop,
    ):
        assert isinstance(loop, SlowLoop)
        loop.reset(4)
        for step in range(12):
            now = replace(observation(step), images={"front": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)})
            loop.observe(now)
            history.append(now)
            wait_until(lambda now=now: loop.condition().observed_at == now.time)
            expected = policy.perceive(history.clips(20.0), ["push"])
            condition = loop.condition()
            assert torch.equal(condition.tokens.data, expected.data)
            assert torch.equal(condition.tokens.mask, expected.mask)
            assert condition.episode == 4
        assert len(loop.perceive_s) == 12


def test_it_refreshes_at_most_every_n_steps(system2, loop_of, perceiver: Perceiver):
    with system2() as server, closing(loop_of(server, refresh_every=4)) as loop:
        loop.reset(0)
        for step in range(9):
            loop.observe(observation(step))
            if step % 4 == 0:
                wait_until(lambda step=step: loop.condition().observed_at == step / 20)
        assert perceiver.newest == [0, 4, 8]


def test_an_episodes_number_that_was_there_before_is_refused(system2, loop_of):
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        with pytest.raises(ValueError, match="episode numbers must increase: got 0 after 0"):
            loop.reset(0)


def test_the_newest_observation_wins(system2, loop_of, perceiver: Perceiver):
    perceiver.gate = threading.Event()
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        time.sleep(0.2)  # the first refresh is on its way
        started = time.perf_counter()
        for step in range(1, 100):
            loop.observe(observation(step))
        assert time.perf_counter() - started < 5.0  # waiting for the gate would take 30
        perceiver.gate.set()
        wait_until(lambda: loop.condition().observed_at == 99 / 20)
        assert perceiver.newest == [0, 99]


def test_only_the_first_condition_of_an_episode_is_waited_for(system2, loop_of, perceiver: Perceiver):
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        assert loop.condition().observed_at == 0.0
        perceiver.gate = threading.Event()
        started = time.perf_counter()
        for step in range(1, 20):
            loop.observe(observation(step))
            assert loop.condition().observed_at == 0.0
        assert time.perf_counter() - started < 5.0  # waiting for the gate would take 30
        perceiver.gate.set()


def test_an_answer_for_an_earlier_episode_is_refused(system2, loop_of, perceiver: Perceiver):
    with system2() as server, closing(loop_of(server)) as loop:
        for episode in range(200):
            loop.reset(episode)
            for step in range(episode % 4 + 1):
                loop.observe(replace(observation(episode), time=float(step)))
            if episode % 3 == 0:
                condition = loop.condition()
                assert condition.episode == episode
                assert condition.tokens.data.item() == episode % 256


def test_a_server_that_dies_shows_in_the_age_and_one_that_returns_is_used(system2, loop_of):
    port = free_port()
    with ExitStack() as ending:
        with system2(port=port) as first:
            loop = ending.enter_context(closing(loop_of(first)))
            loop.reset(0)
            loop.observe(observation(0))
            loop.condition()
        longest = 0.0
        for step in range(1, 40):
            loop.observe(observation(step))
            started = time.perf_counter()
            assert loop.condition().observed_at < step / 20
            longest = max(longest, time.perf_counter() - started)
            time.sleep(0.01)
        assert longest < 1.0
        assert any("next attempt in" in incident.text for incident in loop.incidents)
        ending.enter_context(system2(port=port))
        wait_until(lambda: loop.condition().observed_at == 39 / 20)


def test_a_server_that_hangs_is_noticed_within_bounds(system2, loop_of, perceiver: Perceiver):
    with system2() as server, closing(loop_of(server, answer_timeout_s=0.2)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        loop.condition()
        perceiver.gate = threading.Event()
        loop.observe(observation(1))
        wait_until(lambda: len(loop.incidents) > 0, timeout_s=1.0)
        assert "no answer for 0.2 s; next attempt in 0.1 s" in loop.incidents[0].text
        perceiver.gate.set()
        perceiver.gate = None
        wait_until(lambda: loop.condition().observed_at == 1 / 20)


def test_an_error_of_system2_is_told_if_there_is_no_condition_yet(system2, loop_of, perceiver: Perceiver):
    perceiver.error = RuntimeError("out of memory")
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(
            RuntimeError, match=r"failed 3 times in a row: RemoteError: the policy failed: RuntimeError: out of memory"
        ):
            loop.condition()
        perceiver.error = None
        wait_until(lambda: len(loop.perceive_s) > 0)
        assert loop.condition().observed_at == 0.0


def test_later_errors_are_survived_on_the_last_condition(system2, loop_of, perceiver: Perceiver):
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        loop.condition()
        perceiver.error = RuntimeError("out of memory")
        loop.observe(observation(1))
        wait_until(lambda: len(loop.incidents) > 0)
        assert loop.condition().observed_at == 0.0


def test_a_missing_camera_is_told_where_it_is_missing(system2, loop_of):
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        with pytest.raises(ValueError, match="stream 'spatial' reads camera 'front', but the observation has wrist"):
            loop.observe(replace(observation(0), images={"wrist": np.zeros((32, 32, 3), np.uint8)}))


def test_conditions_are_numbered_within_an_episode(system2, loop_of):
    with system2() as server, closing(loop_of(server)) as loop:
        for episode in range(2):
            loop.reset(episode)
            for step in range(3):
                loop.observe(observation(step))
                wait_until(lambda step=step: loop.condition().observed_at == step / 20)
                assert loop.condition().version == step + 1


def test_nothing_is_sent_on_an_empty_episode(system2, loop_of):
    with system2() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        with pytest.raises(RuntimeError, match="call observe before condition"):
            loop.condition()


def test_a_first_condition_that_does_not_come_is_an_error_within_bounds(system2, loop_of, perceiver: Perceiver):
    perceiver.gate = threading.Event()
    with system2() as server, closing(loop_of(server, first_condition_timeout_s=0.2)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(TimeoutError, match=r"gave no condition for episode 0 within 0.2 s"):
            loop.condition()
        perceiver.gate.set()


def test_another_policys_system2_is_refused(small_config: PolicyConfig, system2):
    assert small_config.system2 is not None
    other = tuple(
        replace(stream, num_frames=1) if stream.name == "spatial" else replace(stream, stride=2)
        for stream in small_config.system2.streams
    )
    with (
        system2() as server,
        closing(connected(server.address, RefreshSpec(other, refresh_every=1, control_fps=small_config.fps))) as loop,
    ):
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(RuntimeError, match="another policy's System 2 is served there"):
            loop.condition()


def test_a_whole_policy_is_refused(loop_of):
    with serving() as server, closing(loop_of(server)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        for episode in (1, 2):
            with pytest.raises(
                RuntimeError, match="a whole policy is served there; start the server with --only system2"
            ):
                loop.condition()
            loop.reset(episode)
            loop.observe(observation(0))
        assert loop.incidents.counts == {"system2_failed": 1}, "it is not tried again"


def test_the_key_comes_from_the_environment(small_config: PolicyConfig, system2, monkeypatch: pytest.MonkeyPatch):
    assert small_config.system2 is not None
    spec = RefreshSpec(small_config.system2.streams, refresh_every=1, control_fps=small_config.fps)
    with system2(api_key="secret") as server:
        monkeypatch.setenv("VIDEO2ACT_API_KEY", "secret")
        with closing(connected(server.address, spec, answer_timeout_s=10.0)) as loop:
            loop.reset(0)
            loop.observe(observation(0))
            assert loop.condition().observed_at == 0.0
        monkeypatch.setenv("VIDEO2ACT_API_KEY", "wrong")
        with closing(connected(server.address, spec, answer_timeout_s=10.0)) as loop:
            loop.reset(0)
            loop.observe(observation(0))
            with pytest.raises(RuntimeError, match="401 Unauthorized: the API key is wrong"):
                loop.condition()


def test_a_server_that_starts_late_is_waited_for(system2, loop_of, small_config: PolicyConfig):
    """Three refused connections, .3 s, ended an episode that would have waited a minute for its first condition."""
    with system2() as server:
        address = server
    with closing(loop_of(address)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        wait_until(lambda: len(loop.incidents) >= 4)
        assert "next attempt" in loop.incidents[-1].text
        with system2(port=address.port):
            assert loop.condition().observed_at == 0.0


def test_a_server_that_stays_away_is_told_at_the_end_of_the_wait(system2, loop_of):
    with system2() as server:
        pass
    with closing(loop_of(server, first_condition_timeout_s=1.0)) as loop:
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(TimeoutError, match=r"it hangs, is away, .* Last incident: .*refused"):
            loop.condition()


def test_how_long_a_hang_may_last_is_said_by_the_runtime(small_config: PolicyConfig, system2, perceiver: Perceiver):
    """--hang-timeout-s went nowhere for a System 2 elsewhere."""
    assert small_config.system2 is not None
    perceiver.gate = threading.Event()
    with (
        system2() as server,
        closing(
            connected(
                server.address,
                RefreshSpec(small_config.system2.streams, refresh_every=1, control_fps=small_config.fps),
                answer_timeout_s=0.2,
            )
        ) as loop,
    ):
        loop.reset(0)
        loop.observe(observation(0))
        wait_until(lambda: len(loop.incidents) > 0)
        assert "no answer for 0.2 s" in loop.incidents[0].text
        perceiver.gate.set()
