"""`eval`, `serve` and `export` as programs: the engine is an option, and every mistake is answered before any work."""

import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from engine_fakes import observations

from video2act import cli
from video2act.config import ServeOptions
from video2act.engines.policy import EnginePolicy
from video2act.policy import Video2Act
from video2act.programs.evaluate import evaluate
from video2act.programs.serve import serve, serving
from video2act.serving.client import RemotePolicy

WORLD = "engine_fakes:world"


def test_an_evaluation_goes_alike(policy: Video2Act, onnx_folder: Path, tmp_path: Path):
    """Every action is part of the next state, so the episodes are those of the same plans."""
    assert policy.folder is not None
    found = {}
    for engine, folder in (("torch", policy.folder), ("onnxruntime", onnx_folder)):
        out = tmp_path / engine
        evaluate(folder, WORLD, engine=engine, episodes=2, workers=1, num_videos=1, out=out)
        found[engine] = [line.split(",")[:3] for line in (out / "steps.csv").read_text().splitlines()]
        assert list(out.rglob("*.mp4"))
    assert found["torch"] == found["onnxruntime"]
    loaded = evaluate(EnginePolicy(onnx_folder), WORLD, episodes=1, num_videos=1, out=tmp_path / "loaded")
    assert [record.num_steps for record in loaded.records] == [6]


def test_a_server_gives_the_same_plans(policy: Video2Act, onnx_folder: Path):
    exported, plans = EnginePolicy(onnx_folder), []
    for system in (policy, exported):
        system.seed(3)
        with serving(system, "inline") as server, closing(RemotePolicy(server.address)) as remote:
            remote.reset()
            for observation in observations(policy.config, 3):
                remote.observe(observation)
                plans.append(remote.infer(observation).actions)
    for ours, theirs in zip(plans[3:], plans[:3], strict=True):
        assert np.abs(ours - theirs).max() < 1e-4


def test_a_wrong_folder_or_option_is_answered_before_any_work(policy: Video2Act, onnx_folder: Path, tmp_path: Path):
    assert policy.folder is not None
    out = tmp_path / "out"
    for folder, engine, message in (
        (policy.folder, "onnxruntime", "video2act export .* --to onnx"),
        (onnx_folder, "torch", "holds an exported policy"),
        (onnx_folder, "openvino", "was exported for onnxruntime"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(folder, WORLD, engine=engine, episodes=1, out=out)
        with pytest.raises(ValueError, match=message):
            serve(folder, engine=engine, port=0)
    with pytest.raises(ValueError, match="evaluate it with engine torch"):
        evaluate(onnx_folder, WORLD, engine="onnxruntime", blind=True, episodes=1, out=out)
    with pytest.raises(ValueError, match="choose system2='thread'"):
        evaluate(onnx_folder, WORLD, engine="onnxruntime", system2="process", episodes=1, out=out)
    with pytest.raises(ValueError, match="reads an exported folder, got a loaded policy"):
        evaluate(policy, WORLD, engine="onnxruntime", episodes=1)
    with pytest.raises(ValueError, match="by engine torch only"):
        ServeOptions(only="system2", engine="onnxruntime")
    assert not out.exists()


def test_the_command_exports_and_says_how_exact_it_is(
    policy: Video2Act, recorded: Path, onnx_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
):
    out = tmp_path / "out"
    words = ["video2act", "export", str(policy.folder), "--to", "onnx", "--out", str(out), "--data", str(recorded)]
    monkeypatch.setattr(sys, "argv", [*words, "--episode", "1"])
    cli.main()
    assert (
        "on episode 1 of push normalised actions differ from PyTorch's in float32 by at most" in capsys.readouterr().out
    )
    assert (out / "step.onnx").is_file()
    for wrong, message in (
        (["video2act", "export", str(onnx_folder), "--to", "onnx"], "holds an exported policy"),
        (words, "exists; remove it, or choose another folder with --out"),
        (["video2act", "export", str(tmp_path), "--to", "onnx"], "config.json"),
    ):
        monkeypatch.setattr(sys, "argv", wrong)
        with pytest.raises(SystemExit, match=message):
            cli.main()
