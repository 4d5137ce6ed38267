"""Named policies for machines of several sizes. A preset is a function of the training data.

`tiny` is the CPU-sized dual system in the paper's form, which reads the past; `tiny_lookahead` also reads what the
video model imagines. The others named `tiny_*` are controls, each lacks one part. Those named after a published video
model use it in System 2, tapped after two thirds of its blocks, as in the paper. `rdt_1b` is System 1 at full size;
`wan22_5b_rdt_1b` is both, the paper's policy; `official` is the released code's arrangement.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Protocol, runtime_checkable

from video2act.config import (
    LETTERBOX,
    RDT_FORM,
    BackboneConfig,
    DenoisingConfig,
    FilterConfig,
    FormerConfig,
    FrameConfig,
    Orientation,
    PolicyConfig,
    PretrainedBackboneConfig,
    PretrainedConfig,
    StreamConfig,
    System1Config,
    System2Config,
)
from video2act.config.nearby import meant


@runtime_checkable
class Demonstrations(Protocol):
    """What a preset reads of a dataset."""

    @property
    def state_dim(self) -> int: ...
    @property
    def action_dim(self) -> int | None: ...
    @property
    def fps(self) -> float: ...
    @property
    def cameras(self) -> tuple[str, ...]: ...
    @property
    def orientation(self) -> Orientation: ...
    @property
    def relative_actions(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class DataSpec:
    """The properties of demonstrations that a preset depends on."""

    state_dim: int
    action_dim: int
    fps: float
    cameras: tuple[str, ...]
    """the first one is also System 2's"""
    orientation: Orientation = "upright"
    relative_actions: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Demonstrations, cameras: tuple[str, ...] | None = None) -> "DataSpec":
        """Of a dataset, through all its cameras or the chosen ones."""
        chosen = data.cameras if cameras is None else cameras
        relative = data.relative_actions
        return cls(data.state_dim, data.action_dim or 0, float(data.fps), chosen, data.orientation, relative)


ANY_DATA = DataSpec(14, 14, 20.0, ("camera",))
"""for data that are not opened yet: sizes hardly depend on them"""

EVERYTHING_THAT_MOVES = FilterConfig("temporal_bandpass")
"""drops only what stands still"""

PUBLISHED_FRAMES = FrameConfig(max_enlargement=2.0)
"""of streams over published models, which were trained on large frames: 320x240 is enlarged to 480 px"""

SIGLIP_FRAMES = FrameConfig(resample="bicubic", max_enlargement=0.0)
"""as in RDT-1B's training"""

RELEASED_FRAMES = FrameConfig("stretch", "lanczos", max_enlargement=0.0)
"""as the released code shows them to the video model"""


WINDOW_S = 0.8
"""how far a motion stream looks back at least: what moves slowly does not move in 0.2 s"""


def window_stride(fps: float, num_frames: int) -> int:
    """Control steps between the frames of a clip, so that it spans `WINDOW_S` seconds or more."""
    return max(1, ceil(WINDOW_S * fps / (num_frames - 1) - 1e-6))


def paper_streams(
    data: DataSpec,
    num_frames: int,
    *,
    motion_px: int,
    spatial_px: int,
    former: FormerConfig,
    frame: FrameConfig = LETTERBOX,
) -> tuple[StreamConfig, ...]:
    """The paper's two streams of the first camera: boundaries of the newest frame, and motion of `num_frames`."""
    camera, stride = data.cameras[0], window_stride(data.fps, num_frames)
    return (
        StreamConfig("spatial", camera, 1, 1, spatial_px, FilterConfig("sobel"), former, frame=frame),
        StreamConfig("motion", camera, num_frames, stride, motion_px, EVERYTHING_THAT_MOVES, former, frame=frame),
    )


def tiny(data: DataSpec) -> PolicyConfig:
    """Both systems, about two million parameters."""
    streams = paper_streams(data, 17, motion_px=64, spatial_px=64, former=FormerConfig())
    return PolicyConfig(
        **vars(data),
        image_px=64,
        horizon=8,
        execute_steps=4,
        system1=System1Config(denoising=DenoisingConfig(noise_shift=3.0, noise_draws=2)),
        system2=System2Config(BackboneConfig(), streams),
    )


def looking_ahead(policy: PolicyConfig, num_frames: int, *, imagine: int) -> PolicyConfig:
    """The policy whose motion stream shows `num_frames` and imagines `imagine` more, both `WINDOW_S` long or longer."""
    shorter = min(imagine, num_frames - 1 or imagine)
    stride, motion = window_stride(policy.fps, shorter + 1), "system2.streams.motion"
    return policy.replace(
        {
            f"{motion}.num_frames": num_frames,
            f"{motion}.stride": stride,
            f"{motion}.imagine.num_frames": imagine,
            # a band-pass over past and future made the offline probe worse (docs/lookahead.md)
            f"{motion}.filter": FilterConfig(),
        }
    )


