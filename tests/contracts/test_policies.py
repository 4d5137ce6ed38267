"""The contract of a `DualSystem`, and of the `Policy` made of it; every implementation runs through it.

To check another one, add a function that builds it to `SYSTEMS`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pytest
import torch

from video2act.clips import to_pixels
from video2act.config import (
    BackboneConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    RuntimeConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.policy import Video2Act
from video2act.presets import DataSpec, tiny, tiny_system1
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy
from video2act.runtime.places import System2Source
from video2act.runtime.slow_loop import InlineSlowLoop, SlowLoop
from video2act.runtime.thread_loop import System2Worker, ThreadSlowLoop
from video2act.serving.contract import Contract
from video2act.serving.server import Server
from video2act.serving.session import System2Session
from video2act.statistics import Statistics
from video2act.types import ActionChunk, Observation, Tokens, Video, VideoCondition


class Subject(Protocol):
    """A dual system that can be rebuilt, seeded and questioned about its configuration."""

    config: PolicyConfig

    def seed(self, seed: int) -> None: ...
    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens: ...
    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk: ...


@dataclass
class FakeSystem:
    """The least that keeps the contract: tokens are the mean colour of each clip, actions are those plus state and
    noise."""

    config: PolicyConfig

    def __post_init__(self) -> None:
        self.seed(0)

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        if not clips:
            return Tokens.empty(len(instruction), 3, like=torch.zeros(1))
        return Tokens.all_visible(torch.stack([clip.grid.mean(dim=(2, 3, 4)) for clip in clips.values()], dim=1))

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        noise = self.rng.standard_normal((self.config.horizon, self.config.action_dim))
        seen = condition.tokens.data.sum().item() + observation.state.sum()
        return ActionChunk(noise + seen, observation.time, 1 / self.config.fps)


def fake_dual() -> FakeSystem:
    streams = (
        StreamConfig("spatial", "top", 1, 1, 8, FilterConfig("sobel"), FormerConfig()),
        StreamConfig("motion", "top", 5, 2, 8, FilterConfig("temporal_bandpass", 1.0, 7.0), FormerConfig()),
    )
    system2 = System2Config(BackboneConfig(), streams)
    return FakeSystem(PolicyConfig(3, 2, 20.0, ("top",), 8, 4, 2, System1Config(), system2))


def fake_system1() -> FakeSystem:
    return FakeSystem(replace(fake_dual().config, system2=None))


def video2act(preset: Callable[[DataSpec], PolicyConfig]) -> Video2Act:
    """A real policy with random weights: a contract holds before any training."""
    torch.manual_seed(0)
    statistics = {
        name: Statistics(mean=(0.0,) * size, std=(1.0,) * size, min=(-1.0,) * size, max=(1.0,) * size)
        for name, size in (("state", 3), ("action", 2))
    }
    return Video2Act(preset(DataSpec(3, 2, 20.0, ("top",))), statistics).eval()


SMALLER = {"system1.hidden": 32, "system1.depth": 2, "system1.denoising.num_steps": 2}

SYSTEMS: dict[str, Callable[[], Subject]] = {
    "fake_dual": fake_dual,
    "fake_system1": fake_system1,
    "video2act_tiny": lambda: video2act(lambda data: tiny(data).replace(SMALLER)),
    "video2act_tiny_system1": lambda: video2act(lambda data: tiny_system1(data).replace(SMALLER)),
}


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """For matrices this small, two threads that wait for a busy core are many times slower than one."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(params=SYSTEMS, scope="module")
def subject(request: pytest.FixtureRequest) -> Subject:
    return SYSTEMS[request.param]()


def streams_of(subject: Subject) -> tuple[StreamConfig, ...]:
    return subject.config.system2.streams if subject.config.system2 else ()


def clips_of(subject: Subject, seed: int) -> dict[str, Video]:
    rng = np.random.default_rng(seed)
    return {
        stream.name: to_pixels(
            rng.integers(0, 256, (stream.num_frames, stream.size_px, stream.size_px, 3), dtype=np.uint8),
            subject.config.fps / stream.stride,
        )
        for stream in streams_of(subject)
    }


def observation(subject: Subject, step: int, seed: int = 0) -> Observation:
    config, rng = subject.config, np.random.default_rng([seed, step])
    images = {camera: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for camera in config.all_cameras}
    return Observation(
        images, rng.standard_normal(config.state_dim).astype(np.float32), "push the block", step / config.fps
    )


def condition(subject: Subject, observed_at: float, seed: int = 0) -> VideoCondition:
    return VideoCondition(subject.perceive(clips_of(subject, seed), ["push the block"]), observed_at, episode=0)


def plan(subject: Subject, step: int, observed_at: float, video_seed: int = 0, noise_seed: int = 7) -> np.ndarray:
    subject.seed(noise_seed)
    return subject.act(observation(subject, step), condition(subject, observed_at, video_seed)).actions


