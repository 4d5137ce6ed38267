"""Where System 2 may work, as far as no loop has to be started to know."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from runtime_fakes import FPS, MOTION, FakeSystem

from video2act.config import PolicyConfig, RuntimeConfig
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime import places
from video2act.runtime.places import System2Source, check_encoding, check_where, keeps_real_time
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop


@pytest.mark.parametrize("where", ["inline", "thread", "process", "ws://robot:8000", "wss://robot:8000"])
def test_places_that_there_are(where: str):
    check_where(where)


def test_another_place_is_refused():
    with pytest.raises(ValueError, match="inline, in a thread, in a process, or at ws://host:port; got 'gpu'"):
        check_where("gpu")


@pytest.mark.parametrize("where", ["process", "ws://robot:8000"])
def test_an_encoder_that_needs_the_whole_episode_is_not_sent_clips(where: str, small_config: PolicyConfig):
    assert small_config.system2 is not None
    windows = small_config.system2.streams
    spatial, motion = windows
    check_encoding(where, windows)
    streams = (spatial, replace(motion, encoding="stream"))
    check_encoding("thread", streams)
    with pytest.raises(ValueError, match=rf"system2='{where}' gets only the newest clip.*inline or in a thread"):
        check_encoding(where, streams)


def test_time_limits_reach_a_system2_elsewhere(small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch):
    """--hang-timeout-s went nowhere there."""
    assert small_config.system2 is not None
    asked: list[tuple] = []

    class Elsewhere(FakeSystem):
        def close(self) -> None: ...

    def connect_system2(address, spec, answer_timeout_s, **own):
        asked.append((address, spec, answer_timeout_s))
        return Elsewhere()

    spec = RefreshSpec(small_config.system2.streams, 4, 20.0)
    runtime = RuntimeConfig(hang_timeout_s=0.5, first_condition_timeout_s=0.2)
    monkeypatch.setattr("video2act.serving.client.connect_system2", connect_system2)
    loop = System2Source(spec, runtime).start("ws://robot:8000", FakeSystem())
    loop.close()
    assert asked == [("ws://robot:8000", spec, 0.5)]
    assert isinstance(loop, ThreadSlowLoop)
    assert loop._timeout_s == 0.2


def test_a_system2_elsewhere_is_told_what_the_policy_has_here(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], monkeypatch: pytest.MonkeyPatch
):
    """A policy that knows nothing of its System 2 takes any."""
    told: list[dict[str, Any]] = []

    class Elsewhere(FakeSystem):
        def close(self) -> None: ...

    def connect_system2(address, spec, answer_timeout_s, **own):
        told.append(own)
        return Elsewhere()

    monkeypatch.setattr("video2act.serving.client.connect_system2", connect_system2)
    policy = make_policy(small_config)
    for system in (FakeSystem(), policy):
        System2Source(RefreshSpec((MOTION,), 1, FPS), RuntimeConfig()).start("ws://robot:8000", system).close()
    assert told == [
        {},
        {"token_dim": small_config.system1.hidden, "fingerprint": policy.slow.fingerprint()},
    ]


@pytest.mark.parametrize(("system2", "made"), [("thread", "ThreadSlowLoop"), ("process", "ProcessSlowLoop")])
def test_each_limit_of_time_reaches_the_slow_loop_under_its_own_name(
    system2: str, made: str, monkeypatch: pytest.MonkeyPatch
):
    told: list[dict[str, Any]] = []
    spec = RefreshSpec((MOTION,), 1, FPS)

    def make(*arguments: Any, **named: Any) -> InlineSlowLoop:
        told.append(named)
        return InlineSlowLoop(FakeSystem(), spec)

    monkeypatch.setattr(places, made, make)
    runtime = RuntimeConfig(hang_timeout_s=3.0, first_condition_timeout_s=7.0)
    source = System2Source(spec, runtime, "push", FakeSystem)
    source.start(system2, FakeSystem())
    assert {name: value for name, value in told[0].items() if name != "instruction"} == {
        "hang_timeout_s": 3.0,
        "first_condition_timeout_s": 7.0,
    }


@pytest.mark.parametrize(
    ("system2", "system1", "is_kept"),
    [("inline", "inline", False), ("inline", "thread", True), ("thread", "inline", True), ("ws://a:1", "inline", True)],
)
def test_real_time_is_kept_where_something_works_beside_the_control_loop(system2: str, system1: Any, is_kept: bool):
    assert keeps_real_time(system2, RuntimeConfig(system1=system1)) == is_kept
