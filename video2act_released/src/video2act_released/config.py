"""The tensors of a checkpoint and the yaml it was trained with -> our `PolicyConfig`.

Most of a policy's shape can be read off the tensors; the yaml has the rest. Defects of the released code are not
configured (the additive text mask, frequencies in the wrong unit), except where the weights depend on one: the zero
border of its spatial filters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from video2act.config import (
    DenoisingConfig,
    DitConfig,
    FormerConfig,
    PolicyConfig,
    PretrainedConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.config.checks import shown
from video2act.interop.rdt_names import layers_of, num_blocks
from video2act.presets import RELEASED_FRAMES, SIGLIP_FRAMES
from video2act.system2.backbones import AnyConfig
from video2act_released.settings import Model, Schedule, VideoSettings
from video2act_released.streams import (
    LATENT_PX,
    SPATIAL_PX,
    STREAMS,
    extraction_of,
    filter_config,
    latents_of,
    source_of,
    stream_names,
    stream_settings,
    video_size,
)

HEAD_DIM = 64
"""channels of a head of the released formers; not configurable there"""
MOTION_FRAMES = 61
NUM_STATE = 14
NUM_CAMERAS = 3


@dataclass(frozen=True)
class Sources:
    """The frozen encoders and the embodiment, which a checkpoint does not name."""

    text: str = "google/t5-v1_1-xxl"
    text_cache: str = ""
    image: str = "google/siglip-so400m-patch14-384"
    embodiment: str = "aloha_agilex"


@dataclass(frozen=True)
class Robot:
    """The robot of the training, which a checkpoint does not describe. The defaults are the released code's."""

    fps: float = 25.0
    """control steps per second"""
    cameras: tuple[str, ...] = ("cam_high", "cam_right_wrist", "cam_left_wrist")
    """head, right and left, as in training; the video streams read the first"""
    execute_steps: int = 64

    def __post_init__(self) -> None:
        if len(self.cameras) != NUM_CAMERAS:
            raise ValueError(
                f"cameras={shown(self.cameras)} are {len(self.cameras)}: the released code always has {NUM_CAMERAS}, "
                "head, right and left; name all of them in this order"
            )


def policy_config(
    state: Mapping[str, Tensor],
    model: Model,
    *,
    video: VideoSettings,
    backbone: AnyConfig,
    sources: Sources,
    robot: Robot,
) -> PolicyConfig:
    """The whole policy."""
    system1 = system1_config(state, model, sources=sources, num_images=2 * len(robot.cameras))
    streams = tuple(
        stream_config(name, state, model=model, video=video, backbone=backbone, robot=robot)
        for name in stream_names(model)
    )
    before = tuple(f"{camera}@1" for camera in robot.cameras)
    execute_steps = min(robot.execute_steps, horizon(state))
    return PolicyConfig(
        state_dim=NUM_STATE,
        action_dim=NUM_STATE,
        fps=robot.fps,
        # the frame before the newest comes first
        cameras=(*before, *robot.cameras),
        image_px=384,
        image=SIGLIP_FRAMES,
        horizon=horizon(state),
        execute_steps=execute_steps,
        system1=system1,
        system2=System2Config(backbone, streams, filter_on="latents", reference="none"),
        # every plan sees the newest frames, as the released code does by default
        refresh_every=execute_steps,
        max_staleness_steps=0,
        normalize_state="identity",
        normalize_action="identity",
    )