class TestDualSystem:
    def test_perceiving_is_deterministic_and_sees_the_video(self, subject: Subject):
        first, again, other = (condition(subject, 0.0, seed).tokens for seed in (0, 0, 1))
        assert first.mask.shape == first.data.shape[:2]
        assert torch.equal(first.data, again.data)
        if streams_of(subject):
            assert first.mask.any()
            assert not torch.allclose(first.data, other.data)
        else:
            assert first.data.shape[:2] == (1, 0)

    def test_no_gradient_is_attached_to_what_crosses_threads(self, subject: Subject):
        assert not condition(subject, 0.0).tokens.data.requires_grad

    def test_a_plan_is_finite_of_the_promised_size_and_stamped(self, subject: Subject):
        now = observation(subject, 5)
        chunk = subject.act(now, condition(subject, now.time))
        assert chunk.actions.shape == (subject.config.horizon, subject.config.action_dim)
        assert np.isfinite(chunk.actions).all()
        assert chunk.observed_at == now.time
        assert chunk.period == pytest.approx(1 / subject.config.fps)

    def test_the_seed_fixes_the_plan(self, subject: Subject):
        assert np.array_equal(plan(subject, 1, 0.0, noise_seed=3), plan(subject, 1, 0.0, noise_seed=3))
        assert not np.array_equal(plan(subject, 1, 0.0, noise_seed=3), plan(subject, 1, 0.0, noise_seed=4))

    def test_an_older_condition_is_accepted(self, subject: Subject):
        assert np.isfinite(plan(subject, step=8, observed_at=0.0)).all()

    def test_inputs_are_left_as_they_were(self, subject: Subject):
        now, seen = observation(subject, 2), condition(subject, 0.0)
        images = {camera: image.copy() for camera, image in now.images.items()}
        state, tokens = now.state.copy(), seen.tokens.data.clone()
        subject.act(now, seen)
        assert all(np.array_equal(images[camera], now.images[camera]) for camera in images)
        assert np.array_equal(state, now.state)
        assert torch.equal(tokens, seen.tokens.data)


def inline(subject: Subject) -> SlowLoop:
    return InlineSlowLoop(subject, RefreshSpec(streams_of(subject), refresh_every=4, control_fps=subject.config.fps))


def threaded(subject: Subject) -> SlowLoop:
    return ThreadSlowLoop(subject, RefreshSpec(streams_of(subject), refresh_every=4, control_fps=subject.config.fps))


def shared(subject: Subject) -> SlowLoop:
    """One of a server's clients, and the only one."""
    worker = System2Worker(subject)
    loop = ThreadSlowLoop(worker, RefreshSpec(streams_of(subject), refresh_every=4, control_fps=subject.config.fps))
    loop.close = worker.close  # type: ignore[method-assign]
    return loop


def remote(subject: Subject) -> SlowLoop:
    """System 2 behind a server on loopback. A policy without one has nothing to serve, and runs inline."""
    if not streams_of(subject):
        return inline(subject)
    contract, ending = replace(Contract.of(subject.config, "system2"), token_dim=0), ExitStack()
    server = Server(lambda: System2Session(subject.perceive, contract), contract.to_metadata(), port=0)
    address = ending.enter_context(server.running()).address
    spec = RefreshSpec(streams_of(subject), refresh_every=4, control_fps=subject.config.fps)
    loop = System2Source(spec, RuntimeConfig()).start(address, subject)
    ending.callback(loop.close)
    loop.close = ending.close  # type: ignore[method-assign]
    return loop


class TestPolicy:
    """`Policy`, made of the system and either slow loop."""

    @pytest.mark.parametrize("make_loop", [inline, threaded, shared, remote])
    def test_it_plans_whenever_asked_and_keeps_episodes_apart(
        self, subject: Subject, make_loop: Callable[[Subject], SlowLoop]
    ):
        policy = DualPolicy(subject, make_loop(subject))
        for episode in range(2):
            policy.reset()
            for step in range(6):
                now = observation(subject, step, seed=episode)
                policy.observe(now)
                chunk = policy.infer(now)
                assert chunk.observed_at == now.time
                assert policy.condition is not None
                assert policy.condition.episode == episode
                assert policy.condition.observed_at <= now.time
        policy.close()

    def test_what_was_seen_before_a_reset_changes_nothing_after_it(self, subject: Subject):
        def last_plan(earlier_seeds: list[int]) -> np.ndarray:
            policy = DualPolicy(subject, inline(subject))
            for seed in [*earlier_seeds, 9]:
                policy.reset()
                subject.seed(5)
                for step in range(3):
                    policy.observe(observation(subject, step, seed))
                chunk = policy.infer(observation(subject, 2, seed))
            return chunk.actions

        assert np.array_equal(last_plan([]), last_plan([1, 2]))