def tiny_lookahead(data: DataSpec) -> PolicyConfig:
    """`tiny`, whose motion stream reads what the video model expects to happen: 9 frames, and 8 imagined ones."""
    return looking_ahead(tiny(data), 9, imagine=8)


def tiny_latents(data: DataSpec) -> PolicyConfig:
    """`tiny`, with the codec's latents in place of the video model's features."""
    return tiny(data).replace({"system2.backbone.feature_layers": (0,)})


def tiny_system1(data: DataSpec) -> PolicyConfig:
    """System 1 alone: images, text and state, no video."""
    return replace(tiny(data), system2=None)


def tiny_blind(data: DataSpec) -> PolicyConfig:
    """Sees nothing: text and state only. What it achieves needs no vision."""
    return replace(tiny_system1(data), cameras=())


def small(data: DataSpec) -> PolicyConfig:
    """Wan's networks with 67 million parameters, 14 of them the VAE's; `train-video --preset small` trains all."""
    backbone = PretrainedBackboneConfig("wan_small", SMALL_SOURCE, feature_layers=(8,), dtype="float32")
    system1 = System1Config(hidden=256, depth=6, num_heads=8, denoising=DenoisingConfig(noise_shift=3.0, noise_draws=2))
    former = FormerConfig(num_tokens=32, depth=2, num_heads=8)
    streams = paper_streams(data, 17, motion_px=128, spatial_px=128, former=former)
    return replace(tiny(data), image_px=128, system1=system1, system2=System2Config(backbone, streams))


def small_lookahead(data: DataSpec) -> PolicyConfig:
    """`small`, looking ahead as `tiny_lookahead` does."""
    return looking_ahead(small(data), 9, imagine=8)


def small_system1(data: DataSpec) -> PolicyConfig:
    """System 1 of `small`, alone."""
    return replace(small(data), system2=None)


SMALL_SOURCE = "./the folder that train-video --preset small has written"
"""there is no such model to download; `--video-model` names it"""


def published(
    data: DataSpec,
    *,
    family: str,
    source: str,
    feature_layer: int,
    num_frames: int = 61,
    motion_px: int = 224,
    spatial_px: int = 480,
) -> PolicyConfig:
    """System 2 over a published model: the newest frame at `spatial_px`, the last `num_frames` at `motion_px`."""
    backbone = PretrainedBackboneConfig(family, source, (feature_layer,))
    former = FormerConfig(num_tokens=224, depth=2, num_heads=8)
    sizes = {"motion_px": motion_px, "spatial_px": spatial_px}
    streams = paper_streams(data, num_frames, **sizes, former=former, frame=PUBLISHED_FRAMES)
    return PolicyConfig(
        **vars(data),
        image_px=128,
        horizon=16,
        execute_steps=8,
        system1=System1Config(hidden=512, depth=8, num_heads=8, text_dim=256, image_channels=32),
        system2=System2Config(backbone, streams),
    )


def published_lookahead(data: DataSpec, *, name: str, num_frames: int, imagine: int) -> PolicyConfig:
    """A published model's preset, looking ahead from as many frames as the model was trained to continue."""
    return looking_ahead(PUBLISHED[name](data), num_frames, imagine=imagine)


