"""LoRA of a video transformer (arXiv 2106.09685): trained beside frozen weights, saved apart, merged for use.

The folder has peft's layout (`adapter_config.json`, `adapter_model.safetensors`), in both directions. Training needs
peft; merging is one sum per matrix and needs nothing.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video2act.config import TuningConfig
from video2act.extras import extra
from video2act.files.atomic import write_text
from video2act.files.tensor_files import read_json
from video2act.files.weights import read_tensors, save_weights

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""the adapted layers: queries, keys, values and outputs of every attention, and of HunyuanVideo's text beside it"""

_PREFIX = "base_model.model."
_UNUSED = ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias")
"""words of peft that change what an adapter is; all must be off"""

Adapter = dict[str, Tensor]
"""`layer.lora_A.weight` [rank in] and `layer.lora_B.weight` [out rank], by the layer's name in the transformer"""


def inject(transformer: nn.Module, tuning: TuningConfig) -> None:
    """Put trainable float32 adapters beside the frozen attention layers; untrained, they change nothing.

    Raises:
        ImportError: peft is not installed.
        ValueError: the transformer has none of the layers.
    """
    with extra("lora", "training a LoRA"):
        from peft import LoraConfig, inject_adapter_in_model
    transformer.requires_grad_(False)
    names = [name for name, _ in transformer.named_modules() if name.endswith(TARGETS)]
    if not names:
        raise ValueError(f"{type(transformer).__name__} has no layer named {', '.join(TARGETS)}; tune it whole")
    inject_adapter_in_model(LoraConfig(r=tuning.rank, lora_alpha=tuning.alpha, target_modules=names), transformer)  # type: ignore[arg-type]
    for name, parameter in transformer.named_parameters():
        if is_adapter(name):
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def is_adapter(name: str) -> bool:
    """Whether a tensor of a transformer with adapters is one of theirs."""
    return ".lora_A." in name or ".lora_B." in name


def taken_out(weights: dict[str, Tensor]) -> Adapter:
    """The adapters among the weights of a transformer that has them; peft's name for them is dropped."""
    return {name.replace(".default.", "."): tensor for name, tensor in weights.items() if is_adapter(name)}


def save_adapter(folder: Path, adapter: Adapter, *, tuning: TuningConfig) -> None:
    """Write an adapter's folder; each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = sorted({name.partition(".lora_")[0] for name in adapter})
    described = {"peft_type": "LORA", "r": tuning.rank, "lora_alpha": tuning.alpha, "target_modules": layers}
    described |= {"lora_dropout": 0.0, "bias": "none", "task_type": None, "inference_mode": True}
    write_text(folder / CONFIG_FILE, json.dumps(described, indent=2) + "\n")
    save_weights(folder / WEIGHTS_FILE, {_PREFIX + name: tensor for name, tensor in adapter.items()})


def read_adapter(folder: Path) -> tuple[Adapter, float]:
    """An adapter and its scale.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the adapter is more than plain LoRA.
    """
    path = folder / CONFIG_FILE
    config = read_json(path)
    kind, rank, alpha = config.get("peft_type"), config.get("r"), config.get("lora_alpha")
    if kind != "LORA" or not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise ValueError(
            f"{path} must describe a LORA with r and lora_alpha, got peft_type={kind!r}, r={rank!r}, {alpha=}"
        )
    bias = config.get("bias", "none")
    extras = [f"{name}={config[name]!r}" for name in _UNUSED if config.get(name)]
    if extras or bias != "none":
        raise ValueError(
            f"{path} asks for more than plain LoRA ({', '.join([*extras, f'bias={bias!r}'])}); merge this adapter into "
            "its model with peft first"
        )
    tensors = read_tensors(folder / WEIGHTS_FILE)
    return {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}, alpha / rank


@torch.no_grad()
def merge(transformer: nn.Module, whole: nn.Module, *, adapter: Adapter, scale: float, source: Path) -> None:
    """Add `scale * B @ A` to each adapted layer, summed in float32.

    Args:
        transformer: may lack blocks of `whole` (on the meta device); their adapters are left out.
    Raises:
        ValueError: the adapter is for another model: the layers that differ are named.
    """
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapter.items():
        layer, _, half = name.partition(".lora_")
        pairs.setdefault(layer, {})[half.partition(".")[0]] = tensor
    layers, kept = dict(whole.named_modules()), dict(transformer.named_modules())
    problems = []
    for layer, pair in pairs.items():
        shape = getattr(getattr(layers.get(layer), "weight", None), "shape", None)
        found = (pair["B"].shape[0], pair["A"].shape[1]) if pair.keys() == {"A", "B"} else None
        if shape is None or found is None or tuple(shape) != found or pair["A"].shape[0] != pair["B"].shape[1]:
            has = "has no such layer" if shape is None else f"has {list(shape)}"
            problems.append(f"{layer}: the adapter is for {list(found) if found else 'half a layer'}, the model {has}")
    if problems or not pairs:
        listed = "\n  ".join(problems[:10] or ["it is empty"])
        raise ValueError(f"{source} does not fit the video model:\n  {listed}\nchoose the model that it was trained on")
    for layer, pair in pairs.items():
        if layer in kept:
            weight: Any = kept[layer].weight
            change = scale * (pair["B"].to(weight.device).float() @ pair["A"].to(weight.device).float())
            weight.copy_(weight.float() + change)
