"""The LoRA of the video model in a checkpoint of the released code -> the `adapter/` of a run folder.

There it lies beside the weights it changes, in each `self_attn` and `cross_attn` of Wan; `Video2Act.load` adds it to
the video model that the run folder names.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from video2act.config import TuningConfig
from video2act.system2.backbones.adapter import Adapter
from video2act.system2.backbones.wan_original import transformer_name
from video2act_released.settings import TrainedLora

VIDEO_MODEL = "wan_transformer."
"""what the names of the video model's tensors begin with"""


def read_lora(
    lora: Mapping[str, Tensor], settings: TrainedLora | None, *, source: Path
) -> tuple[Adapter, TuningConfig]:
    """The adapter by the names of diffusers' Wan, and its rank and scale; an empty one and `frozen` if there is none.

    Args:
        lora: a checkpoint's tensors of it.
        settings: the yaml's `train_lora`.
    Raises:
        ValueError: the yaml and the tensors do not say the same.
    """
    if settings is None or not settings.enabled:
        if lora:
            raise ValueError(
                f"{source} holds {len(lora)} LoRA tensors of the video model ({min(lora)}, ...), but the yaml has no "
                "train_lora with enabled: true, whose alpha is needed; name the yaml that it was trained with"
            )
        return {}, TuningConfig()
    if not lora:
        raise ValueError(
            f"the yaml says train_lora.enabled: true, but {source} holds no LoRA tensors of the video model; copy it "
            "again, or write enabled: false if the LoRA is merged into the video model that you name"
        )
    for name, tensor in lora.items():
        is_down = ".lora_A." in name
        other = name.replace(*((".lora_A.", ".lora_B.") if is_down else (".lora_B.", ".lora_A.")))
        if tensor.ndim != 2 or tensor.shape[0 if is_down else 1] != settings.rank or other not in lora:
            raise ValueError(
                f"{source}: {name} {list(tensor.shape)} and {other} are no LoRA of the yaml's train_lora.rank: "
                f"{settings.rank}; name the yaml that it was trained with, or copy the checkpoint again"
            )
    tuning = TuningConfig("lora", rank=settings.rank, alpha=settings.alpha or float(settings.rank))
    return {_own_name(name): tensor for name, tensor in lora.items()}, tuning


def _own_name(name: str) -> str:
    """`wan_transformer.model.blocks.0.self_attn.q.lora_A.weight` -> `blocks.0.attn1.to_q.lora_A.weight`."""
    layer, _, half = name.removeprefix(f"{VIDEO_MODEL}model.").partition(".lora_")
    return f"{transformer_name(f'{layer}.weight').removesuffix('.weight')}.lora_{half}"
