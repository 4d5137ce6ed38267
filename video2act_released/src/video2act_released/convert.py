"""A checkpoint of the released Video2Act code -> a run folder of `video2act`.

The result is the same policy in our config: filters on latents, projections or the released formers, one stream or two,
System 1 of RDT's form. Behaviour of the released code that its weights do not depend on is not kept:

* padding of text is masked; theirs attends to it with less weight. For one unpadded instruction there is no difference;
* frequencies are in true Hz; a filter keeps the same bins.

Behaviour that the weights depend on is kept, as options with the released code's defaults: the video branch was trained
on frames with red and blue swapped (`bgr_latents`), the RMS norm on "variance" (timm 1.0.3), or "rms" where NVIDIA's
APEX was installed. Zeros around the picture of spatial filters and images squeezed to 832 x 480 are always kept.

`check_structure` refuses a yaml that does not describe the tensors: a damaged checkpoint must not pass for a smaller
policy.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from video2act import config as configs
from video2act.config import PolicyConfig, PretrainedBackboneConfig
from video2act.files.atomic import write_text
from video2act.files.run_folder import CONFIG_FILE, STATISTICS_FILE, WEIGHTS_FILE
from video2act.files.video_model import BACKBONE_FILE
from video2act.files.weights import save_weights
from video2act.interop.checkpoints import check_numbers, find_checkpoint, read_checkpoint
from video2act.interop.rdt import silent_tensors
from video2act.policy import Video2Act
from video2act.statistics import Statistics, statistics_to_json
from video2act.system2.backbones import AnyConfig, load_video_model
from video2act_released.config import NUM_STATE, Robot, Sources, policy_config
from video2act_released.settings import read_settings
from video2act_released.structure import check_structure
from video2act_released.weights import policy_names, rename

FEATURE_LAYER = 20
"""blocks of the video model that the released code runs; it cannot be configured there"""
PUBLISHED, RELEASED_ROBOT = Sources(), Robot()


def convert_released(
    checkpoint: Path,
    out: Path,
    *,
    settings: Path,
    video_model: Path,
    ema: bool = False,
    norm: Literal["variance", "rms"] = "variance",
    bgr_latents: bool = True,
    feature_layer: int = FEATURE_LAYER,
    sources: Sources = PUBLISHED,
    robot: Robot = RELEASED_ROBOT,
) -> PolicyConfig:
    """Write the run folder `out`.

    Args:
        checkpoint: a file or folder, see `find_checkpoint`.
        settings: the yaml it was trained with.
        video_model: the video model it was trained on, whose weights are not in the checkpoint: a folder of ours, or
            Wan 2.2 as published, which the run folder names and does not hold.
        ema: convert the moving average.
    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the checkpoint, the yaml and the video model do not fit each other; tensors are named.
    """
    file = find_checkpoint(checkpoint, ema)
    state = without_video_model(read_checkpoint(file), file)
    check_numbers(state, source=file)
    model, video = read_settings(settings)
    check_structure(state, model, source=str(file))
    backbone, backbone_weights = read_video_model(video_model, feature_layer)
    config = policy_config(state, model, video=video, backbone=backbone, sources=sources, robot=robot)
    config = replace(config, system1=replace(config.system1, dit=replace(config.system1.dit, norm=norm)))
    if bgr_latents and config.system2 is not None:
        streams = tuple(replace(stream, channel_order="bgr") for stream in config.system2.streams)
        config = replace(config, system2=replace(config.system2, streams=streams))
    weights = policy_weights(config, state, source=str(file))
    weights |= {f"system2.backbone.{name}": tensor for name, tensor in backbone_weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / CONFIG_FILE, configs.to_json(config))
    write_text(out / STATISTICS_FILE, statistics_to_json(unit_statistics()))
    save_weights(out / WEIGHTS_FILE, weights)
    return config


def read_video_model(folder: Path, feature_layer: int) -> tuple[AnyConfig, dict[str, Tensor]]:
    """The video model's config, read raw at the released code's layer; its weights, if the run folder must hold them.

    The folder was written by `train-video`, or holds Wan 2.2 as published, in diffusers' layout or its own.
    """
    if not (folder / BACKBONE_FILE).is_file():
        return PretrainedBackboneConfig("wan22", str(folder), (feature_layer,), feature_norm="none"), {}
    config, backbone = load_video_model(folder)
    assert isinstance(backbone, nn.Module)
    is_published = isinstance(config, PretrainedBackboneConfig)
    read = replace(config, feature_layers=(feature_layer,), feature_norm="none")
    return read, {} if is_published else backbone.state_dict()


def policy_weights(config: PolicyConfig, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """All weights of the policy except the video model's, in fp32."""
    with torch.device("meta"):
        # for the names and shapes only
        own = Video2Act(config, unit_statistics()).state_dict()
    own = {name: tensor for name, tensor in own.items() if not name.startswith("system2.backbone.")}
    streams = tuple(stream.name for stream in config.system2.streams) if config.system2 else ()
    weights = rename(state, policy_names(state, streams), own=own, source=source) | silent_tensors(own)
    for name in ("state", "action"):
        # the identity: the released code's vectors are in the robot's own units
        weights |= {f"normalize_{name}.shift": torch.zeros(NUM_STATE), f"normalize_{name}.scale": torch.ones(NUM_STATE)}
    return weights


def without_video_model(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The policy's tensors alone; some layouts also hold the frozen video model.

    Raises:
        ValueError: the checkpoint changes the video model by LoRA. Without it the policy would be another one.
    """
    prefix = "wan_transformer."
    lora = [name for name in state if name.startswith(prefix) and ".lora_" in name]
    if lora:
        raise ValueError(
            f"{source} holds {len(lora)} LoRA tensors of the video model ({lora[0]}, ...); merge them into the video "
            "model first and convert with that model"
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def unit_statistics() -> dict[str, Statistics]:
    """Statistics of an identity normalisation. A checkpoint does not hold the real ones."""
    return dict.fromkeys(("state", "action"), Statistics.unknown(NUM_STATE))
