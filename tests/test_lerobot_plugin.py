"""The LeRobot plugin against today's library, over a stand-in for the few names of LeRobot that it builds on.

What LeRobot itself makes of it is `make test-interop`'s business; that the plugin still fits what it calls is told
here.
"""

import enum
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from video2act.config import PolicyConfig
from video2act.policy import Video2Act
from video2act.presets import PRESETS

PLUGIN = Path(__file__).parents[1] / "lerobot_policy_video2act" / "src"


class NormalizationMode(enum.Enum):
    IDENTITY = "IDENTITY"


@dataclass
class PreTrainedConfig:
    input_features: dict[str, Any] = field(default_factory=dict)
    output_features: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        return lambda subclass: subclass

    def __post_init__(self) -> None: ...

    robot_state_feature = property(lambda self: self.input_features.get("observation.state"))
    action_feature = property(lambda self: self.output_features.get("action"))
    image_features = property(lambda self: {k: v for k, v in self.input_features.items() if "image" in k})


class PreTrainedPolicy(nn.Module):
    def __init__(self, config: Any):
        super().__init__()
        self.config = config


STANDS_IN = {
    "configs.policies": {"PreTrainedConfig": PreTrainedConfig},
    "configs.types": {"NormalizationMode": NormalizationMode},
    "optim.optimizers": {"AdamWConfig": SimpleNamespace},
    "optim.schedulers": {"DiffuserSchedulerConfig": SimpleNamespace},
    "policies.pretrained": {"PreTrainedPolicy": PreTrainedPolicy},
}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Its modules of the config and of the policy."""
    for name, content in STANDS_IN.items():
        for package in ("lerobot", f"lerobot.{name.partition('.')[0]}"):
            monkeypatch.setitem(sys.modules, package, ModuleType(package))
        module = ModuleType(f"lerobot.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    package = ModuleType("lerobot_policy_video2act")
    package.__path__ = [str(PLUGIN / package.__name__)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    names = [f"{package.__name__}.{name}" for name in ("configuration_video2act", "modeling_video2act")]
    yield importlib.import_module(names[0]), importlib.import_module(names[1])
    for name in [*names, f"{package.__name__}.batches"]:
        sys.modules.pop(name)


@pytest.fixture
def policy(plugin: tuple[ModuleType, ModuleType], small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new one, of the small preset; its video model has random weights, which only a test may have."""
    configuration, modeling = plugin
    monkeypatch.setitem(PRESETS, "tiny", lambda spec: small_config)
    monkeypatch.setattr(modeling, "build_policy", lambda config, statistics, video_model: Video2Act(config, statistics))
    shapes = {
        "observation.images.front": (3, 16, 16),
        "observation.images.wrist": (3, 16, 16),
        "observation.state": (3,),
    }
    config = configuration.Video2ActConfig(
        input_features={name: SimpleNamespace(shape=shape) for name, shape in shapes.items()},
        output_features={"action": SimpleNamespace(shape=(2,))},
        fps=small_config.fps,
    )
    stats = {
        name: {"mean": [0.0] * size, "std": [1.0] * size, "min": [-1.0] * size, "max": [1.0] * size}
        for name, size in (("observation.state", 3), ("action", 2))
    }
    return modeling.Video2ActPolicy(config, stats)


def training_batch(policy: Any, real_steps: int) -> dict[str, Any]:
    """Two samples, before which as many control steps lie."""
    looks_back, horizon = len(policy.config.observation_delta_indices), len(policy.config.action_delta_indices)
    is_pad = torch.arange(looks_back) < looks_back - 1 - real_steps
    images = {f"observation.images.{camera}": torch.rand(2, looks_back, 3, 16, 16) for camera in ("front", "wrist")}
    return {
        **images,
        **{f"{name}_is_pad": is_pad.repeat(2, 1) for name in images},
        "observation.state": torch.zeros(2, looks_back, 3),
        "action": torch.zeros(2, horizon, 2),
        "action_is_pad": torch.zeros(2, horizon, dtype=torch.bool),
        "task": ["push", "pull"],
    }


def test_it_takes_a_training_step(policy: Any):
    """It handed over one chance where the library had begun to take two."""
    loss, told = policy(training_batch(policy, 3))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(parameter.grad is not None for parameter in policy.parameters())
    assert told["staleness_s"] >= 0


def test_it_acts(policy: Any, small_config: PolicyConfig):
    seen = {
        name: value[:, -1] for name, value in training_batch(policy, 3).items() if name.startswith("observation.images")
    }
    seen = {name: value for name, value in seen.items() if not name.endswith("_is_pad")}
    seen |= {"observation.state": torch.zeros(2, 3), "task": ["push", "pull"]}
    assert policy.eval().select_action(seen).shape == (2, 2)
    assert policy.predict_action_chunk(seen).shape == (2, small_config.horizon, 2)
