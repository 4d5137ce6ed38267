"""A checkpoint of the released Video2Act code -> a run folder of `video2act`.

The result is the same policy in our config: filters on latents, projections or the released formers, one stream or two,
System 1 of RDT's form. Behaviour of the released code that its weights do not depend on is not kept:

* padding of text is masked; theirs attends to it with less weight. For one unpadded instruction there is no difference;
* frequencies are in true Hz; a filter keeps the same bins.

A LoRA of the video model goes into the run folder, and is added to the video model when the policy is loaded.

Behaviour that the weights depend on is kept, as options with the released code's defaults: the video branch was trained
on frames with red and blue swapped (`bgr_latents`), the RMS norm on "variance" (timm 1.0.3), or "rms" where NVIDIA's
APEX was installed. Zeros around the picture of spatial filters and images squeezed to 832 x 480 are always kept.

`check_structure` refuses a yaml that does not describe the tensors: a damaged checkpoint must not pass for a smaller
policy.
"""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from video2act.config import PolicyConfig, PretrainedBackboneConfig
from video2act.config.checks import located
from video2act.files.atomic import write_text
from video2act.files.run_folder import ADAPTER, STATISTICS_FILE, WEIGHTS_FILE, save_config
from video2act.files.tensor_files import listing
from video2act.files.video_model import BACKBONE_FILE, is_video_model
from video2act.files.weights import save_weights
from video2act.interop.checkpoints import check_numbers, find_checkpoint, read_checkpoint
from video2act.interop.rdt import silent_tensors
from video2act.policy import Video2Act
from video2act.statistics import Statistics, statistics_to_json
from video2act.system2.backbones import AnyConfig, load_video_model
from video2act.system2.backbones.adapter import is_adapter, save_adapter
from video2act_released.config import NUM_STATE, Robot, Sources, policy_config
from video2act_released.lora import VIDEO_MODEL, read_lora
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
    """Write the run folder `out`, whole or not at all.

    Args:
        checkpoint: a file or folder, see `find_checkpoint`.
        settings: the yaml it was trained with.
        video_model: the video model it was trained on, whose weights are not in the checkpoint: a folder of ours, or
            Wan 2.2 as published, which the run folder names and does not hold.
        ema: convert the moving average.
    Raises:
        FileNotFoundError: one of the files is missing.
        FileExistsError: `out` is a file, or a folder that is not empty.
        ValueError: the checkpoint, the yaml and the video model do not fit each other; tensors are named.
    """
    check_empty(out)
    file = find_checkpoint(checkpoint, ema)
    model, video = read_settings(settings)
    state, lora = without_video_model(read_checkpoint(file))
    check_numbers(state | lora, source=file)
    adapter, tuning = read_lora(lora, video.train_lora, source=file)
    check_structure(state, model, source=str(file))
    backbone, backbone_weights = read_video_model(video_model, feature_layer)
    if adapter and not isinstance(backbone, PretrainedBackboneConfig):
        raise ValueError(f"{file} holds a LoRA of Wan 2.2, but {video_model} is a tiny video model; name Wan's folder")
    with located(f"{file} and {settings}"):
        config = policy_config(state, model, video=video, backbone=backbone, sources=sources, robot=robot)
    config = replace(config, system1=replace(config.system1, dit=replace(config.system1.dit, norm=norm)))
    assert config.system2 is not None
    order: Literal["bgr", "rgb"] = "bgr" if bgr_latents else "rgb"
    streams = tuple(replace(stream, channel_order=order) for stream in config.system2.streams)
    config = replace(config, system2=replace(config.system2, streams=streams, tuning=tuning))
    weights = policy_weights(config, state, source=str(file))
    weights |= {f"system2.backbone.{name}": tensor for name, tensor in backbone_weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    try:
        save_weights(out / WEIGHTS_FILE, weights)
        write_text(out / STATISTICS_FILE, statistics_to_json(unit_statistics()))
        if adapter:
            save_adapter(out / ADAPTER, adapter, tuning=tuning)
        save_config(out, config)  # last: without it nothing is taken for a policy
    except BaseException:
        for entry in out.iterdir():  # it was empty
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise
    return config


def check_empty(out: Path) -> None:
    """Raise FileExistsError where something is that the conversion would write over, or mix with."""
    found = next(out.iterdir(), None) if out.is_dir() else out if out.exists() else None
    if found is not None:
        raise FileExistsError(f"{found} exists; choose another folder for the converted policy (--out)")


def read_video_model(folder: Path, feature_layer: int) -> tuple[AnyConfig, dict[str, Tensor]]:
    """The video model's config, read raw at the released code's layer; its weights, if the run folder must hold them.

    The folder was written by `train-video`, or holds Wan 2.2 as published, in diffusers' layout or its own. Raises
    FileNotFoundError: it is no such folder.
    """
    if not is_video_model(folder):
        problem = f"{folder} is no folder of a video model; found {listing(folder)}"
        raise FileNotFoundError(f"{problem}. Download Wan 2.2 TI2V-5B, or the one that the policy was trained on")
    if not (folder / BACKBONE_FILE).is_file():
        return PretrainedBackboneConfig("wan22", str(folder), (feature_layer,), feature_norm="none"), {}
    config, backbone = load_video_model(folder)
    assert isinstance(backbone, nn.Module)
    is_published = isinstance(config, PretrainedBackboneConfig)
    read = replace(config, feature_layers=(feature_layer,), feature_norm="none")
    return read, {} if is_published else backbone.state_dict()


def without_video_model(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The policy's tensors, and those of the video model's LoRA. Some layouts also hold the frozen video model."""
    lora = {name: tensor for name, tensor in state.items() if name.startswith(VIDEO_MODEL) and is_adapter(name)}
    return {name: tensor for name, tensor in state.items() if not name.startswith(VIDEO_MODEL)}, lora


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


def constant_notes(config: PolicyConfig) -> list[str]:
    """One line for each stream whose tokens do not depend on what it sees."""
    return [
        f"the policy does not see the stream {stream.name!r}: its former has no layers (token_compressor_depth: 0, or "
        "compressor_depth), so its tokens are always the same, as in the released code"
        for stream in (config.system2.streams if config.system2 else ())
        if stream.former.kind == "constant"
    ]


def unit_statistics() -> dict[str, Statistics]:
    """Statistics of an identity normalisation. A checkpoint does not hold the real ones."""
    return dict.fromkeys(("state", "action"), Statistics.unknown(NUM_STATE))