PUBLISHED: dict[str, Callable[[DataSpec], PolicyConfig]] = {
    name: partial(published, family=family, source=source, feature_layer=layer, **sizes)
    for name, family, source, layer, sizes in (
        # two thirds of the blocks, as in the paper, whose model is the 5B
        ("wan21_1b", "wan21", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 20, {}),
        ("wan21_14b", "wan21", "Wan-AI/Wan2.1-T2V-14B-Diffusers", 26, {}),
        ("wan22_5b", "wan22", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", 20, {}),
        # its 20 blocks of two streams and half of the 40 that follow
        ("hunyuan", "hunyuan", "hunyuanvideo-community/HunyuanVideo", 40, {}),
        # clips as long as in their training
        ("cogvideox", "cogvideox", "zai-org/CogVideoX-5b", 28, {"num_frames": 49}),
        ("cogvideox15", "cogvideox15", "zai-org/CogVideoX1.5-5B", 28, {"num_frames": 81}),
        # it merges 8 frames and 32 pixels: a larger motion stream, one group shorter
        ("ltx", "ltx", "Lightricks/LTX-Video", 18, {"num_frames": 57, "motion_px": 320, "spatial_px": 512}),
        ("cosmos", "cosmos", "nvidia/Cosmos-Predict2-2B-Video2World", 18, {}),
    )
}


LOOKAHEAD: dict[str, Callable[[DataSpec], PolicyConfig]] = {
    f"{name}_lookahead": partial(published_lookahead, name=name, num_frames=shown, imagine=imagine)
    for name, shown, imagine in (
        # as each was trained: a clean first frame; one or two clean latents; any number of them
        ("wan22_5b", 1, 60),
        ("cosmos", 5, 56),
        ("ltx", 25, 32),
    )
}


def rdt_system1() -> System1Config:
    """System 1 of RDT-1B's size and form (arXiv 2410.07864): 1.2 billion parameters, encoders apart.

    To load RDT-1B's weights, `system1.embodiment` must name the robot; without it, the robot keeps its own vector.
    """
    return System1Config(
        hidden=2048,
        depth=28,
        num_heads=32,
        denoising=DenoisingConfig("ddpm", "sample", num_steps=5),
        dit=RDT_FORM,
        text_encoder=PretrainedConfig("google/t5-v1_1-xxl", width=4096, max_tokens=1024),
        text_adaptor="mlp2x_gelu",
        image_encoder=PretrainedConfig("google/siglip-so400m-patch14-384", width=1152),
        image_adaptor="mlp2x_gelu",
    )


def rdt_1b(data: DataSpec) -> PolicyConfig:
    """System 1 at full size, alone; the large video models' presets put System 2 beside it."""
    return PolicyConfig(
        **vars(data),
        image_px=384,
        image=SIGLIP_FRAMES,
        horizon=64,
        execute_steps=32,
        system1=rdt_system1(),
        system2=None,
        # RDT-1B reads and writes physical units
        normalize_state="identity",
        normalize_action="identity",
    )


def wan22_5b_rdt_1b(data: DataSpec) -> PolicyConfig:
    """The paper's sizes: System 2 over Wan 2.2 TI2V-5B, System 1 of RDT-1B's."""
    return replace(rdt_1b(data), system2=PUBLISHED["wan22_5b"](data).system2)


def official(data: DataSpec) -> PolicyConfig:
    """The released code's arrangement without its defects: RDT-1B's System 1, two streams of the first camera through
    20 of Wan 2.2 5B's 30 blocks, filters on latents, every feature a token; images of now and one control step ago.
    """
    former, head, latent_hz = FormerConfig(kind="projection"), data.cameras[0], data.fps / 4
    # of the 9 frequencies of 16 latent frames, all but the lowest, which stands still, and the highest
    band = FilterConfig("temporal_bandpass", low_hz=latent_hz / 16, high_hz=7 * latent_hz / 16)
    streams = (
        StreamConfig("spatial", head, 1, 1, 480, FilterConfig("sobel"), former, 832, RELEASED_FRAMES),
        StreamConfig("motion", head, 61, 1, 224, band, former, frame=RELEASED_FRAMES),
    )
    wan = PretrainedBackboneConfig(
        "wan22", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", feature_layers=(20,), feature_norm="none"
    )
    return replace(
        rdt_1b(data),
        cameras=(*(f"{camera}@1" for camera in data.cameras), *data.cameras),
        execute_steps=64,
        system2=System2Config(wan, streams, filter_on="latents", reference="none"),
        refresh_every=64,
        max_staleness_steps=0,
    )


BLIND = tiny_blind.__name__
PRESETS: dict[str, Callable[[DataSpec], PolicyConfig]] = {
    **{preset.__name__: preset for preset in (tiny, tiny_lookahead, tiny_latents, tiny_system1, tiny_blind)},
    **{preset.__name__: preset for preset in (small, small_lookahead, small_system1)},
    **PUBLISHED,
    **LOOKAHEAD,
    **{preset.__name__: preset for preset in (rdt_1b, wan22_5b_rdt_1b, official)},
}


def video_model_in(policy: PolicyConfig) -> BackboneConfig | PretrainedBackboneConfig:
    """The video model of a policy. Raises ValueError for one without System 2."""
    if policy.system2 is None:
        raise ValueError("this policy has no System 2 and so no video model; choose another preset")
    return policy.system2.backbone


def make_preset(name: str, data: Demonstrations, cameras: tuple[str, ...] | None = None) -> PolicyConfig:
    """The policy of a name for a dataset.

    Args:
        cameras: of the policy, System 2's first; all of the data's, if None.
    Raises:
        ValueError: an unknown name, or no camera to look through.
    """
    if name not in PRESETS:
        hint = meant(name, PRESETS, form=repr)
        raise ValueError(f"unknown preset {name!r}; {hint}choose from {', '.join(PRESETS)}")
    spec = DataSpec.of(data, cameras)
    if not spec.cameras:
        if name != BLIND:
            why = f"the preset {name} looks through a colour camera, and there is none (depth is none)"
            raise ValueError(f"{why}; record one, or choose {BLIND}, which sees nothing")
        spec = replace(spec, cameras=ANY_DATA.cameras)
    return replace(PRESETS[name](spec), preset=name)
