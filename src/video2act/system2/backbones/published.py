"""Published video models by family, imported when one is needed: they bring large libraries.

A source is the model's folder or repo, or a folder of `train-video`, which holds a finetuned transformer or a LoRA and
names the source of the rest.
"""

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video2act import config as configs
from video2act.config import PretrainedBackboneConfig, TuningConfig
from video2act.files.atomic import write_text
from video2act.files.video_model import BACKBONE_FILE
from video2act.system2.backbones.adapter import save_adapter, taken_out
from video2act.system2.backbones.sources import Component, component, locate
from video2act.video_backbone import VideoBackbone

FAMILIES: dict[str, Any] = {
    "wan21": "wan.WanBackbone",
    "wan22": "wan.WanBackbone",
    "wan_small": "wan.WanBackbone",
    "hunyuan": "hunyuan.HunyuanBackbone",
    "cogvideox": "cogvideox.CogVideoXBackbone",
    "cogvideox15": "cogvideox.CogVideoXBackbone",
    "ltx": "ltx.LTXBackbone",
    "cosmos": "cosmos.CosmosBackbone",
}
"""name in `PretrainedBackboneConfig` -> file and class, or the class itself"""

ADAPTER, TRANSFORMER = "adapter", "transformer"
"""what such a folder holds: a LoRA, or the whole transformer in diffusers' layout"""


def family(name: str) -> Any:
    """The class of a family, a subclass of `PretrainedBackbone`."""
    if not isinstance(FAMILIES[name], str):
        return FAMILIES[name]
    module, _, kind = FAMILIES[name].partition(".")
    return getattr(import_module(f"video2act.system2.backbones.{module}"), kind)


def load_published(config: PretrainedBackboneConfig, whole: bool) -> VideoBackbone:
    """A backbone with the weights of its source.

    Raises:
        FileNotFoundError: the source, or one of its files, is missing.
        ValueError: the source holds another model than the config names, or is damaged.
    """
    kind = family(config.name)
    root = locate(config.source)
    adapters: list[Path] = []
    transformer: Component | None = None
    while (root / BACKBONE_FILE).is_file():  # what was finetuned may have been finetuned before
        base = configs.load_backbone(root / BACKBONE_FILE)
        if not isinstance(base, PretrainedBackboneConfig) or base.name != config.name:
            raise ValueError(
                f"{root} holds a {base.name} video model, but the config names {config.name}; choose what fits"
            )
        if transformer is None:  # what lies beneath a whole transformer no longer matters
            if (root / ADAPTER).is_dir():
                adapters.append(root / ADAPTER)
            else:
                transformer = component(root, TRANSFORMER, expected_class=kind.TRANSFORMER.__name__)
        root = locate(base.source)
    parts = kind.find(root)
    backbone = kind(config, replace(parts, transformer=transformer) if transformer else parts, whole=whole)
    for folder in reversed(adapters):  # the first that was trained goes first
        backbone.merge(folder)
    return backbone


def randomise(backbone: Any) -> None:
    """Give the transformer the random weights of a new one, from torch's own generator."""
    kind, own = type(backbone).TRANSFORMER, backbone.transformer
    with torch.device(next(own.parameters()).device):
        # as published: a family may have changed the config that its network runs by
        fresh = kind.from_config(dict(backbone.parts.transformer.config))
    backbone.cut(backbone.config).apply(fresh)
    own.load_state_dict(fresh.state_dict())


def save_tuned(path: Path, backbone: Any, *, weights: dict[str, Tensor], tuning: TuningConfig) -> None:
    """Write a folder of `train-video`: a LoRA, or the whole transformer in diffusers' layout.

    Args:
        weights: of the backbone, under its names.
    """
    prefix = "transformer."
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if tuning.method == "lora":
        save_adapter(path / ADAPTER, taken_out(own), tuning=tuning)
    else:
        save_transformer(path / TRANSFORMER, backbone, weights=own)
    # last: with it, the folder is a video model
    source = locate(backbone.config.source).resolve()
    write_text(path / BACKBONE_FILE, configs.to_json(replace(backbone.config, source=str(source))))


def save_transformer(folder: Path, backbone: Any, *, weights: dict[str, Tensor]) -> None:
    """Write a transformer as diffusers does, in the dtype of the backbone's config.

    Args:
        weights: of the transformer, or of the whole backbone.
    """
    from huggingface_hub import save_torch_state_dict

    kind, temporary = type(backbone).TRANSFORMER, folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    config = backbone.parts.transformer.config | {"_class_name": kind.__name__}
    write_text(temporary / "config.json", json.dumps(config, indent=2) + "\n")
    # trained in float32, saved in the dtype of the published model
    exact, dtype = set(kind._keep_in_fp32_modules or ()), getattr(torch, backbone.config.dtype)
    kept = {
        name.removeprefix("transformer."): tensor.detach().to(
            "cpu", torch.float32 if exact & set(name.split(".")) else dtype
        )
        for name, tensor in weights.items()
        if not name.startswith("vae.")
    }
    pattern = "diffusion_pytorch_model{suffix}.safetensors"
    save_torch_state_dict(kept, temporary, filename_pattern=pattern, max_shard_size="10GB")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
