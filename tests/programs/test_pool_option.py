"""`--pool` reaches the pool: without a cluster, by what the pool is asked for."""

import os
from pathlib import Path
from typing import Any

import pytest
from test_evaluate import FakeRun, fake_environment, fake_expert

from video2act.config import EvaluateOptions
from video2act.config.programs import SweepOptions
from video2act.evaluation import episodes
from video2act.evaluation.episodes import Evaluation
from video2act.programs import collect, sweep
from video2act.programs.evaluate import run_evaluation

RAY = "ray://head:10001"


class AskedError(Exception):
    """Raised in place of opening a pool; holds what was asked for."""


def ask(*_: Any, **options: Any) -> None:
    size = [value for value in _ if isinstance(value, int)]
    raise AskedError({**options, "size": size[0] if size else None})


def test_an_evaluation_asks_with_its_folders_and_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(episodes, "open_pool", ask)
    run, out = tmp_path / "run", tmp_path / "out"
    options = EvaluateOptions(episodes=8, workers=3, num_videos=0, out=out, pool=RAY, device="cuda:0")
    with pytest.raises(AskedError) as asked:
        run_evaluation(Evaluation(FakeRun(run), ("fake:a",), options, fake_environment, fake_expert))
    assert asked.value.args[0] == {"pool": RAY, "size": 3, "folders": [run, out], "uses_gpu": True}
    assert not out.exists()


def test_a_recording_asks_with_the_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(collect, "open_pool", ask)
    with pytest.raises(AskedError) as asked:
        collect.collect("metaworld:push-v3", tmp_path / "a/set", episodes=9, workers=4, pool=RAY)
    found = asked.value.args[0]
    assert (found["pool"], found["size"], found["folders"]) == (RAY, 4, [tmp_path])
    assert os.listdir(tmp_path) == []


def test_a_sweep_hands_it_to_its_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep, "evaluate", ask)
    with pytest.raises(AskedError) as asked:
        sweep.sweep(tmp_path, "fake:a", pool=RAY, workers=5)
    assert (asked.value.args[0]["pool"], asked.value.args[0]["workers"]) == (RAY, 5)
    assert SweepOptions().pool == EvaluateOptions().pool == "local"


def test_a_policy_in_memory_stays_in_its_process():
    options = EvaluateOptions(episodes=1, pool=RAY)
    with pytest.raises(ValueError, match=r"pool='ray://head:10001' needs a policy on disk"):
        run_evaluation(Evaluation(FakeRun(None), ("fake:a",), options, fake_environment, fake_expert))  # type: ignore[arg-type]
