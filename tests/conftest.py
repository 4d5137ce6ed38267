"""Every call in a test run is shape-checked: jaxtyping's import hook wraps the library's annotated functions and
dataclasses.

Fixtures that many tests need: a policy as small as validation allows, batches for it, a small recorded dataset.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

# without bytecode on disk, each of the processes that tests start compiles 6,700 modules anew (10 s of CPU)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(["video2act", "video2act_released"], "beartype.beartype")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from accelerate.state import AcceleratorState, GradientState, PartialState  # noqa: E402

from video2act.config import (  # noqa: E402
    BackboneConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.data import DatasetWriter, Episode  # noqa: E402
from video2act.policy import Video2Act  # noqa: E402
from video2act.presets import PRESETS, DataSpec  # noqa: E402
from video2act.statistics import Statistics  # noqa: E402
from video2act.types import Batch, Video  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def single_torch_thread() -> None:
    """For matrices this small, two threads that wait for a busy core are many times slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_bfloat16_on_processors() -> Iterator[None]:
    """What is compared to 1e-4 must not depend on the machine. Tests of mixed precision turn it on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power; every file that is written would wait 10 ms for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_server_for_all_workers() -> Iterator[None]:
    """Worker processes are forked from a server that imports what the first of them needs. Here it imports what any
    test's worker needs: otherwise each of these would import torch and diffusers anew, for 4 to 6 s."""
    preload = forkserver.set_forkserver_preload
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "set_forkserver_preload", lambda names: preload([*names, *OF_WORKERS]))
        # the server does not know the folders that pytest adds to its own path
        path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        yield


OF_WORKERS = (
    "float32_workers",
    "video2act.training.cache_filling",
    "video2act.evaluation.episodes",
    "video2act.system2.backbones.wan",
)


@pytest.fixture(scope="session")
def small_backbone() -> BackboneConfig:
    return BackboneConfig(
        feature_layers=(1,),
        hidden=32,
        depth=2,
        num_heads=4,
        latent_channels=16,
        patch_px=8,
        frames_per_latent=4,
        text_dim=16,
    )


@pytest.fixture(scope="session")
def small_config(small_backbone: BackboneConfig) -> PolicyConfig:
    """Both systems, two cameras, two streams; the motion stream has 3 latent frames at 5 Hz: 0 and 1.67 Hz."""
    former = FormerConfig(num_tokens=3, depth=1, num_heads=4)
    streams = (
        StreamConfig(
            "spatial", "front", num_frames=1, stride=1, size_px=16, filter=FilterConfig("sobel"), former=former
        ),
        StreamConfig(
            "motion",
            "front",
            num_frames=9,
            stride=1,
            size_px=16,
            filter=FilterConfig("temporal_bandpass", low_hz=1.0, high_hz=2.5),
            former=former,
        ),
    )
    return PolicyConfig(
        state_dim=3,
        action_dim=2,
        fps=20.0,
        cameras=("front", "wrist"),
        image_px=16,
        horizon=4,
        execute_steps=2,
        system1=System1Config(hidden=32, depth=4, num_heads=4, text_dim=16, image_channels=8),
        system2=System2Config(small_backbone, streams),
        refresh_every=4,
        max_staleness_steps=4,
    )


@pytest.fixture(scope="session")
def small_statistics() -> dict[str, Statistics]:
    """Of a state of 3 and an action of 2 dimensions; none is trivial."""
    return {
        "state": Statistics(mean=(1.0, 2.0, 3.0), std=(0.5, 1.0, 2.0), min=(0.0, 0.0, 0.0), max=(2.0, 4.0, 6.0)),
        "action": Statistics(mean=(0.5, -0.5), std=(1.0, 0.2), min=(-2.0, -1.0), max=(3.0, 0.0)),
    }


