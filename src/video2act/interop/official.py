"""`video2act convert official`: a checkpoint of the released Video2Act code -> a run folder of ours.

It says the same in our words: latents filtered before the transformer, features projected or compressed by the released formers,
one stream or two, System 1 of RDT's form. What of the released code does not depend on its weights is not taken over:

* padding of text is masked, where theirs is attended to with less weight; for one unpadded instruction there is no difference;
* frequencies are in true Hz; the bins that a filter keeps stay the same;
* `norm` is the form its weights were trained with: "variance" (timm 1.0.3), or "rms" where NVIDIA's APEX was installed.

The latents that it reads are chosen and resized as its yaml says (`released_streams`). A yaml that does not describe the tensors
is refused (`released_structure`): lost tensors must not pass for a smaller policy.

What does depend on the weights is an option, on by default: the video branch was trained on latents of frames whose red and blue
are swapped (`bgr_latents`), with zeros around the picture of spatial filters, and on images squeezed to 832 x 480.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor, nn

from video2act import config as configs
from video2act.config import PolicyConfig, PretrainedBackboneConfig, StreamConfig, System2Config
from video2act.files.atomic import write_text
from video2act.files.run_folder import CONFIG_FILE, STATISTICS_FILE, WEIGHTS_FILE
from video2act.files.weights import save_weights
from video2act.interop.checkpoints import find_checkpoint, read_checkpoint
from video2act.interop.released_config import (
    Sources,
    former_config,
    horizon,
    system1_config,
)
from video2act.interop.released_streams import (
    LATENT_PX,
    SPATIAL_PX,
    extraction_of,
    filter_config,
    latents_of,
    source_of,
    stream_names,
    stream_settings,
    video_size,
)
from video2act.interop.released_structure import check_structure
from video2act.interop.released_weights import own_tensors, policy_names, rename
from video2act.normalize import Statistics, statistics_to_json
from video2act.policy import Video2Act
from video2act.system2.backbones import CONFIG_FILE as BACKBONE_FILE
from video2act.system2.backbones import AnyConfig, load_video_model

FEATURE_LAYER = 20
"""blocks of the video model that the released code runs; it cannot be configured there"""
MOTION_FRAMES = 61
NUM_STATE = 14


@dataclass(frozen=True)
class Robot:
    """What a checkpoint does not say about the robot it was trained on. The defaults are the released code's."""

    fps: float = 25.0
    """control steps per second"""
    cameras: tuple[str, ...] = ("cam_high", "cam_right_wrist", "cam_left_wrist")
    """in the order of training; the first is the video streams'"""
    execute_steps: int = 64


PUBLISHED, RELEASED_ROBOT = Sources(), Robot()


