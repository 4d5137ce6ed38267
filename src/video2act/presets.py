"""Named policies: a starting point for each size of machine. A preset is a function of the data it will be trained on.

`tiny` is the CPU-sized dual system; the others named `tiny_*` are its controls, with one thing taken away. Those named after a
published video model put it into System 2, tapped after two thirds of its blocks, as in the paper. `rdt_1b` is System 1 at full
size; `wan22_5b_rdt_1b` is both, the paper's policy; `official` is the released code's arrangement.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from video2act.config import (
    RDT_FORM,
    BackboneConfig,
    DenoisingConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    PretrainedBackboneConfig,
    PretrainedConfig,
    StreamConfig,
    System1Config,
    System2Config,
)


@dataclass(frozen=True)
class DataSpec:
    """What a preset needs to know of the demonstrations."""

    state_dim: int
    action_dim: int
    fps: float
    cameras: tuple[str, ...]
    """the first one is also System 2's"""


def everything_that_moves(fps: float, num_frames: int, *, frames_per_feature: int) -> FilterConfig:
    """The band of a clip's features that drops only what stands still; `fps` is the clip's."""
    feature_fps = fps / frames_per_feature
    num_features = 1 + (num_frames - 1) // frames_per_feature
    return FilterConfig("temporal_bandpass", low_hz=feature_fps / num_features, high_hz=feature_fps / 2)


def paper_streams(
    camera: str, motion: FilterConfig, *, num_frames: int, motion_px: int, spatial_px: int, former: FormerConfig
) -> tuple[StreamConfig, ...]:
    """The paper's two streams of one camera: boundaries of the newest frame, and motion of the last `num_frames`."""
    return (
        StreamConfig("spatial", camera, 1, 1, spatial_px, FilterConfig("sobel"), former),
        StreamConfig("motion", camera, num_frames, 1, motion_px, motion, former),
    )


def tiny(data: DataSpec) -> PolicyConfig:
    """Both systems, about two million parameters."""
    system1 = System1Config(denoising=DenoisingConfig(noise_shift=3.0, noise_draws=2))
    backbone, num_frames = BackboneConfig(), 17
    motion = everything_that_moves(data.fps, num_frames, frames_per_feature=backbone.frames_per_feature)
    streams = paper_streams(
        data.cameras[0], motion, num_frames=num_frames, motion_px=64, spatial_px=64, former=FormerConfig()
    )
    return PolicyConfig(
        state_dim=data.state_dim,
        action_dim=data.action_dim,
        fps=data.fps,
        cameras=data.cameras,
        image_px=64,
        horizon=8,
        execute_steps=4,
        system1=system1,
        system2=System2Config(backbone, streams, token_dim=system1.hidden),
    )


def tiny_latents(data: DataSpec) -> PolicyConfig:
    """`tiny`, with the codec's latents in place of the video model's features."""
    policy = tiny(data)
    assert policy.system2 is not None
    system2 = replace(policy.system2, backbone=BackboneConfig(feature_layer=0))
    return replace(policy, system2=system2)


def tiny_system1(data: DataSpec) -> PolicyConfig:
    """System 1 alone: images, text and state, no video."""
    return replace(tiny(data), system2=None)


def tiny_blind(data: DataSpec) -> PolicyConfig:
    """Sees nothing: text and state only. What it achieves needs no vision."""
    return replace(tiny_system1(data), cameras=())


def small(data: DataSpec) -> PolicyConfig:
    """Wan's networks in a middle size, which `train-video --preset small` trains from nothing: 60 million parameters."""
    backbone, num_frames = PretrainedBackboneConfig("wan_small", SMALL_SOURCE, feature_layer=8, dtype="float32"), 17
    system1 = System1Config(hidden=256, depth=6, num_heads=8, denoising=DenoisingConfig(noise_shift=3.0, noise_draws=2))
    motion = everything_that_moves(data.fps, num_frames, frames_per_feature=backbone.frames_per_feature)
    former = FormerConfig(num_tokens=32, depth=2, num_heads=8)
    streams = paper_streams(
        data.cameras[0], motion, num_frames=num_frames, motion_px=128, spatial_px=128, former=former
    )
    return replace(
        tiny(data), image_px=128, system1=system1, system2=System2Config(backbone, streams, token_dim=system1.hidden)
    )