@pytest.fixture(scope="session")
def make_policy(small_statistics: dict[str, Statistics]) -> Callable[[PolicyConfig], Video2Act]:
    """A policy with random weights, always the same ones."""

    def make(config: PolicyConfig) -> Video2Act:
        torch.manual_seed(0)
        return Video2Act(config, small_statistics).eval()

    return make


@pytest.fixture(scope="session")
def saved_policy(
    tmp_path_factory: pytest.TempPathFactory,
    small_config: PolicyConfig,
    make_policy: Callable[[PolicyConfig], Video2Act],
) -> Path:
    """A run folder that no test changes."""
    folder = tmp_path_factory.mktemp("saved") / "policy"
    make_policy(small_config).save(folder)
    return folder


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """A random batch that fits a config."""

    def make(config: PolicyConfig, size: int = 2, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape: int) -> torch.Tensor:
            return 2 * torch.rand(*shape, generator=generator) - 1

        streams = config.system2.streams if config.system2 else ()
        return Batch(
            videos={
                s.name: Video(uniform(size, 3, s.num_frames, s.size_px, s.size_px), config.fps / s.stride)
                for s in streams
            },
            images={camera: uniform(size, 3, config.image_px, config.image_px) for camera in config.cameras},
            state=uniform(size, config.state_dim),
            instruction=["push the block", "pull", "push", "open the drawer slowly"][:size],
            actions=uniform(size, config.horizon, config.action_dim),
            action_is_pad=torch.zeros(size, config.horizon, dtype=torch.bool),
            staleness=torch.rand(size, generator=generator),
        )

    return make


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three episodes of 12 steps at 20 Hz: a bright square that the action moves, two cameras of 64 px."""
    root = tmp_path_factory.mktemp("recorded") / "push"
    writer = DatasetWriter.create(
        root,
        fps=20.0,
        robot="arm",
        cameras=("front", "wrist"),
        image_size=64,
        state_names=("x", "y", "grip"),
        action_names=("dx", "dy"),
    )
    with writer:
        for number in range(3):
            rng = np.random.default_rng(number)
            length = 12
            action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
            place = np.clip(32 + 3 * action.cumsum(axis=0), 8, 56).astype(int)
            frames = np.full((length, 64, 64, 3), 40, np.uint8)
            for t, (x, y) in enumerate(place):
                frames[t, y - 8 : y + 8, x - 8 : x + 8] = 200
            state = np.concatenate([place / 64, np.zeros((length, 1))], axis=1).astype(np.float32)
            instruction = "push the square" if number % 2 == 0 else "pull"
            writer.add_episode(
                Episode({"front": frames, "wrist": frames[:, ::-1]}, state, action, instruction, seed=number)
            )
    return root


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch, small_config: PolicyConfig) -> Callable[[DataSpec], PolicyConfig]:
    """The preset `small` is as small as the recording."""

    def small(spec: DataSpec) -> PolicyConfig:
        # the band goes with the rate, as in presets
        band = {"low_hz": spec.fps / 20, "high_hz": spec.fps / 8}
        changes = {f"system2.streams.motion.filter.{name}": value for name, value in band.items()}
        sizes = {name: getattr(spec, name) for name in ("state_dim", "action_dim", "fps", "cameras")}
        return small_config.replace({**sizes, **changes})

    monkeypatch.setitem(PRESETS, "small", small)
    return small


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """accelerate keeps its settings for the life of a process; a program is a process, a test is not."""
    _reset_accelerator()
    yield
    _reset_accelerator()


def _reset_accelerator() -> None:
    AcceleratorState._reset_state()
    GradientState._reset_state()
    PartialState._reset_state()


@pytest.fixture
def short_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """MetaWorld's episodes end after 8 control steps, in this process."""
    from video2act.envs import registry

    family = registry.FAMILIES["metaworld"]

    class Short(family.environment):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{"max_steps": 8, **options})

    monkeypatch.setitem(registry.FAMILIES, "metaworld", replace(family, environment=Short))