def stream_config(
    name: str,
    state: Mapping[str, Tensor],
    *,
    model: Model,
    video: VideoSettings,
    backbone: AnyConfig,
    robot: Robot,
) -> StreamConfig:
    """The clip whose latents a released stream reads, and its filter and former.

    Raises:
        ValueError: the stream reads latents that no single clip has; or see `latents_of`, `filter_config`.
    """
    source, settings = source_of(name, model), stream_settings("motion", model)
    num_apart = stream_settings(name, model).num_frames or 1
    if source == "spatial" and num_apart != 1:
        raise ValueError(
            f"raw_stream.num_frames={num_apart}: the released code encodes these frames each alone, where a stream "
            "here encodes them as one clip; only 1 can be converted"
        )
    num_frames = 1 if source == "spatial" else settings.num_frames or MOTION_FRAMES
    num_latents = 1 + (num_frames - 1) // backbone.frames_per_latent
    # older clips come first; ours is the newest
    older = num_latents * ((settings.cache_concat_chunks or 1) - 1) if source == "motion" else 0
    latents = latents_of(name, model, video=video, num_latents=older + num_latents)
    frames = tuple(frame - older for frame in latents.frames)
    if frames[0] < 0:
        raise ValueError(
            f"motion_stream.cache_concat_chunks={settings.cache_concat_chunks}: the released code reads latents of "
            "several clips that were encoded apart; only a latent_frame_select within the newest clip can be converted"
        )
    # the frames of a single stream have one size, and its latents are resized
    height, width = video_size(source, model, video=video) if not latents.size else SPATIAL_PX
    is_resized = latents.size not in ((), (height // LATENT_PX, width // LATENT_PX))
    latent_fps = robot.fps / backbone.frames_per_latent
    return StreamConfig(
        name,
        robot.cameras[0],
        num_frames=num_frames,
        stride=1,
        size_px=height,
        width_px=0 if width == height else width,
        filter=filter_config(extraction_of(name, model), video, latent_fps=latent_fps, frames=frames),
        former=former_config(state, name),
        frame=RELEASED_FRAMES,
        latent_frames=() if len(frames) == num_latents else frames,
        latent_size=latents.size if is_resized else (),
    )


def system1_config(state: Mapping[str, Tensor], model: Model, *, sources: Sources, num_images: int) -> System1Config:
    """System 1, from the tensors' shapes and the yaml's noise schedule.

    Raises:
        ValueError: the tensors are not those of such a policy, or the noise schedule is not supported.
    """
    position, head = _shape(state, "model.x_pos_embed"), _shape(state, "model.blocks.0.attn.q_norm.weight")
    text, image = _shape(state, "model.lang_cond_pos_embed"), _shape(state, "model.img_cond_pos_embed")
    if image[1] % num_images or not image[1]:
        raise ValueError(
            f"model.img_cond_pos_embed has {image[1]} rows, which cannot be shared out among {num_images} images"
        )
    return System1Config(
        hidden=position[2],
        depth=num_blocks(state, "model.blocks"),
        num_heads=position[2] // head[0],
        denoising=denoising_config(model.noise_scheduler),
        dit=DitConfig(
            norm="variance",
            clock="frequency",
            sinusoids=_shape(state, "model.t_embedder.mlp.0.weight")[1],
            sinusoid_activation="silu",
            state_adaptor=_adaptor(state, "state_adaptor"),
            action_adaptor=_adaptor(state, "state_adaptor"),
            pools_text=False,
            num_text_positions=text[1],
            positions_per_image=image[1] // num_images,
        ),
        text_encoder=PretrainedConfig(
            sources.text, _width_in(state, "lang_adaptor"), cache=sources.text_cache, max_tokens=text[1]
        ),
        text_adaptor=_adaptor(state, "lang_adaptor"),
        image_encoder=PretrainedConfig(sources.image, _width_in(state, "img_adaptor")),
        image_adaptor=_adaptor(state, "img_adaptor"),
        embodiment=sources.embodiment,
    )


def horizon(state: Mapping[str, Tensor]) -> int:
    """Actions in a chunk; the other three tokens are timestep, control rate and state."""
    return _shape(state, "model.x_pos_embed")[1] - 3


def denoising_config(settings: Schedule) -> DenoisingConfig:
    """The yaml's `noise_scheduler` section. Raises ValueError for schedules that we lack."""
    kind, betas = settings.type, settings.beta_schedule
    if kind != "ddpm" or betas != "squaredcos_cap_v2":
        raise ValueError(
            f"noise_scheduler: expected type ddpm with beta_schedule squaredcos_cap_v2, got {kind} with {betas}"
        )
    prediction = settings.prediction_type
    if prediction not in ("sample", "epsilon"):
        raise ValueError(
            f"noise_scheduler: prediction_type {prediction!r} is not sample or epsilon; the released code trains every "
            "other one as a sample, and denoises with it as something else"
        )
    return DenoisingConfig(
        schedule="ddpm",
        prediction=prediction,
        num_steps=settings.num_inference_timesteps,
        num_train_timesteps=settings.num_train_timesteps,
    )


def former_config(state: Mapping[str, Tensor], stream: str, *, head_dim: int = HEAD_DIM) -> FormerConfig:
    """The former of one of our streams. Raises ValueError if its attention does not consist of whole heads."""
    name = STREAMS[stream][0]
    prefix = f"{name}_token_compressor."
    if f"{prefix}latents" not in state:
        return FormerConfig(kind="projection", adaptor=_adaptor(state, f"{name}_adaptor"))
    frames, per_frame, width = _shape(state, f"{prefix}latents")
    depth = num_blocks(state, f"{prefix}layers")
    adaptor = _adaptor(state, "video_adaptor")
    if depth == 0:
        return FormerConfig(num_tokens=frames * per_frame, kind="constant", width=width, adaptor=adaptor)
    query = f"{prefix}layers.0.0.to_q.weight"
    inner = _shape(state, query)[0]
    if inner % head_dim:
        raise ValueError(
            f"{query} has {inner} channels, which are not whole heads of {head_dim}, as the released code's are"
        )
    return FormerConfig(
        num_tokens=frames * per_frame,
        depth=depth,
        num_heads=inner // head_dim,
        kind="frame_resampler",
        width=width,
        head_dim=head_dim,
        num_frames=frames,
        is_temporal=f"{prefix}layers.0.1.qkv.weight" in state,
        adaptor=adaptor,
    )


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        some = ", ".join(sorted(state)[:5]) or "nothing"
        raise ValueError(f"no tensor {name}; this is not a checkpoint of the released code (it holds {some}, ...)")
    return tuple(state[name].shape)


def _adaptor(state: Mapping[str, Tensor], name: str) -> str:
    layers = layers_of(state, name)
    if not layers:
        raise ValueError(
            f"neither {name}.0.weight (mlpNx_gelu) nor {name}.weight (linear); this is not a checkpoint of the "
            "released code"
        )
    return f"mlp{len(layers)}x_gelu"


def _width_in(state: Mapping[str, Tensor], name: str) -> int:
    """The width of an adaptor's input."""
    layers = layers_of(state, name)
    return _shape(state, f"{layers[0] if layers else name}.weight")[1]