def small_system1(data: DataSpec) -> PolicyConfig:
    """System 1 of `small`, alone."""
    return replace(small(data), system2=None)


SMALL_SOURCE = "./the folder that train-video --preset small has written"
"""there is no such model to download; `--video-model` names it"""


def published(
    data: DataSpec,
    backbone: PretrainedBackboneConfig,
    *,
    num_frames: int = 61,
    motion_px: int = 224,
    spatial_px: int = 480,
) -> PolicyConfig:
    """Both systems, System 2 over a published model: the newest frame at `spatial_px`, the last `num_frames` at `motion_px`."""
    system1 = System1Config(hidden=512, depth=8, num_heads=8, text_dim=256, image_channels=32)
    former = FormerConfig(num_tokens=224, depth=2, num_heads=8)
    motion = everything_that_moves(data.fps, num_frames, frames_per_feature=backbone.frames_per_feature)
    streams = paper_streams(
        data.cameras[0], motion, num_frames=num_frames, motion_px=motion_px, spatial_px=spatial_px, former=former
    )
    return PolicyConfig(
        state_dim=data.state_dim,
        action_dim=data.action_dim,
        fps=data.fps,
        cameras=data.cameras,
        image_px=128,
        horizon=16,
        execute_steps=8,
        system1=system1,
        system2=System2Config(backbone, streams, token_dim=system1.hidden),
    )


