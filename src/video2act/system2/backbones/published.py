"""Published video models by family; the files they need are imported when one is asked for, since they bring large libraries.

A source is the model's own folder (or repo), or a folder of `train-video`, which holds a finetuned transformer and names the
source of everything else.
"""

from dataclasses import replace
from importlib import import_module
from typing import Any

from video2act import config as configs
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones.checkpoint import Checkpoint
from video2act.system2.backbones.sources import Component, locate

FAMILIES = {
    "wan21": "wan.WanBackbone",
    "wan22": "wan.WanBackbone",
    "hunyuan": "hunyuan.HunyuanBackbone",
    "cogvideox": "cogvideox.CogVideoXBackbone",
    "cogvideox15": "cogvideox.CogVideoXBackbone",
    "ltx": "ltx.LTXBackbone",
    "cosmos": "cosmos.CosmosBackbone",
}
"""name in `PretrainedBackboneConfig` -> file and class"""

TUNED_CONFIG, TUNED_WEIGHTS = "backbone.json", "model.safetensors"
"""of a folder of `train-video`"""


def family(name: str) -> Any:
    """The class of a family, a subclass of `PretrainedBackbone`."""
    module, _, kind = FAMILIES[name].partition(".")
    return getattr(import_module(f"video2act.system2.backbones.{module}"), kind)


def load_published(config: PretrainedBackboneConfig, whole: bool) -> Any:
    """A backbone with the weights of its source.

    Raises:
        FileNotFoundError: the source, or one of its files, is missing.
        ValueError: the source holds another model than the config names, or is damaged.
    """
    kind = family(config.name)
    root = locate(config.source)
    tuned = root if (root / TUNED_CONFIG).is_file() else None
    while (root / TUNED_CONFIG).is_file():  # what was finetuned may have been finetuned before
        base = configs.load_backbone(root / TUNED_CONFIG)
        if not isinstance(base, PretrainedBackboneConfig) or base.name != config.name:
            raise ValueError(f"{root} holds a {base.name} video model, but the config names {config.name}; choose what fits")
        root = locate(base.source)
    parts = kind.find(root)
    if tuned is None:
        return kind(config, parts, whole)
    weights = Component(parts.transformer.path, parts.transformer.config, Checkpoint([tuned / TUNED_WEIGHTS]))
    return kind(config, replace(parts, transformer=weights), whole)
