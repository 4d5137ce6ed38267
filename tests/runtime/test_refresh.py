"""One refresh: one thread at a time, and of an encoder that sees whole episodes, no frame lost in silence."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, observation

from video2act import Runner
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
        assert len(list(pool.map(lambda _: perceive(system, CLIPS, newest=frame, lag_s=0.0), range(8)))) == 8
    assert system.most == 1


def test_another_refresh_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch):
    assert refresh.TURN_TIMEOUT_S == 10.0  # seconds: longer than a refresh, shorter than a person's patience
    monkeypatch.setattr(refresh, "TURN_TIMEOUT_S", 0.05)
    system, frame = GatedSystem(), Frame(observation(0), 0, 0)
    hanging = threading.Thread(target=perceive, args=(system, CLIPS), kwargs={"newest": frame, "lag_s": 0.0})
    hanging.start()
    system.has_started.acquire()
    with pytest.raises(HoldError, match=r"at another refresh for more than 0\.05 s"):
        perceive(system, CLIPS, newest=frame, lag_s=0.0)
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


def test_a_system_2_that_is_busy_for_too_long_holds_the_robot(monkeypatch: pytest.MonkeyPatch):
    """With several Runners on one policy it ended the program, and a retry of the step counted its frame twice."""
    monkeypatch.setattr(refresh, "TURN_TIMEOUT_S", 0.02)
    system = FakeSystem()
    with Runner(system, refresh_every=2, execute_steps=1) as runner:
        runner.reset()
        with refresh.turn(system), pytest.raises(HoldError, match="There is no earlier target to hold"):
            runner.step(observation(0))
        assert runner.rates.system2_hz == 0
        runner.step(observation(1))
        runner.step(observation(2))
        with refresh.turn(system):
            held = [runner.decide(observation(step)).is_held for step in (3, 4)]
        held.append(runner.decide(observation(5)).is_held)
        assert held == [True, True, False]
        assert runner.incidents.counts == {"system2_busy": 1}
    assert system.newest_frames == [1, 5]
    numbers = system.clips[1]["motion"].grid[0, 0, :, 0, 0]
    assert [round((float(number) + 1) * 127.5) for number in numbers] == [0, 0, 1, 3, 5]


def test_a_refresh_in_the_control_loop_that_fails_holds_the_robot():
    """With when_stale=inline it ended the program, which when_stale=hold survives."""

    class Down(FakeSystem):
        is_down = False

        def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
            if self.is_down:
                raise ZeroDivisionError("the camera's driver")
            return super().perceive(clips, instruction)

    system = Down(horizon=16)
    stale = {"max_staleness_s": 4 / FPS, "when_stale": "inline"}
    with Runner(system, system2="thread", refresh_every=2, execute_steps=2, **stale) as runner:
        runner.reset()
        runner.step(observation(0))
        system.is_down = True
        held = [runner.decide(observation(step)).is_held for step in range(1, 40)]
        assert held[-1]
        assert runner.decision is not None
        (text,) = [found.text for found in runner.incidents if "in the control loop" in found.text]
        assert text.endswith("System 2 failed in the control loop: ZeroDivisionError: the camera's driver")
        system.is_down = False
        assert not runner.decide(observation(40)).is_held
