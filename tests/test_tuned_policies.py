"""A policy whose video model is frozen, trained whole, or tuned by LoRA: each way to load it gives the same tokens and
actions."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import published_models
from several_systems import SeveralSystems
from video2act.config import PolicyConfig, PretrainedBackboneConfig, TuningConfig
from video2act.interfaces import Perceiver
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.process_loop import ProcessSlowLoop
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.system2 import load_system2
from video2act.system2.backbones.adapter import is_adapter
from video2act.types import Observation, Tokens

TUNINGS = {
    "frozen": TuningConfig(),
    "full": TuningConfig("full"),
    "lora": TuningConfig("lora", rank=2, alpha=4.0),
}


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory,
    small_config: PolicyConfig,
    make_policy: Callable[[PolicyConfig], Video2Act],
) -> Callable[[str], Path]:
    """Folders of `save_pretrained`: the small policy over a tiny Wan, whose tuned weights were moved."""
    folder = tmp_path_factory.mktemp("tuned")
    source = published_models.write_wan21(folder / "wan21")
    backbone = PretrainedBackboneConfig("wan21", str(source), (2,), dtype="float32", text_cache=str(folder / "text"))

    def save(method: str) -> Path:
        if not (folder / method).exists():
            system2 = small_config.system2
            assert system2 is not None
            streams = tuple(replace(stream, size_px=32) for stream in system2.streams)
            system2 = replace(system2, backbone=backbone, streams=streams, tuning=TUNINGS[method])
            policy = make_policy(replace(small_config, system2=system2))
            assert policy.system2 is not None
            policy.system2.learn()
            with torch.no_grad():
                for parameter in policy.system2.backbone.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.1 * torch.randn(parameter.shape))
            policy.save_pretrained(folder / method)
        return folder / method

    return save


def observation(step: int = 0) -> Observation:
    rng = np.random.default_rng(step)
    images = {camera: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for camera in ("front", "wrist")}
    return Observation(images, rng.standard_normal(3).astype(np.float32), "push", step / 20)


def tokens_of(system: Perceiver, policy: Video2Act) -> Tokens:
    assert policy.config.system2 is not None
    loop = InlineSlowLoop(system, RefreshSpec(policy.config.system2.streams, refresh_every=1, control_fps=20.0))
    loop.reset(0)
    loop.observe(observation())
    return loop.condition().tokens


def test_tuning_changes_the_tokens(saved: Callable[[str], Path]):
    """The other tests would pass if it did not."""
    frozen, *tuned = (tokens_of(policy, policy).data for policy in (Video2Act.load(saved(name)) for name in TUNINGS))
    assert all((tokens - frozen).abs().max() > 0.01 for tokens in tuned)


def test_a_lora_that_was_loaded_is_not_trained_further(saved: Callable[[str], Path]):
    """Saving kept the second one only."""
    policy = Video2Act.load(saved("lora"))
    with pytest.raises(ValueError, match="holds a LoRA that was trained before"):
        policy.slow.learn()
    Video2Act.load(saved("full")).slow.learn()


@pytest.mark.parametrize("method", TUNINGS)
def test_a_policy_that_was_pushed_to_the_hub_comes_back(
    method: str, saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A LoRA stayed behind: `adapter/` was not fetched."""

    def copied(source: Path, target: Path, patterns: list[str]) -> Path:
        for file in (path for path in source.rglob("*") if path.is_file()):
            name = file.relative_to(source).as_posix()
            if any(fnmatch(name, pattern) for pattern in patterns):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / name)
        return target

    class Api:
        def create_repo(self, repo_id: str, **options: object) -> None: ...

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str, allow_patterns: list[str]) -> str:
            return str(copied(Path(folder_path), tmp_path / "hub", allow_patterns))

    def fetch(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        return str(copied(tmp_path / "hub", tmp_path / "fetched", allow_patterns))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    policy = Video2Act.load(saved(method))
    policy.push_to_hub("me/push", tmp_path / "upload")
    again = Video2Act.from_pretrained("me/push")
    assert torch.equal(tokens_of(again, again).data, tokens_of(policy, policy).data)
    for each in (policy, again):
        each.seed(3)
    assert policy.config.system2 is not None
    loop = InlineSlowLoop(policy, RefreshSpec(policy.config.system2.streams, refresh_every=1, control_fps=20.0))
    loop.observe(observation())
    condition = loop.condition()
    first, second = (each.act(observation(), condition).actions for each in (policy, again))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("method", TUNINGS)
def test_system_2_alone_perceives_as_the_whole_policy(method: str, saved: Callable[[str], Path]):
    """Without what was tuned: a LoRA's tokens differed, and a whole transformer was refused as unexpected."""
    policy, alone = Video2Act.load(saved(method)), load_system2(saved(method))
    assert torch.equal(tokens_of(alone, policy).data, tokens_of(policy, policy).data)


@pytest.mark.parametrize("method", TUNINGS)
def test_what_was_tuned_is_in_the_fingerprint_of_system_2(
    method: str, saved: Callable[[str], Path], make_policy: Callable[[PolicyConfig], Video2Act]
):
    """The same for the policy that was trained, after it was loaded, and for its System 2 alone."""
    policy = Video2Act.load(saved(method))
    assert load_system2(saved(method)).fingerprint() == policy.system2_fingerprint()
    trained = make_policy(policy.config)
    trained.slow.learn()
    untuned = trained.system2_fingerprint()
    if method == "full":
        trained.slow.backbone.load_state_dict(policy.slow.backbone.state_dict())
    for name, parameter in trained.slow.backbone.named_parameters():
        if is_adapter(name):
            own = policy.slow.adapter[name.removeprefix("transformer.").replace(".default.", ".")]
            parameter.data.copy_(own)
    assert trained.system2_fingerprint() == policy.system2_fingerprint()
    assert (untuned == policy.system2_fingerprint()) == (method == "frozen")


def test_system_2_in_a_process_perceives_as_the_whole_policy(saved: Callable[[str], Path]):
    runs = {method: saved(method) for method in ("full", "lora")}
    policies = {method: Video2Act.load(run) for method, run in runs.items()}
    config = policies["lora"].config.system2
    assert config is not None
    spec = RefreshSpec(config.streams, refresh_every=1, control_fps=20.0)
    loop = ProcessSlowLoop(partial(SeveralSystems, runs), spec, instruction="lora")
    try:
        for episode, (method, policy) in enumerate(policies.items()):
            loop.reset(episode)
            named = replace(observation(), instruction=method)
            loop.observe(named)
            tokens = loop.condition().tokens
            assert torch.allclose(tokens.data, tokens_of(policy, policy).data, atol=1e-5)
    finally:
        loop.close()
