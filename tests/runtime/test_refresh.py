"""One refresh: one thread at a time, and of an encoder that sees whole episodes, no frame lost in silence."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, observation

from video2act.config import FrameConfig
from video2act.interfaces import HoldError
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime import refresh, thread_loop
from video2act.runtime.refresh import perceive, warm_up
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import Tokens, Video

CLIPS: dict[str, Video] = {}


def test_two_threads_are_not_in_one_network():
    """A stale condition refreshed inline ran the network that the thread was running."""

    class Counting(FakeSystem):
        now = most = 0

        def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
            self.now += 1
            self.most = max(self.most, self.now)
            time.sleep(0.02)
            self.now -= 1
            return super().perceive(clips, instruction)

    system, frame = Counting(), Frame(observation(0), 0, 0)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: perceive(system, CLIPS, newest=frame), range(8)))) == 8
    assert system.most == 1


def test_another_refresh_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch):
    assert refresh.TURN_TIMEOUT_S == 10.0  # seconds: longer than a refresh, shorter than a person's patience
    monkeypatch.setattr(refresh, "TURN_TIMEOUT_S", 0.05)
    system, frame = GatedSystem(), Frame(observation(0), 0, 0)
    hanging = threading.Thread(target=perceive, args=(system, CLIPS), kwargs={"newest": frame})
    hanging.start()
    system.has_started.acquire()
    with pytest.raises(HoldError, match=r"at another refresh for more than 0\.05 s"):
        perceive(system, CLIPS, newest=frame)
    system.let_pass()
    hanging.join()


def test_an_encoder_that_sees_whole_episodes_and_falls_behind_is_noted_and_the_robot_goes_on(
    monkeypatch: pytest.MonkeyPatch,
):
    """Frames wait for it, but not without end; and the control loop must not pay for it."""
    monkeypatch.setattr(thread_loop, "MAX_WAITING", 8)
    system = GatedSystem()
    loop = ThreadSlowLoop(system, RefreshSpec((replace(MOTION, encoding="stream", stride=1),), 1, FPS))
    loop.reset(0)
    loop.observe(observation(0))
    system.let_pass()
    assert loop.condition().observed_at == 0.0
    for step in range(1, 30):  # System 2 is stuck at its gate
        loop.observe(observation(step))
        assert loop.condition().observed_at == 0.0
    (incident,) = loop.incidents
    assert "frames behind, but its encoder (encoding='stream') must see all of an episode" in incident.text
    system.let_pass(100)
    loop.reset(1)
    loop.observe(observation(50))
    assert loop.condition().observed_at == 50 / FPS
    loop.close()


def test_a_warm_up_shows_black_frames_large_enough_for_every_stream():
    large = replace(MOTION, name="large", size_px=16, width_px=24, num_frames=1)
    small = replace(MOTION, frame=FrameConfig(fit="crop"))
    system = FakeSystem()
    refreshed = warm_up(system, RefreshSpec((large, small), 1, FPS), instruction="push")
    assert refreshed.episode == -1
    (clips,) = system.clips
    assert {name: tuple(clip.grid.shape) for name, clip in clips.items()} == {
        "large": (1, 3, 1, 16, 24),
        "motion": (1, 3, 5, 8, 8),
    }
    assert (clips["motion"].grid == -1).all()
