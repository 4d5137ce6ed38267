"""One small policy, exported once for each engine, for all tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_fakes import observations

from video2act.config import PolicyConfig
from video2act.engines.export import export_policy
from video2act.engines.policy import EnginePolicy
from video2act.policy import Video2Act


@pytest.fixture(scope="session")
def small_config(small_config: PolicyConfig) -> PolicyConfig:
    """One block that reads the text and one that reads the rest: an export takes as long as a policy is deep."""
    return small_config.replace({"system1.depth": 2})


@pytest.fixture(scope="session")
def save_run(
    make_policy: Callable[[PolicyConfig], Video2Act], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[PolicyConfig], Video2Act]:
    """A policy with random weights, loaded from a run folder of its own."""

    def save(config: PolicyConfig) -> Video2Act:
        folder = tmp_path_factory.mktemp("run")
        make_policy(config).save(folder)
        (folder / "instructions.json").write_text('["push the block"]')
        return Video2Act.load(folder)

    return save


@pytest.fixture(scope="session")
def policy(save_run: Callable[[PolicyConfig], Video2Act], small_config: PolicyConfig) -> Video2Act:
    return save_run(small_config)


@pytest.fixture(scope="session")
def onnx_folder(policy: Video2Act) -> Path:
    """The small policy, exported for onnxruntime."""
    assert policy.folder is not None
    out, seen = policy.folder / "onnx", observations(policy.config)
    export_policy(policy, out, engine="onnxruntime", observations=seen, checked_on="noise")
    return out


@pytest.fixture(scope="session")
def exported(onnx_folder: Path) -> EnginePolicy:
    return EnginePolicy(onnx_folder)
