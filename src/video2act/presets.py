"""Named policies: a starting point for each size of machine. A preset is a function of the data it will be trained on.

`tiny` is the CPU-sized dual system; the others named `tiny_*` are its controls, with one thing taken away. `rdt_1b` is System 1
at full size, `official` the released code's arrangement.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from video2act.config import (
    BackboneConfig,
    DenoisingConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    PretrainedConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.config_system1 import RDT_FORM


@dataclass(frozen=True)
class DataSpec:
    """What a preset needs to know of the demonstrations."""

    state_dim: int
    action_dim: int
    fps: float
    cameras: tuple[str, ...]
    """the first one is also System 2's"""


def tiny_streams(camera: str, fps: float) -> tuple[StreamConfig, ...]:
    """The paper's two streams of one camera, at 64 px: boundaries of the newest frame, and motion of the last 17 frames."""
    latent_fps = fps / 4
    return (
        StreamConfig("spatial", camera, num_frames=1, stride=1, size_px=64, filter=FilterConfig("sobel"), former=FormerConfig()),
        StreamConfig(
            "motion",
            camera,
            num_frames=17,
            stride=1,
            size_px=64,
            # everything that moves within the clip's 5 latent frames; only what stands still is dropped
            filter=FilterConfig("temporal_bandpass", low_hz=latent_fps / 5, high_hz=latent_fps / 2),
            former=FormerConfig(),
        ),
    )


def tiny(data: DataSpec) -> PolicyConfig:
    """Both systems, about two million parameters."""
    system1 = System1Config(denoising=DenoisingConfig(noise_shift=3.0, noise_draws=2))
    return PolicyConfig(
        state_dim=data.state_dim,
        action_dim=data.action_dim,
        fps=data.fps,
        cameras=data.cameras,
        image_px=64,
        horizon=8,
        execute_steps=4,
        system1=system1,
        system2=System2Config(BackboneConfig(), tiny_streams(data.cameras[0], data.fps), token_dim=system1.hidden),
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


def rdt_system1(data: DataSpec, cameras: tuple[str, ...]) -> System1Config:
    """System 1 of RDT-1B's size and form (arXiv 2410.07864), to begin with its weights; 1.2 billion parameters, encoders apart.

    A robot whose numbers fit none of the embodiments keeps its own vector; RDT-1B's weights then do not fit.
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
        embodiment=EMBODIMENT_OF.get((data.state_dim, data.action_dim), ""),
    )


EMBODIMENT_OF = {
    (14, 14): "aloha_agilex",
    (16, 16): "two_arms_7",
    (8, 8): "one_arm_7",
    (7, 7): "one_arm_6",
    (10, 10): "one_arm_pose",
    (4, 4): "one_arm_position",
}
"""sizes of state and action -> the usual robot of those sizes, by its name in `embodiment.py`"""


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


def official(data: DataSpec) -> PolicyConfig:
    """The released code's arrangement without its defects: RDT-1B's System 1, two streams of the first camera through Wan 2.2 5B,
    filters on latents, every feature a token; images of now and of one control step ago.

    The shape of the video model is that of the one training is given; 20 of its blocks run.
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
    wan = BackboneConfig(feature_layer=20, hidden=3072, depth=30, num_heads=24, latent_channels=48, patch_px=16)
    return replace(
        policy,
        cameras=cameras,
        execute_steps=64,
        system1=rdt_system1(data, cameras),
        system2=System2Config(wan, streams, token_dim=policy.system1.hidden, filter_on="latents"),
        refresh_every=64,
        max_staleness_steps=0,
    )


PRESETS: dict[str, Callable[[DataSpec], PolicyConfig]] = {
    preset.__name__: preset for preset in (tiny, tiny_latents, tiny_system1, tiny_blind, rdt_1b, official)
}


def make_preset(name: str, data: DataSpec) -> PolicyConfig:
    """Raises ValueError for an unknown name, listing those there are."""
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown preset {name!r}; {hint}choose from {', '.join(PRESETS)}")
    return PRESETS[name](data)
