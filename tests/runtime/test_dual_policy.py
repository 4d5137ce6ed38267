"""Two systems as one policy: which condition a plan uses, how old it is, and that episodes stay apart."""

from dataclasses import replace

import numpy as np
import pytest
from runtime_fakes import CONFIG, FPS, MOTION, FakeSystem, observation

from video2act import Runner
from video2act.config import DenoisingConfig, PolicyConfig, RuntimeConfig
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy, check_trained_for
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import ActionChunk, Observation, VideoCondition


def make_policy(refresh_every: int = 4) -> tuple[FakeSystem, DualPolicy]:
    system = FakeSystem()
    return system, DualPolicy(
        system, InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS))
    )


def test_staleness_is_the_age_of_the_newest_frame_system_2_saw():
    _, policy = make_policy(refresh_every=4)
    policy.reset()
    for step in range(8):
        policy.observe(observation(step))
        if step % 2 == 0:
            policy.infer(observation(step))
    assert policy.times.staleness_s == pytest.approx([0, 2 / FPS, 0, 2 / FPS])
    assert len(policy.times.act_s) == 4
    assert len(policy.times.perceive_s) == 2


def test_a_condition_from_another_episode_is_refused():
    system, policy = make_policy()

    class KeepsTheFirst(InlineSlowLoop):
        """What the released code does: its cache survives a reset."""

        kept: VideoCondition | None = None

        def condition(self):
            self.kept = self.kept or super().condition()
            return self.kept

    policy = DualPolicy(system, KeepsTheFirst(system, RefreshSpec((MOTION,), refresh_every=4, control_fps=FPS)))
    for _ in range(2):
        policy.reset()
        policy.observe(observation(0))
        if policy.condition is None and not policy.times.act_s:
            policy.infer(observation(0))
    with pytest.raises(RuntimeError, match="a condition of episode 0 was offered in episode 1"):
        policy.infer(observation(0))
    assert len(system.conditions) == 1


def test_the_second_episode_equals_the_first():
    system, policy = make_policy(refresh_every=3)
    seen = []
    for _ in range(2):
        policy.reset()
        assert policy.condition is None
        for step in range(5):
            policy.observe(observation(step))
            policy.infer(observation(step))
            assert policy.condition is system.conditions[-1]
        seen.append([(c.observed_at, c.tokens.data.item()) for c in system.conditions[-5:]])
    assert seen[0] == seen[1]
    assert {c.episode for c in system.conditions} == {0, 1}


def test_past_images_are_put_beside_the_observation():
    class Shown(FakeSystem):
        def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
            numbers.append((int(observation.images["top"][0, 0, 0]), int(observation.images["top@2"][0, 0, 0])))
            return super().act(observation, condition)

    numbers: list[tuple[int, int]] = []
    system = Shown()
    policy = DualPolicy(
        system,
        InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS)),
        cameras=("top@2", "top"),
    )
    policy.reset()
    for step in range(4):
        policy.observe(observation(step))
        policy.infer(observation(step))
    assert numbers == [(0, 0), (1, 0), (2, 0), (3, 1)]


def test_a_threaded_policy_ends_its_thread_when_closed():
    system = FakeSystem()
    loop = ThreadSlowLoop(system, RefreshSpec((MOTION,), refresh_every=1, control_fps=FPS))
    policy = DualPolicy(system, loop)
    policy.reset()
    policy.observe(observation(0))
    policy.infer(observation(0))
    policy.close()
    assert not loop._worker._thread.is_alive()


def test_a_policy_that_predicts_noise_is_not_guided(small_config: PolicyConfig):
    """Its guided actions were thousands of times too large; now nothing is started."""
    denoising = DenoisingConfig("ddpm", "epsilon")
    config = small_config.replace({"system1.denoising": denoising})
    with pytest.raises(ValueError, match=r"overlap rtc .*prediction='epsilon'.*temporal_ensemble"):
        check_trained_for(config, RuntimeConfig(overlap="rtc"))
    check_trained_for(config, RuntimeConfig(overlap="temporal_ensemble"))
    check_trained_for(small_config, RuntimeConfig(overlap="rtc"))


WRIST = replace(MOTION, camera="wrist")


class TestNothingIsTakenInOfAnObservationThatIsRefused:
    """The past images of System 1 counted the frame once for each try."""

    @pytest.mark.parametrize("system2", ["inline", "thread"])
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"wrist": None}, "stream 'motion' reads camera 'wrist', but the observation has top"),
            ({"wrist": 4}, "camera 'wrist', stream 'motion': frames of 4x4 are too small"),
            ({"top": None}, "System 1 reads camera 'top', but the observation has wrist"),
            ({"top": 4}, "camera 'top', System 1: frames of 4x4 are too small"),
        ],
    )
    def test_whichever_system_reads_the_camera(self, system2: str, bad: dict[str, int | None], message: str):
        class Lagging(FakeSystem):
            config = CONFIG.replace({"cameras": ("top", "top@2"), "system2.streams": (WRIST,)})

            def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
                read.append(tuple(int(observation.images[camera][0, 0, 0]) for camera in ("top", "top@2")))
                return super().act(observation, condition)

        def seen(step: int, **sides: int | None) -> Observation:
            whole: dict[str, int | None] = {"top": 128, "wrist": 8, **sides}
            images = {camera: np.full((side, side, 3), step, np.uint8) for camera, side in whole.items() if side}
            return replace(observation(step), images=images)

        read: list[tuple[int, ...]] = []
        with Runner(Lagging(), system2=system2, execute_steps=1) as runner:
            runner.reset()
            for step in range(4):
                runner.step(seen(step))
            for _ in range(2):
                with pytest.raises(ValueError, match=message):
                    runner.step(seen(4, **bad))
            runner.step(seen(4))
        assert read == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2)]