def wan21_1b(data: DataSpec) -> PolicyConfig:
    """Wan 2.1, 1.3 billion parameters."""
    return published(data, PretrainedBackboneConfig("wan21", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", feature_layer=20))


def wan21_14b(data: DataSpec) -> PolicyConfig:
    """Wan 2.1, 14 billion parameters."""
    return published(data, PretrainedBackboneConfig("wan21", "Wan-AI/Wan2.1-T2V-14B-Diffusers", feature_layer=26))


def wan22_5b(data: DataSpec) -> PolicyConfig:
    """Wan 2.2 TI2V-5B, the paper's: 20 of 30 blocks."""
    return published(data, PretrainedBackboneConfig("wan22", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", feature_layer=20))


def hunyuan(data: DataSpec) -> PolicyConfig:
    """HunyuanVideo: its 20 blocks of two streams and half of the 40 that follow."""
    return published(data, PretrainedBackboneConfig("hunyuan", "hunyuanvideo-community/HunyuanVideo", feature_layer=40))


def cogvideox(data: DataSpec) -> PolicyConfig:
    """CogVideoX-5B, version 1.0, on the 49 frames that it was trained on."""
    return published(
        data, PretrainedBackboneConfig("cogvideox", "zai-org/CogVideoX-5b", feature_layer=28), num_frames=49
    )


def cogvideox15(data: DataSpec) -> PolicyConfig:
    """CogVideoX-5B, version 1.5, on the 81 frames that it was trained on; two latent frames make one of its features."""
    return published(
        data, PretrainedBackboneConfig("cogvideox15", "zai-org/CogVideoX1.5-5B", feature_layer=28), num_frames=81
    )


def ltx(data: DataSpec) -> PolicyConfig:
    """LTX-Video; it merges 8 frames and 32 pixels, so the motion stream is larger and one group shorter."""
    backbone = PretrainedBackboneConfig("ltx", "Lightricks/LTX-Video", feature_layer=18)
    return published(data, backbone, num_frames=57, motion_px=320, spatial_px=512)


def cosmos(data: DataSpec) -> PolicyConfig:
    """Cosmos-Predict2, 2 billion parameters."""
    return published(
        data, PretrainedBackboneConfig("cosmos", "nvidia/Cosmos-Predict2-2B-Video2World", feature_layer=18)
    )


def rdt_system1(data: DataSpec, cameras: tuple[str, ...]) -> System1Config:
    """System 1 of RDT-1B's size and form (arXiv 2410.07864), to begin with its weights; 1.2 billion parameters, encoders apart.

    Which robot it is, nobody can tell from sizes: `System1Sources.embodiment` says it. Without, it keeps its own vector, and
    RDT-1B's weights do not fit.
    """
    return System1Config(
        hidden=2048,
        depth=28,
        num_heads=32,
        denoising=DenoisingConfig("ddpm", "sample", num_steps=5),
        dit=replace(RDT_FORM, num_image_positions=729 * len(cameras)),
        text_encoder=PretrainedConfig("google/t5-v1_1-xxl", width=4096, max_tokens=1024),
        text_adaptor="mlp2x_gelu",
        image_encoder=PretrainedConfig("google/siglip-so400m-patch14-384", width=1152),
        image_adaptor="mlp2x_gelu",
    )


def rdt_1b(data: DataSpec) -> PolicyConfig:
    """System 1 at full size, alone; the large video models' presets put System 2 beside it."""
    return PolicyConfig(
        state_dim=data.state_dim,
        action_dim=data.action_dim,
        fps=data.fps,
        cameras=data.cameras,
        image_px=384,
        image_fit="pad",
        horizon=64,
        execute_steps=32,
        system1=rdt_system1(data, data.cameras),
        system2=None,
        # RDT-1B reads and writes physical units
        normalize_state="identity",
        normalize_action="identity",
    )


def wan22_5b_rdt_1b(data: DataSpec) -> PolicyConfig:
    """The paper's sizes: System 2 over Wan 2.2 TI2V-5B, System 1 of RDT-1B's."""
    system2, large = wan22_5b(data).system2, rdt_1b(data)
    assert system2 is not None
    return replace(large, system2=replace(system2, token_dim=large.system1.hidden))


def official(data: DataSpec) -> PolicyConfig:
    """The released code's arrangement without its defects: RDT-1B's System 1, two streams of the first camera through Wan 2.2 5B,
    filters on latents, every feature a token; images of now and of one control step ago.

    20 of the video model's 30 blocks run.
    """
    policy = rdt_1b(data)
    cameras = (*(f"{camera}@1" for camera in data.cameras), *data.cameras)
    former = FormerConfig(kind="projection")
    latent_hz = data.fps / 4
    head = data.cameras[0]
    streams = (
        StreamConfig("spatial", head, 1, 1, 480, FilterConfig("sobel"), former, width_px=832, resize="lanczos"),
        StreamConfig(
            "motion",
            head,
            num_frames=61,
            stride=1,
            size_px=224,
            # of the 9 frequencies of 16 latent frames, all but the lowest, which stands still, and the highest
            filter=FilterConfig("temporal_bandpass", low_hz=latent_hz / 16, high_hz=7 * latent_hz / 16),
            former=former,
            resize="lanczos",
        ),
    )
    wan = PretrainedBackboneConfig("wan22", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", feature_layer=20)
    return replace(
        policy,
        cameras=cameras,
        execute_steps=64,
        system1=rdt_system1(data, cameras),
        system2=System2Config(wan, streams, token_dim=policy.system1.hidden, filter_on="latents"),
        refresh_every=64,
        max_staleness_steps=0,
    )


SMALL = (tiny, tiny_latents, tiny_system1, tiny_blind, small, small_system1)
PUBLISHED = (wan21_1b, wan21_14b, wan22_5b, hunyuan, cogvideox, cogvideox15, ltx, cosmos)
FULL_SIZE = (rdt_1b, wan22_5b_rdt_1b, official)

PRESETS: dict[str, Callable[[DataSpec], PolicyConfig]] = {
    preset.__name__: preset for preset in (*SMALL, *PUBLISHED, *FULL_SIZE)
}


def video_model_of(name: str) -> BackboneConfig | PretrainedBackboneConfig:
    """Which video model a preset looks through. Raises ValueError for an unknown name, or a preset without System 2."""
    system2 = make_preset(name, DataSpec(1, 1, 20.0, ("camera",))).system2
    if system2 is None:
        raise ValueError(f"the preset {name!r} has no System 2 and so no video model; choose another")
    return system2.backbone


def make_preset(name: str, data: DataSpec) -> PolicyConfig:
    """Raises ValueError for an unknown name, listing those there are."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown preset {name!r}; {hint}choose from {', '.join(PRESETS)}")
    return PRESETS[name](data)
