"""Ten-line systems, robots and worlds: the runtime knows sockets only, so this is all it takes to test it."""

import threading
import time

import numpy as np
import torch

from video2act.config import (
    BackboneConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.interfaces import EnvironmentSpec
from video2act.runtime.slow_loop import SlowLoop
from video2act.types import ActionChunk, Observation, Step, Tokens, Video, VideoCondition

FPS = 50.0
MOTION = StreamConfig("motion", "top", num_frames=5, stride=2, size_px=8, filter=FilterConfig(), former=FormerConfig())

CONFIG = PolicyConfig(2, 2, FPS, ("top",), 8, 4, 2, System1Config(), System2Config(BackboneConfig(), (MOTION,)))


def observation(control_step: int, instruction: str = "push") -> Observation:
    """A frame whose brightness is its number, so that a test can read off which frames a clip holds."""
    frame = np.full((8, 8, 3), control_step % 256, np.uint8)
    return Observation({"top": frame}, np.array([control_step, 0.0], np.float32), instruction, control_step / FPS)


class FakeSystem:
    """Its one token is the number of the newest frame; its plan counts up from there. Remembers every call."""

    config = CONFIG

    def __init__(self, horizon: int = 4):
        self.horizon = horizon
        self.clips: list[dict[str, Video]] = []
        self.newest_frames: list[int] = []
        self.conditions: list[VideoCondition] = []

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        self.clips.append(clips)
        if not clips:
            return Tokens.empty(1, 1, like=torch.zeros(1))
        newest = round((float(clips["motion"].grid[0, 0, -1, 0, 0]) + 1) * 127.5)
        self.newest_frames.append(newest)
        return Tokens.all_visible(torch.full((1, 1, 1), float(newest)))

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        self.conditions.append(condition)
        first = float(observation.state[0])
        actions = np.stack([np.array([first + i, 0.0]) for i in range(self.horizon)])
        return ActionChunk(actions, observation.time, 1 / FPS)


class GatedSystem(FakeSystem):
    """System 2 waits at a gate: each `let_pass` lets one refresh finish."""

    def __init__(self, horizon: int = 4):
        super().__init__(horizon)
        self.has_started = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def let_pass(self, times: int = 1) -> None:
        self._gate.release(times)

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        self.has_started.release()
        assert self._gate.acquire(timeout=10), "the test never opened the gate"
        return super().perceive(clips, instruction)


class FakeEnvironment:
    """Succeeds when it ends, after `num_steps`; its observations are numbered frames."""

    def __init__(self, num_steps: int = 10, step_s: float = 0.0):
        self.spec = EnvironmentSpec(
            name="fake:count",
            robot="fake",
            instruction="push",
            cameras=("top",),
            image_size=8,
            state_names=("count", "zero"),
            action_names=("x", "y"),
            fps=FPS,
            max_steps=num_steps,
        )
        self.actions: list[np.ndarray] = []
        self._step_s = step_s

    def reset(self, seed: int) -> Observation:
        self.actions = []
        return observation(0)

    def step(self, action: np.ndarray) -> Step:
        time.sleep(self._step_s)
        self.actions.append(action)
        is_done = len(self.actions) == self.spec.max_steps
        return Step(observation(len(self.actions)), is_done, is_done)

    def close(self) -> None: ...


def assert_closing_wakes(loop: SlowLoop) -> None:
    """Close a loop while another thread waits for its first condition, which must hear of that at once."""
    heard: list[str] = []

    def wait() -> None:
        try:
            loop.condition()
        except RuntimeError as error:
            heard.append(str(error))

    loop.reset(0)
    loop.observe(observation(0))
    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.2)
    assert not heard
    loop.close()
    waiting.join(10.0)
    assert not waiting.is_alive()
    assert [text.partition("has been closed")[2] for text in heard] == ["; make a new slow loop"]


def wait_until(is_true, timeout_s: float = 10.0) -> None:
    """Poll a condition that another thread will make true."""
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.001)
