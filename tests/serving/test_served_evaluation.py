"""A served policy is evaluated on the same scenes as a policy of ours, by any program that speaks the protocol."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from serving_fakes import CONTRACT, PERIOD_S, serving

from video2act.config import RuntimeConfig
from video2act.interfaces import EnvironmentSpec
from video2act.programs.evaluate import evaluate
from video2act.types import Observation, Step

ACTIONS: list[float] = []


class World:
    """Ends after six steps, with success if the server saw every frame before each plan."""

    def __init__(self, fps: float = 1 / PERIOD_S):
        names = ("x", "y")
        self.spec = EnvironmentSpec("world", "dot", "push", ("front",), 16, names, names, fps, 6)

    def reset(self, seed: int) -> Observation:
        self.num_steps = 0
        return self.seen()

    def seen(self) -> Observation:
        image = np.zeros((16, 16, 3), np.uint8)
        return Observation({"front": image}, np.zeros(2, np.float32), "push", self.num_steps * PERIOD_S)

    def step(self, action: np.ndarray) -> Step:
        ACTIONS.append(float(action[0]))
        self.num_steps += 1
        done = self.num_steps == 6
        return Step(self.seen(), done=done, success=done and ACTIONS[-6:] == [1, 1, 3, 3, 5, 5])

    def close(self) -> None: ...


def make_world() -> World:
    return World()


def make_slow_world() -> World:
    return World(fps=5.0)


WORLD, SLOW_WORLD = f"{__name__}:make_world", f"{__name__}:make_slow_world"


def test_it_sees_every_frame_and_begins_every_episode_anew(tmp_path: Path):
    with serving() as server:
        summary = evaluate(server.address, WORLD, episodes=2, expert=False, out=tmp_path / "eval")
        assert summary.success.successes == 2
        info = json.loads((tmp_path / "eval" / "eval_info.json").read_text())
        assert info["overall"]["n_episodes"] == 2
        assert server.address in json.dumps(info)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        assert evaluate(server.address, WORLD, episodes=1, expert=False).path is None
    assert not list(tmp_path.iterdir())


def test_no_server_is_an_error_at_once():
    """It was waited for, for a minute."""
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"ws://127.0.0.1:9: .*refused.*start it with `video2act serve RUN`"):
        evaluate("ws://127.0.0.1:9", WORLD, episodes=1)
    assert time.monotonic() - started < 5


def test_what_does_not_go_with_it_is_refused():
    with serving() as server:
        for options, complaint in (
            ({"blind": True}, "blind"),
            ({"engine": "onnxruntime"}, "computes elsewhere"),
            ({"workers": 2}, "workers"),
            ({"runtime": RuntimeConfig(limits="data")}, "json file"),
            ({"runtime": RuntimeConfig(overlap="rtc")}, "cannot"),
        ):
            with pytest.raises(ValueError, match=complaint):
                evaluate(server.address, WORLD, episodes=1, expert=False, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="trained with 20, the environment has 5"):
            evaluate(server.address, SLOW_WORLD, episodes=1, expert=False)
        assert CONTRACT.execute_steps == 2
