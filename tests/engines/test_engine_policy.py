"""An exported policy is the policy: the same tokens, the same plans, in the same runtime."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_fakes import observations

from video2act.clips import FrameHistory
from video2act.engines.choice import load_policy
from video2act.engines.policy import EnginePolicy
from video2act.engines.session import check_installed
from video2act.interfaces import ChecksState, ConfiguredSystem, Continuing
from video2act.policy import Video2Act
from video2act.programs.serve import ServedPolicy
from video2act.runtime.runner import Runner
from video2act.types import Observation, Tokens, Video, VideoCondition

LIMIT = 1e-4


def clips_of(policy: Video2Act, seen: list[Observation]) -> dict[str, Video]:
    assert policy.config.system2 is not None
    history = FrameHistory(policy.config.system2.streams)
    for observation in seen:
        history.append(observation)
    return history.clips(policy.config.fps)


@pytest.fixture(scope="module")
def seen(policy: Video2Act) -> list[Observation]:
    return observations(policy.config)


def test_it_is_what_the_runtime_and_the_server_ask_for(exported: EnginePolicy):
    assert isinstance(exported, ConfiguredSystem)
    assert isinstance(exported, ServedPolicy)
    assert isinstance(exported, ChecksState)
    assert not isinstance(exported, Continuing)


@pytest.mark.parametrize("instruction", ["push the block", "p", "öffne die Schublade ganz langsam, bitte"])
def test_system2_sees_the_same(policy: Video2Act, exported: EnginePolicy, seen: list[Observation], instruction: str):
    clips = clips_of(policy, seen)
    ours, theirs = exported.perceive(clips, [instruction]), policy.perceive(clips, [instruction])
    assert np.abs(np.asarray(ours.data) - theirs.data.numpy()).max() < LIMIT
    assert np.asarray(ours.mask).all()


def test_system2_reads_any_pixels_and_every_stream(policy: Video2Act, exported: EnginePolicy, seen: list[Observation]):
    clips = clips_of(policy, seen)
    generator = torch.Generator().manual_seed(0)
    first = np.asarray(exported.perceive(clips, ["push"]).data)
    for name, clip in clips.items():
        other = {**clips, name: Video(2 * torch.rand(clip.grid.shape, generator=generator) - 1, clip.fps)}
        found = np.asarray(exported.perceive(other, ["push"]).data)
        assert np.abs(found - policy.perceive(other, ["push"]).data.numpy()).max() < LIMIT
        assert np.abs(found - first).max() > 1e-3


@pytest.mark.parametrize("instruction", ["push the block", "pull"])
def test_system1_plans_the_same(policy: Video2Act, exported: EnginePolicy, seen: list[Observation], instruction: str):
    tokens = policy.perceive(clips_of(policy, seen), [instruction])
    own = Tokens(tokens.data.numpy(), tokens.mask.numpy())  # type: ignore[arg-type]
    for seed in (0, 7):
        policy.seed(seed)
        exported.seed(seed)
        for observation in seen[-2:]:  # the second plan goes on with the same noise
            now = replace(observation, instruction=instruction)
            theirs = policy.act(now, VideoCondition(tokens, now.time - 0.1, 0))
            ours = exported.act(now, VideoCondition(own, now.time - 0.1, 0))
            assert np.abs(ours.actions - theirs.actions).max() < LIMIT
            assert (ours.observed_at, ours.period) == (theirs.observed_at, theirs.period)


def test_plans_depend_on_every_input(exported: EnginePolicy, seen: list[Observation]):
    now, shape = seen[0], (1, 6, exported.config.system1.hidden)
    draw = np.random.default_rng(1)

    def plan(observation: Observation = now, age: float = 0.0, *, data: float = 0.0, seed: int = 0) -> np.ndarray:
        exported.seed(seed)
        tokens = Tokens(np.full(shape, data, np.float32), np.ones(shape[:2], bool))  # type: ignore[arg-type]
        return exported.act(observation, VideoCondition(tokens, observation.time - age, 0)).actions

    first = plan()
    assert np.array_equal(plan(), first)
    for camera in exported.config.cameras:
        other = draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        assert not np.allclose(plan(replace(now, images={**now.images, camera: other})), first, atol=1e-5)
    changed = [
        plan(replace(now, state=now.state + 1)),
        plan(replace(now, instruction="pull")),
        plan(age=0.2),
        plan(data=1.0),
        plan(seed=1),
    ]
    for actions in changed:
        assert not np.allclose(actions, first, atol=1e-5)


def test_a_runner_drives_alike_over_an_episode(policy: Video2Act, exported: EnginePolicy, seen: list[Observation]):
    actions = []
    for system in (policy, exported):
        with Runner(system) as runner:
            system.seed(3)
            for _ in range(2):
                runner.reset()
                actions.append([runner.step(observation) for observation in seen])
    for ours, theirs in zip(actions[2:], actions[:2], strict=True):
        assert np.abs(np.array(ours) - np.array(theirs)).max() < LIMIT


def test_a_runner_takes_a_folder_and_an_engine(policy: Video2Act, onnx_folder: Path, seen: list[Observation]):
    assert policy.folder is not None
    found = []
    for folder, engine in ((policy.folder, "torch"), (str(onnx_folder), "onnxruntime")):
        with Runner(folder, engine=engine, system2="inline") as runner:
            runner.reset()
            found.append(runner.step(seen[0]))
    assert np.abs(found[0] - found[1]).max() < LIMIT


def test_system2_works_in_a_thread(onnx_folder: Path, seen: list[Observation]):
    with Runner(onnx_folder, engine="onnxruntime", system2="thread") as runner:
        runner.reset()
        assert np.isfinite(runner.step(seen[0])).all()
    with pytest.raises(ValueError, match="choose system2='thread'"):
        Runner(onnx_folder, engine="onnxruntime", system2="process")


def test_clients_have_noise_of_their_own(exported: EnginePolicy, seen: list[Observation]):
    exported.seed(4)
    one, two = exported.with_own_noise(), exported.with_own_noise()
    condition = VideoCondition(exported.perceive(_clips(exported, seen), ["push"]), seen[0].time, 0)
    first = one.act(seen[0], condition).actions
    assert not np.array_equal(one.act(seen[0], condition).actions, first)
    assert np.array_equal(two.act(seen[0], condition).actions, first)


def _clips(exported: EnginePolicy, seen: list[Observation]) -> dict[str, Video]:
    assert exported.config.system2 is not None
    history = FrameHistory(exported.config.system2.streams)
    history.append(seen[0])
    return history.clips(exported.config.fps)


def test_a_state_far_outside_is_clipped_and_named_alike(
    policy: Video2Act, exported: EnginePolicy, seen: list[Observation]
):
    far = replace(seen[0], state=np.array([1.0, 2.0, 1e4], np.float32))
    assert exported.state_problem(far) == policy.state_problem(far) != ""
    assert np.allclose(exported.normalised_state(far), policy.normalised_state(far), rtol=1e-6)
    assert exported.max_instruction_bytes == policy.max_instruction_bytes == 1000
    condition = VideoCondition(policy.perceive(clips_of(policy, seen), ["push"]), far.time, 0)
    policy.seed(0)
    exported.seed(0)
    assert np.abs(exported.act(far, condition).actions - policy.act(far, condition).actions).max() < LIMIT


WRONG: dict[str, Callable[[Observation], Observation]] = {
    "trained on a state of 3 numbers": lambda now: replace(now, state=np.zeros(5, np.float32)),
    "not finite": lambda now: replace(now, state=np.array([0.0, np.nan, 0.0], np.float32)),
    "System 1 reads camera 'wrist'": lambda now: replace(now, images={"front": now.images["front"]}),
    "are too small": lambda now: replace(now, images=dict.fromkeys(now.images, np.zeros((4, 4, 3), np.uint8))),
    "their clocks differ": lambda now: replace(now, time=-1.0),
    "the instruction is empty": lambda now: replace(now, instruction=" "),
    "the encoder takes 1000": lambda now: replace(now, instruction="x" * 1001),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_pytorch_refuses_the_engine_refuses(
    policy: Video2Act, exported: EnginePolicy, seen: list[Observation], message: str
):
    now = WRONG[message](seen[0])
    condition = VideoCondition(policy.perceive(clips_of(policy, seen), ["push"]), 0.0, 0)
    for system in (policy, exported):
        with pytest.raises(ValueError, match=message):
            system.act(now, condition)


def test_clips_that_do_not_fit_are_refused(policy: Video2Act, exported: EnginePolicy, seen: list[Observation]):
    clips = clips_of(policy, seen)
    short = Video(clips["motion"].grid[:, :, :5], clips["motion"].fps)
    for wrong, message in (
        ({"spatial": clips["spatial"]}, "'motion' has no clip"),
        ({**clips, "motion": short}, "9, "),
    ):
        with pytest.raises(ValueError, match=message):
            exported.perceive(wrong, ["push"])
    with pytest.raises(ValueError, match="one clip at a time"):
        exported.perceive(clips, ["push", "pull"])


# folders


def test_each_engine_names_the_folder_that_it_needs(policy: Video2Act, onnx_folder: Path, tmp_path: Path):
    assert policy.folder is not None
    with pytest.raises(ValueError, match=r"run folder of PyTorch.*\n  video2act export .* --to onnx\n"):
        load_policy(policy.folder, "onnxruntime")
    with pytest.raises(ValueError, match=r"holds an exported policy .* choose engine onnxruntime or openvino"):
        load_policy(onnx_folder)
    with pytest.raises(ValueError, match="was exported for onnxruntime, not for openvino"):
        load_policy(onnx_folder, "openvino")
    with pytest.raises(FileNotFoundError, match="is no exported policy"):
        load_policy(tmp_path, "onnxruntime")
    with pytest.raises(ValueError, match="unknown engine 'tensorrt'; choose from torch"):
        load_policy(onnx_folder, "tensorrt")
    with pytest.raises(ValueError, match="computes on the CPU, got device='cuda'"):
        load_policy(onnx_folder, "onnxruntime", device="cuda")
    with pytest.raises(ValueError, match="is for a folder, but Video2Act is loaded"):
        Runner(policy, engine="onnxruntime")


@pytest.mark.parametrize("file", ["step.onnx", "arrays.npz", "engine.json", "perceive.onnx"])
def test_a_damaged_or_missing_file_is_named(onnx_folder: Path, tmp_path: Path, file: str):
    copy = tmp_path / "copy"
    shutil.copytree(onnx_folder, copy)
    (copy / file).write_bytes(b"{}x")
    with pytest.raises(ValueError, match=rf"{file}.*export the policy again"):
        EnginePolicy(copy)
    (copy / file).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=r"export|does not exist"):
        EnginePolicy(copy)


@pytest.mark.parametrize("file", ["config.json", "stats.json", "step.onnx"])
def test_a_file_that_is_not_the_one_that_was_checked_is_named(onnx_folder: Path, tmp_path: Path, file: str):
    """Edited by hand, or of another export: whole, readable, and not what the record of the check is about."""
    copy = shutil.copytree(onnx_folder, tmp_path / "copy")
    if file == "step.onnx":
        (copy / file).write_bytes((copy / "conditions.onnx").read_bytes())
    else:
        (copy / file).write_text((copy / file).read_text() + "\n")
    with pytest.raises(ValueError, match=rf"{file} is not the file that was exported and checked; export the policy"):
        EnginePolicy(copy)


def test_an_array_that_would_fill_the_memory_is_refused(onnx_folder: Path, tmp_path: Path):
    copy = shutil.copytree(onnx_folder, tmp_path / "copy")
    record = json.loads((copy / "engine.json").read_text())
    (copy / "engine.json").write_text(json.dumps({**record, "files": {}}))
    with zipfile.ZipFile(copy / "arrays.npz", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("a.npy", "w") as out:
        for _ in range(2**7 + 1):
            out.write(bytes(2**23))
    assert (copy / "arrays.npz").stat().st_size < 2**22
    with pytest.raises(ValueError, match=r"arrays\.npz is damaged \(its arrays have .* export the policy again"):
        EnginePolicy(copy)


def test_another_format_is_refused(onnx_folder: Path, tmp_path: Path):
    shutil.copytree(onnx_folder, tmp_path / "copy")
    path = tmp_path / "copy" / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        EnginePolicy(tmp_path / "copy")


def test_an_engine_that_is_not_installed_is_answered_with_the_pip_line(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"engine onnxruntime needs onnxruntime .*pip install 'video2act\[engine\]'"):
        EnginePolicy(onnx_folder)
    check_installed("openvino")
