"""Every verb checks its input before it imports torch: a mistake is an error within a second, not after several.

The bad inputs run in one process whose torch cannot be imported.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from video2act.config import PolicyConfig
from video2act.files.lock import FolderLock
from video2act.policy import Video2Act

PUSH = "metaworld:push-v3"

CODE = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from video2act.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv, said = ["video2act", *words], io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            main()
        result = "no error"
    except SystemExit as end:
        result = f"{end.code}"
    except BaseException as error:
        result = f"{type(error).__name__}: {error}"
    print(json.dumps(result + said.getvalue()))
"""


@pytest.fixture(scope="module")
def said(
    recorded: Path,
    make_policy: Callable[[PolicyConfig], Video2Act],
    small_config: PolicyConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """What each command of `commands` ends with."""
    root = tmp_path_factory.mktemp("input")
    (root / "poison").mkdir()
    (root / "poison" / "torch.py").write_text('raise AssertionError("torch was imported")')
    make_policy(small_config).save(root / "run")
    make_policy(small_config).save(root / "no_weights")
    (root / "no_weights" / "model.safetensors").unlink()
    make_policy(small_config).save(root / "damaged")
    (root / "damaged" / "config.json").write_text('{"horizon": ')
    for name, config in (("tiny_model", '{"name": "tiny"}'), ("broken_model", '{"name": ')):
        (root / name).mkdir()
        (root / name / "backbone.json").write_text(config)
    (root / "trained").mkdir()
    (root / "trained" / "training.json").write_text("{}")
    (root / "trained" / "metrics.jsonl").write_text('{"step": 0}\n')
    for folder in ("written", "a.rrd"):
        (root / folder).mkdir()
    shutil.copytree(root / "trained", root / "in_use")
    (root / "key").write_text("secret")
    named = commands(str(root), str(recorded))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "poison"), *filter(None, sys.path)])}
    with FolderLock(root / "in_use", "a training"):
        done = subprocess.run(
            [sys.executable, "-c", CODE, json.dumps([words.split() for words, _ in named.values()])],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    lines = done.stdout.splitlines()
    assert len(lines) == len(named), done.stderr
    return {name: json.loads(line) for name, line in zip(named, lines, strict=True)}


def commands(root: str, data: str) -> dict[str, tuple[str, str]]:
    """Name of a mistake -> the command, and what its error says."""
    out, tiny = f"--out {root}/out", f"--video-model {root}/tiny_model"
    system1 = f"train --data {data} {out} --preset tiny_system1"
    return {
        "info: no such thing": (f"info {root}/nowhere", "is not a folder"),
        "info: a preset misspelt": ("info tiny_system", "did you mean 'tiny_system1'?"),
        "info: a damaged run": (f"info {root}/damaged", "is not valid json"),
        "info: a damaged video model": (f"info {root}/broken_model", "is not valid json"),
        "info: a column that is not there": (f"info {data} --state force", "force"),
        "train: no dataset": (f"train --data {root}/nowhere {out}", "is not a folder"),
        "train: a preset misspelt": (f"train --data {data} {out} --preset tyni", "tyni"),
        "train: no config": (f"train --data {data} {out} --config {root}/nowhere.json", "nowhere.json does not exist"),
        "train: no such episode": (f"{system1} --episodes 0:9", "has episodes 0..2, asked for 3"),
        "train: no such camera": (f"{system1} --cameras side", "side"),
        "train: no video model": (f"train --data {data} {out}", "needs a video model"),
        "train: no such video model": (
            f"train --data {data} {out} --video-model {root}/no",
            "no does not exist, and a video",
        ),
        "train: a policy's folder for the video model's": (
            f"train --data {data} {out} --video-model {root}/run",
            "run is a policy's run folder, and a video model is wanted (with backbone.json); name the folder",
        ),
        "train: a dataset for the video model": (
            f"train --data {data} {out} --video-model {data}",
            "is a dataset, and a video model is wanted (with backbone.json); make one of it with train-video",
        ),
        "train: a damaged video model": (
            f"train --data {data} {out} --video-model {root}/broken_model",
            "is not valid json",
        ),
        "train: no such cache": (f"train --data {data} {out} {tiny} --cache {root}/no", "is not a cache"),
        "train: nothing to begin with": (f"{system1} --init {root}/no", "no does not exist"),
        "train: to begin with a video model": (f"{system1} --init {root}/tiny_model", "is a video model"),
        "train: weights of other data": (f"{system1} --weights 1 2", "--weights needs 1 numbers"),
        "train: a batch beyond the budget": (f"{system1} --frames-gib 1e-6", "the frames of one batch take"),
        "train: out holds a training": (
            f"train --data {data} --preset tiny_system1 --out {root}/trained",
            "already holds a training",
        ),
        "train: out is in use": (
            f"train --data {data} --preset tiny_system1 --out {root}/in_use",
            "is being written by a training (process",
        ),
        "label: no dataset": (f"label --data {root}/nowhere --videos {data} {out}", "is not a folder"),
        "label: too few episodes": (f"label --data {data} --videos {data} {out}", "at least 5 episodes"),
        "train: varied clips without a System 2": (
            f"{system1} --clip-shift-px 3",
            "clip_shift_px varies the clips of System 2, which this policy has not; leave it out",
        ),
        "train: predicted noise": (
            f"{system1} --policy.system1.denoising.schedule ddpm --policy.system1.denoising.prediction epsilon",
            "prediction='epsilon' is for converted checkpoints",
        ),
        "train: a band without a frequency": (
            f"train --data {data} {out} {tiny} --policy.system2.streams.motion.filter.low-hz 90",
            "stream 'motion': the band 90.0-",
        ),
        "train: video data without their loss": (f"{system1} --video-data {data}", "set video_loss_weight above 0"),
        "train-video: no dataset": (f"train-video --data {root}/nowhere {out}", "is not a folder"),
        "train-video: tuning as for train": (
            f"train-video --data {data} {out} --policy.system2.tuning.method lora",
            "train-video takes --tuning.method",
        ),
        "train-video: no such camera": (f"train-video --data {data} {out} --camera side", "no camera 'side'"),
        "train-video: out holds a training": (
            f"train-video --data {data} --out {root}/trained",
            "already holds a training",
        ),
        "train-video: no published model": (
            f"train-video --data {data} {out} --preset wan21_1b --video-model {root}/nowhere",
            "is not a folder",
        ),
        "cache fill: no video model": (
            f"cache fill --data {data} {out} {tiny[:-5]}",
            "/tiny_model?), and a video model is wanted",
        ),
        "cache fill: no System 2": (f"cache fill --data {data} {out} --preset tiny_system1", "nothing to cache"),
        "cache fill: what is looked at together exceeds the budget": (
            f"cache fill --data {data} {out} {tiny} --frames-gib 1e-6",
            "the frames that System 2 reads together take",
        ),
        "cache fill: no place": (f"cache fill --data {data} {tiny} --stage latents", "name a folder for this cache"),
        "cache verify: no cache": (f"cache verify {root}/nowhere", "is not a cache"),
        "eval: no run": (f"eval {root}/nowhere --env {PUSH}", "does not exist; a run folder holds"),
        "eval: a server's address that begins with http": (
            f"eval http://127.0.0.1:8999 --env {PUSH}",
            "http://127.0.0.1:8999 is no address of a served policy, which begins with ws://; use ws://127.0.0.1:8999",
        ),
        "eval: a server's host and port alone": (f"eval robot.local:8999 --env {PUSH}", "use ws://robot.local:8999"),
        "eval: a server's secure address": (f"eval https://robot.local --env {PUSH}", "; use wss://robot.local"),
        "eval: a file": (f"eval {root}/run/config.json --env {PUSH}", "config.json is a file; a run folder holds"),
        "eval: no weights": (f"eval {root}/no_weights --env {PUSH}", "this folder has no weights"),
        "eval: an unknown environment": (f"eval {root}/run --env metaworld:pus", "Did you mean 'metaworld:push-v3'"),
        "eval: another robot's environment": (f"eval {root}/run --env {PUSH}", "front, wrist"),
        "eval: no such place": (f"eval {root}/run --env {PUSH} --system2 cloud", "cloud"),
        "eval: slack without a limit": (
            f"eval {root}/run --env {PUSH} --slack-s 1",
            "has no effect without when_stale",
        ),
        "bench: no checkout": (f"bench --official {root}", "is no checkout of the released code"),
        "report: neither a run nor an evaluation": (f"report {root}/written", "neither a policy"),
        "run: no run": (f"run {root}/nowhere --env {PUSH}", "does not exist; a run folder holds"),
        "run: another robot's environment": (f"run {root}/run --env {PUSH}", "front, wrist"),
        "run: nothing to record into": (f"run {root}/run --env {PUSH} --record-only corrections", "--record"),
        "run: another file for Rerun": (f"run {root}/run --env {PUSH} --rerun a.mp4", "end in .rrd"),
        "serve: no run": (f"serve {root}/nowhere", "does not exist; a run folder holds"),
        "serve: no key": (f"serve {root}/run --host 0.0.0.0", "key"),
        "sweep: no run": (f"sweep {root}/nowhere --env {PUSH}", "does not exist; a run folder holds"),
        "view: no run": (f"view {root}/nowhere --data {data} --out {root}/a.mp4", "does not exist; a run folder holds"),
        "view: no dataset": (f"view {root}/run --data {root}/nowhere --out {root}/a.mp4", "is not a folder"),
        "view: nothing to write": (f"view {root}/run --data {data}", "choose --rerun live"),
        "view: a folder for the film": (f"view {root}/run --data {data} --out {root}/written", "written/film.mp4"),
        "view: a film of another kind": (f"view {root}/run --data {data} --out {root}/a.avi", "ends in .mp4"),
        "run: a folder for Rerun": (f"run {root}/run --env {PUSH} --rerun {root}/a.rrd", "a.rrd/run.rrd"),
        "view: no such episode": (f"view {root}/run --data {data} --episode 9 --out {root}/a.mp4", "episodes 0 to 2"),
        "bench: no run": (f"bench --run {root}/nowhere", "does not exist; a run folder holds"),
        "bench: no preset": ("bench --preset tyni", "tyni"),
        "export: no run": (f"export {root}/nowhere --to onnx", "does not exist; a run folder holds"),
        "export: out exists": (f"export {root}/run --to onnx --out {root}/written", "written exists"),
        "export: no such episode": (f"export {root}/run --to onnx --data {data} --episode 9", "has episodes 0..2"),
        "convert: no folder": (f"convert robotwin {root}/nowhere {out}", "is not a folder"),
        "collect: an unknown environment": (f"collect --env metaworld:pus {out}", "Did you mean 'metaworld:push-v3'"),
        "demo: no such demo": (f"demo --name pus {out}", "unknown demo 'pus'"),
    }


@pytest.mark.parametrize("name", commands("", ""))
def test_a_mistake_is_an_error_before_torch_is_imported(name: str, said: dict[str, str]):
    words = commands("", "")[name][1]
    assert "torch was imported" not in said[name]
    assert words in said[name]