def convert_official(
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
        video_model: the video model it was trained on, whose weights are not in the checkpoint: a folder of ours, or Wan 2.2 as
            published, which the run folder will name and not hold.
        ema: convert the moving average.
    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the checkpoint, the yaml and the video model do not fit each other; tensors are named.
    """
    file = find_checkpoint(checkpoint, ema)
    state = without_video_model(read_checkpoint(file), file)
    model, video = read_settings(settings)
    check_structure(state, model, source=str(file))
    backbone, backbone_weights = read_video_model(video_model, feature_layer)
    config = policy_config(state, model, video=video, backbone=backbone, sources=sources, robot=robot)
    config = replace(config, system1=replace(config.system1, dit=replace(config.system1.dit, norm=norm)))
    if bgr_latents:
        config = with_channel_order(config, "bgr")
    weights = policy_weights(config, state, source=str(file))
    weights |= {f"system2.backbone.{name}": tensor for name, tensor in backbone_weights.items()}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / CONFIG_FILE, configs.to_json(config))
    write_text(out / STATISTICS_FILE, statistics_to_json(unit_statistics()))
    save_weights(out / WEIGHTS_FILE, weights)
    return config


def read_video_model(folder: Path, feature_layer: int) -> tuple[AnyConfig, dict[str, Tensor]]:
    """The video model's config, tapped where the released code does, and those of its weights that a run folder holds.

    A folder written by `train-video`; or Wan 2.2 as published, in diffusers' layout or its own, which the run folder names only.
    """
    if not (folder / BACKBONE_FILE).is_file():
        return PretrainedBackboneConfig("wan22", str(folder), feature_layer), {}
    config, backbone = load_video_model(folder)
    assert isinstance(backbone, nn.Module)
    is_published = isinstance(config, PretrainedBackboneConfig)
    return replace(config, feature_layer=feature_layer), {} if is_published else backbone.state_dict()


def policy_config(
    state: Mapping[str, Tensor],
    model: Mapping[str, Any],
    *,
    video: Mapping[str, Any],
    backbone: AnyConfig,
    sources: Sources,
    robot: Robot,
) -> PolicyConfig:
    """The whole policy: from the tensors what they show, from the yaml what it says, the rest from `sources` and `robot`."""
    system1 = system1_config(state, model, sources=sources)
    streams = tuple(
        stream_config(name, state, model=model, video=video, backbone=backbone, robot=robot)
        for name in stream_names(model)
    )
    before = tuple(f"{camera}@1" for camera in robot.cameras)
    return PolicyConfig(
        state_dim=NUM_STATE,
        action_dim=NUM_STATE,
        fps=robot.fps,
        # the frame before the newest comes first
        cameras=(*before, *robot.cameras),
        image_px=384,
        image_fit="pad",
        horizon=horizon(state),
        execute_steps=min(robot.execute_steps, horizon(state)),
        system1=system1,
        system2=System2Config(backbone, streams, token_dim=system1.hidden, filter_on="latents"),
        # every plan sees the newest frames, as the released code does by default
        refresh_every=min(robot.execute_steps, horizon(state)),
        max_staleness_steps=0,
        normalize_state="identity",
        normalize_action="identity",
    )


def stream_config(
    name: str,
    state: Mapping[str, Tensor],
    *,
    model: Mapping[str, Any],
    video: Mapping[str, Any],
    backbone: AnyConfig,
    robot: Robot,
) -> StreamConfig:
    """One of our streams: the frames whose latents theirs reads, and what it reads of them.

    Raises:
        ValueError: theirs reads latents that no one clip has; or see `latents_of`, `filter_config`.
    """
    source, said = source_of(name, model), stream_settings("motion", model)
    if source == "spatial" and int(stream_settings(name, model).get("num_frames", 1)) != 1:
        raise ValueError(
            f"raw_stream.num_frames={stream_settings(name, model)['num_frames']}: the released code encodes these frames each "
            "alone, where a stream here encodes them as one clip; only 1 can be converted"
        )
    num_frames = 1 if source == "spatial" else int(said.get("num_frames", MOTION_FRAMES))
    num_latents = 1 + (num_frames - 1) // backbone.frames_per_latent
    # older clips come first, and the newest is the one that we have
    older = num_latents * (int(said.get("cache_concat_chunks") or 1) - 1) if source == "motion" else 0
    latents = latents_of(name, model, video=video, num_latents=older + num_latents)
    frames = tuple(frame - older for frame in latents.frames)
    if frames[0] < 0:
        raise ValueError(
            f"motion_stream.cache_concat_chunks={said['cache_concat_chunks']}: the released code reads latents of several clips "
            "that were encoded apart; only a latent_frame_select that stays within the newest clip can be converted"
        )
    latent_fps = robot.fps / backbone.frames_per_latent
    # a single stream's frames have one size, and its latents are resized
    height, width = video_size(source, model, video=video) if not latents.size else SPATIAL_PX
    is_resized = latents.size not in ((), (height // LATENT_PX, width // LATENT_PX))
    return StreamConfig(
        name,
        robot.cameras[0],
        num_frames=num_frames,
        stride=1,
        size_px=height,
        width_px=0 if width == height else width,
        filter=filter_config(extraction_of(name, model), video, latent_fps=latent_fps, frames=frames),
        former=former_config(state, name),
        resize="lanczos",
        latent_frames=() if len(frames) == num_latents else frames,
        latent_size=latents.size if is_resized else (),
    )


def policy_weights(config: PolicyConfig, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """All weights of the policy but the video model's, in fp32."""
    with torch.device("meta"):
        # for the names and shapes only
        own = Video2Act(config, unit_statistics()).state_dict()
    own = {name: tensor for name, tensor in own.items() if not name.startswith("system2.backbone.")}
    assert config.system2 is not None
    streams = tuple(stream.name for stream in config.system2.streams)
    weights = rename(state, policy_names(state, streams), own=own, source=source) | own_tensors(own)
    for name in ("state", "action"):
        # the identity: the released code's vectors are in the robot's own units
        weights |= {f"normalize_{name}.shift": torch.zeros(NUM_STATE), f"normalize_{name}.scale": torch.ones(NUM_STATE)}
    return weights


def without_video_model(state: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The policy's tensors alone; some layouts hold the frozen video model too.

    Raises:
        ValueError: the checkpoint changes the video model by LoRA. Leaving that out would be another policy.
    """
    prefix = "wan_transformer."
    lora = [name for name in state if name.startswith(prefix) and ".lora_" in name]
    if lora:
        raise ValueError(
            f"{source} holds {len(lora)} LoRA tensors of the video model ({lora[0]}, ...); merge them into the video model first "
            "and convert with that model"
        )
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's and the video's section of the released yaml (or json).

    Raises:
        FileNotFoundError, ValueError: the file is missing, or is no such yaml.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; name the yaml that the checkpoint was trained with")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid yaml: {error}") from error
    model, video = section(content, "noise_scheduler"), section(content, "motion_extraction") or {}
    if model is None:
        raise ValueError(f"{path} has no section with noise_scheduler; it is not a config of the released code")
    # a yaml of one stream may have no filters
    return model, video | (content.get("framepack") or {})


def section(content: Any, word: str) -> dict[str, Any] | None:
    """The first object, however deep, that has a field of that name."""
    if isinstance(content, dict):
        if word in content:
            return content
        for value in content.values():
            found = section(value, word)
            if found is not None:
                return found
    return None


def with_channel_order(config: PolicyConfig, order: Literal["rgb", "bgr"]) -> PolicyConfig:
    """The same policy, whose video model is shown its frames in that order."""
    assert config.system2 is not None
    streams = tuple(replace(stream, channel_order=order) for stream in config.system2.streams)
    return replace(config, system2=replace(config.system2, streams=streams))


def unit_statistics() -> dict[str, Statistics]:
    """Of an identity normalisation. A checkpoint does not hold the real ones."""
    n = NUM_STATE
    unit = Statistics(mean=(0.0,) * n, std=(1.0,) * n, min=(-1.0,) * n, max=(1.0,) * n)
    return {"state": unit, "action": unit}
