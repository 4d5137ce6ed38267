"""Video diffusion models, each behind `VideoBackbone`, and the folder in which a trained one is kept."""

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from video2act import config as configs
from video2act.atomic import write_text
from video2act.config import BackboneConfig, PretrainedBackboneConfig
from video2act.interfaces import VideoBackbone
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.weights import load_weights, save_weights

CONFIG_FILE, WEIGHTS_FILE = "backbone.json", "model.safetensors"

FAMILIES = {"wan21": "wan.WanBackbone", "wan22": "wan.WanBackbone"}
"""name in `PretrainedBackboneConfig` -> file and class; imported when needed, since they bring large libraries"""


def make_backbone(config: BackboneConfig | PretrainedBackboneConfig, whole: bool = False) -> VideoBackbone:
    """The backbone a config names: the tiny one with random weights, a published one with those of its source.

    Args:
        whole: of a published one, load also what only `velocity` and `decode` need.
    Raises:
        FileNotFoundError: the source or one of its files is missing.
        ValueError: the source holds another model than the config names, or is damaged.
    """
    if isinstance(config, BackboneConfig):
        return TinyBackbone(config)
    from video2act.system2.backbones.sources import locate

    kind = family(config.name)
    return kind(config, kind.find(locate(config.source)), whole)


def family(name: str) -> Any:
    """The class of a family of published models, a subclass of `PretrainedBackbone`."""
    module, _, kind = FAMILIES[name].partition(".")
    return getattr(import_module(f"{__name__}.{module}"), kind)


def save_video_model(path: Path, config: BackboneConfig, weights: dict[str, Tensor]) -> None:
    """Write a folder that `load_video_model` reads."""
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / CONFIG_FILE, configs.to_json(config))
    save_weights(path / WEIGHTS_FILE, weights)


def load_video_model(path: Path) -> tuple[BackboneConfig, VideoBackbone]:
    """A folder written by `train-video` -> its config and the model, ready to look.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: the weights do not fit the config; the tensors are named.
    """
    if not (path / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{path} is not a video model ({CONFIG_FILE} is missing); make one with train-video")
    config = configs.load(BackboneConfig, path / CONFIG_FILE)
    backbone = make_backbone(config)
    assert isinstance(backbone, nn.Module)
    load_weights(backbone, path / WEIGHTS_FILE)
    return config, backbone.eval()


__all__ = ["TinyBackbone", "load_video_model", "make_backbone", "save_video_model"]
