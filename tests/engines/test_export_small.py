"""`small` with narrow networks: Wan's VAE and transformer as a graph, and its text encoder as embeddings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from engine_fakes import observations

from video2act.config import PolicyConfig, PretrainedBackboneConfig, ScratchConfig
from video2act.engines.export import export_policy
from video2act.engines.policy import EnginePolicy
from video2act.policy import Video2Act
from video2act.system2.backbones.scratch import vae_config, write_base

NARROW = ScratchConfig(hidden=24, depth=2, num_heads=2, vae_width=4, text_dim=16)


@pytest.fixture(scope="module")
def policy(
    small_config: PolicyConfig, save_run: Callable[[PolicyConfig], Video2Act], tmp_path_factory: pytest.TempPathFactory
) -> Video2Act:
    folder = tmp_path_factory.mktemp("wan_small")
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**vae_config(NARROW)).state_dict()
    write_base(folder, NARROW, vae=vae, statistics=([0.0] * 16, [1.0] * 16))
    assert small_config.system2 is not None
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    backbone = PretrainedBackboneConfig("wan_small", str(folder), feature_layers=(1,), dtype="float32")
    # with random weights a grey clip has nearly the features of any other, and their difference is mostly rounding
    system2 = replace(small_config.system2, backbone=backbone, streams=streams, reference="none")
    return save_run(replace(small_config, system2=system2))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_it_is_exact_and_knows_the_instructions_of_the_training(policy: Video2Act, engine: str, tmp_path: Path):
    seen = [replace(observation, instruction="push the block") for observation in observations(policy.config)]
    found = export_policy(policy, tmp_path / "out", engine=engine, observations=seen, checked_on="noise")  # type: ignore[arg-type]
    assert max(found.actions, found.tokens) < 1e-4
    exported = EnginePolicy(tmp_path / "out", engine)  # type: ignore[arg-type]
    assert exported.exported.instructions == ["push the block"]
    assert exported.max_instruction_bytes is None
    with pytest.raises(ValueError, match=r"'pull' has no embedding .* it knows 'push the block'"):
        exported.check_instruction("pull")


def test_without_recorded_instructions_it_is_refused(policy: Video2Act, tmp_path: Path):
    assert policy.folder is not None
    recorded = policy.folder / "instructions.json"
    kept = recorded.read_text()
    recorded.unlink()
    try:
        with pytest.raises(ValueError, match=r"records no instruction .instructions.json."):
            export_policy(policy, tmp_path / "out", engine="onnxruntime", observations=[], checked_on="")
    finally:
        recorded.write_text(kept)
    assert not list(tmp_path.iterdir())
