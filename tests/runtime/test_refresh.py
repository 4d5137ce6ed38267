"""One refresh: one thread at a time, and of an encoder that sees whole episodes, no frame lost in silence."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, observation

from video2act.interfaces import HoldError
from video2act.refresh_rule import Frame, RefreshSpec
from video2act.runtime import refresh
from video2act.runtime.background import STREAM_RING, BackgroundSlowLoop
from video2act.runtime.frame_ring import FrameRing, RingLayout
from video2act.runtime.refresh import Refresher, perceive
from video2act.types import Tokens, Video

CLIPS: dict[str, Video] = {}
STREAMING = replace(MOTION, encoding="stream")


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
    monkeypatch.setattr(refresh, "TURN_TIMEOUT_S", 0.05)
    system, frame = GatedSystem(), Frame(observation(0), 0, 0)
    hanging = threading.Thread(target=perceive, args=(system, CLIPS), kwargs={"newest": frame})
    hanging.start()
    system.has_started.acquire()
    with pytest.raises(HoldError, match=r"at another refresh for more than 0\.05 s"):
        perceive(system, CLIPS, newest=frame)
    system.let_pass()
    hanging.join()


def test_an_encoder_that_sees_whole_episodes_does_not_take_40000_frames_of_memory():
    loop = BackgroundSlowLoop(
        "thread", RefreshSpec((STREAMING,), 1, FPS), first_condition_timeout_s=1.0, hang_timeout_s=1.0
    )
    loop.reset(0)
    loop.observe(observation(0))
    assert loop._ring is not None
    assert loop._ring.layout.capacity == STREAM_RING


def written(ring: FrameRing, episode: int, steps: range) -> None:
    for step in steps:
        ring.write(observation(step), episode, control_step=step)


def test_one_that_falls_behind_further_than_the_ring_reaches_says_so():
    ring = FrameRing(RingLayout({"top": (8, 8)}, capacity=8))
    refresher = Refresher(FakeSystem(), RefreshSpec((STREAMING,), refresh_every=1, control_fps=FPS))
    written(ring, 0, range(5))
    assert refresher.work(ring) is not None
    written(ring, 0, range(5, 12))
    assert refresher.work(ring) is not None
    written(ring, 0, range(12, 21))
    with pytest.raises(RuntimeError, match="System 2 is 9 frames behind and the ring holds 8, but its encoder"):
        refresher.work(ring)
    written(ring, 1, range(3))  # what is behind it now is of an episode that is over
    assert refresher.work(ring) is not None
