"""Every knob of a policy and of its training, as inert data: frozen, typed, validated, saved as json beside the weights.

Imports no torch. A value that follows from others is a property. Errors name the field, the value and what to write instead.
Durations in this file are seconds (`_s`), sizes pixels (`_px`), counts `num_`.
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from video2act.config_files import check, from_json, load, to_json
from video2act.config_system1 import DenoisingConfig, DitConfig, PretrainedConfig, System1Config, System1Sources, adaptor_depth

__all__ = [
    "BackboneConfig",
    "DenoisingConfig",
    "DitConfig",
    "FilterConfig",
    "FilterName",
    "FormerConfig",
    "OptimizationConfig",
    "PolicyConfig",
    "PretrainedConfig",
    "StreamConfig",
    "System1Config",
    "System1Sources",
    "System2Config",
    "TrainConfig",
    "VideoTrainConfig",
    "camera_and_lag",
    "check",
    "from_json",
    "load",
    "to_json",
]

FilterName = Literal["none", "sobel", "scharr", "laplacian", "temporal_bandpass", "moft"]


@dataclass(frozen=True)
class FilterConfig:
    """What is kept of a stream before it is compressed (paper section 3.2)."""

    name: FilterName = "none"
    low_hz: float = 0.0
    """temporal_bandpass: lowest frequency kept, on the time axis of the grid it filters"""
    high_hz: float = 0.0
    """temporal_bandpass: highest frequency kept"""
    keep: float = 0.25
    """moft: the share of channels kept, those with the largest variance over time"""
    then: Literal["none", "sobel", "scharr", "laplacian"] = "none"
    """a spatial filter after a temporal one: boundaries of what moves"""
    border: Literal["replicate", "zeros"] = "replicate"
    """sobel, scharr, laplacian: what lies around the picture. zeros is for checkpoints of the released code, which saw the
    picture's own border as its strongest edge"""

    def __post_init__(self) -> None:
        choices = get_args(FilterName)
        spatial = ("none", "sobel", "scharr", "laplacian")
        check(self.then in spatial, f"then must be one of {', '.join(spatial)}, got {self.then!r}")
        check(
            self.then == "none" or self.name in ("temporal_bandpass", "moft"),
            f"then={self.then!r} follows a temporal filter; after {self.name!r} it would be the only one or a second one",
        )
        check(self.border in ("replicate", "zeros"), f"border must be 'replicate' or 'zeros', got {self.border!r}")
        check(self.name in choices, f"unknown filter {self.name!r}; choose from {', '.join(choices)}")
        if self.name == "temporal_bandpass":
            check(
                0 <= self.low_hz < self.high_hz,
                f"temporal_bandpass needs 0 <= low_hz < high_hz, got {self.low_hz} and {self.high_hz}",
            )
        check(0 < self.keep <= 1, f"moft keeps a share of channels in (0, 1], got keep={self.keep}")


@dataclass(frozen=True)
class FormerConfig:
    """What turns a stream's features into tokens."""

    num_tokens: int = 8
    depth: int = 1
    num_heads: int = 4
    kind: Literal["resampler", "projection", "frame_resampler", "constant"] = "resampler"
    """resampler: learned queries that read the whole clip; projection: every feature becomes a token (num_tokens and depth then
    say nothing); frame_resampler: the released code's former, whose queries belong to one frame each; constant: what that code
    computes at its depth 0, tokens that never saw the video, here only so that such a checkpoint can be loaded"""
    width: int = 0
    """frame_resampler, constant: width inside; 0: token_dim"""
    head_dim: int = 64
    """frame_resampler: width of a head"""
    num_frames: int = 1
    """frame_resampler: frames among which features and queries are shared out"""
    is_temporal: bool = False
    """frame_resampler: queries of different frames read each other"""
    adaptor: str = "mlp2x_gelu"
    """all but resampler: the last step, to token_dim"""

    def __post_init__(self) -> None:
        kinds = get_args(get_type_hints(FormerConfig)["kind"])
        check(self.kind in kinds, f"unknown former {self.kind!r}; choose from {', '.join(kinds)}")
        check(self.num_tokens > 0, f"a former needs at least one token, got num_tokens={self.num_tokens}")
        # a resampler without layers returns its queries: constants that never saw the video
        check(self.num_heads > 0, f"num_heads must be positive, got {self.num_heads}")
        check(self.depth > 0, f"a former of depth {self.depth} never reads the video; use depth >= 1")
        check(self.head_dim > 0 and self.width >= 0, f"head_dim and width must be positive, got {self.head_dim}, {self.width}")
        check(
            self.num_frames > 0 and self.num_tokens % self.num_frames == 0,
            f"num_tokens={self.num_tokens} cannot be shared out among num_frames={self.num_frames}",
        )
        adaptor_depth(self.adaptor)


@dataclass(frozen=True)
class StreamConfig:
    """One way of looking: which frames, how large, what is kept, how it is compressed."""

    name: str
    camera: str
    num_frames: int
    """frames of a clip, newest last"""
    stride: int
    """control steps between two frames"""
    size_px: int
    """height, and width unless `width_px` says otherwise"""
    filter: FilterConfig
    former: FormerConfig
    width_px: int = 0
    """width of a frame that is not square; 0: square"""
    resize: Literal["area", "lanczos"] = "area"
    """area: averages square frames down; lanczos: takes frames of any shape and size, and distorts them, as checkpoints of the
    released code were shown them"""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """in which the video model is shown the frame; bgr for checkpoints of the released code, whose latents were made so"""

    @property
    def frame_px(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.size_px, self.width_px or self.size_px

    def __post_init__(self) -> None:
        check(self.num_frames > 0, f"stream {self.name!r}: num_frames must be positive, got {self.num_frames}")
        check(self.size_px > 0, f"stream {self.name!r}: size_px must be positive, got {self.size_px}")
        check(self.width_px >= 0, f"stream {self.name!r}: width_px must not be negative, got {self.width_px}")
        check(
            self.resize in ("area", "lanczos"), f"stream {self.name!r}: resize must be 'area' or 'lanczos', got {self.resize!r}"
        )
        check(self.channel_order in ("rgb", "bgr"), f"channel_order must be 'rgb' or 'bgr', got {self.channel_order!r}")
        check(
            self.resize == "lanczos" or self.width_px in (0, self.size_px),
            f"stream {self.name!r}: frames of {self.size_px} x {self.width_px} px need resize='lanczos'",
        )
        check(self.stride > 0, f"stream {self.name!r}: stride must be positive, got {self.stride}")
        is_temporal = self.filter.name in ("temporal_bandpass", "moft")
        check(
            not is_temporal or self.num_frames > 1,
            f"stream {self.name!r}: the filter {self.filter.name!r} needs a clip of several frames, got num_frames=1",
        )


@dataclass(frozen=True)
class BackboneConfig:
    """Which video diffusion model, and where it is tapped."""

    name: Literal["tiny"] = "tiny"
    feature_layer: int = 2
    """number of transformer blocks that run; features are what leaves the last of them, or, for 0, what enters the first"""
    hidden: int = 128
    depth: int = 4
    num_heads: int = 4
    latent_channels: int = 96
    patch_px: int = 8
    """pixels a side that become one latent position"""
    frames_per_latent: int = 4
    """frames merged into one latent frame, after the first, which stands alone"""
    text_dim: int = 64

    def __post_init__(self) -> None:
        choices = get_args(get_type_hints(BackboneConfig)["name"])
        check(self.name in choices, f"unknown backbone {self.name!r}; choose from {', '.join(choices)}")
        for name in ("hidden", "depth", "num_heads", "latent_channels", "patch_px", "frames_per_latent", "text_dim"):
            check(getattr(self, name) > 0, f"{name} must be positive, got {getattr(self, name)}")
        check(
            0 <= self.feature_layer <= self.depth,
            f"feature_layer must lie in 0..{self.depth} (the number of blocks), got {self.feature_layer}",
        )
        check(self.hidden % self.num_heads == 0, f"hidden={self.hidden} is not divisible by num_heads={self.num_heads}")


@dataclass(frozen=True)
class System2Config:
    """The slow system: two streams through one frozen video diffusion model."""

    backbone: BackboneConfig
    streams: tuple[StreamConfig, ...]
    token_dim: int
    """width of the tokens handed to System 1"""
    filter_on: Literal["features", "latents"] = "features"
    """features: after the transformer blocks, as in the paper; latents: before them, as in the released code"""

    def __post_init__(self) -> None:
        check(len(self.streams) > 0, "System 2 needs at least one stream; for a policy without it, set system2 to null")
        names = [stream.name for stream in self.streams]
        check(len(set(names)) == len(names), f"stream names must differ, got {names}")
        check(self.filter_on in ("features", "latents"), f"filter_on must be 'features' or 'latents', got {self.filter_on!r}")
        for stream in self.streams:
            heads = stream.former.num_heads
            check(
                stream.former.kind != "resampler" or self.token_dim % heads == 0,
                f"stream {stream.name!r}: token_dim={self.token_dim} is not divisible by the former's num_heads={heads}",
            )
            patch = self.backbone.patch_px
            for name, side in zip(("size_px", "width_px"), stream.frame_px, strict=True):
                check(
                    side % patch == 0,
                    f"stream {stream.name!r}: {name}={side} is not a multiple of the backbone's patch of {patch} px",
                )
            group = self.backbone.frames_per_latent
            check(
                (stream.num_frames - 1) % group == 0,
                f"stream {stream.name!r}: num_frames must be 1 + a multiple of {group} (the codec merges {group} frames after "
                f"the first), got {stream.num_frames}",
            )


def camera_and_lag(name: str) -> tuple[str, int]:
    """`head@1` -> (`head`, 1): a camera, and how many control steps ago. `head` -> (`head`, 0)."""
    camera, _, lag = name.partition("@")
    check("@" not in name or (lag.isdigit() and int(lag) > 0), f"a past image is written camera@steps, e.g. head@1, got {name!r}")
    return camera, int(lag or 0)


@dataclass(frozen=True)
class PolicyConfig:
    """A whole policy. Saved as `config.json`; with the weights it rebuilds the policy."""

    state_dim: int
    action_dim: int
    fps: float
    """control steps per second of the data and of the robot"""
    cameras: tuple[str, ...]
    """what System 1 looks at; empty for a policy that sees nothing. `head@1` is what camera `head` saw one control step ago"""
    image_px: int
    """side of System 1's images"""
    horizon: int
    """actions in a chunk"""
    execute_steps: int
    """actions executed before the next plan"""
    system1: System1Config
    system2: System2Config | None
    refresh_every: int = 8
    """control steps between two updates of System 2"""
    max_staleness_steps: int = 8
    """oldest condition seen in training, in control steps; staleness is drawn from 0..this"""
    image_fit: Literal["area", "pad"] = "area"
    """area: averages square frames down; pad: takes frames of any shape, adds grey to a square, bicubic (SigLIP as in RDT-1B)"""
    normalize_state: Literal["mean_std", "min_max", "identity"] = "mean_std"
    normalize_action: Literal["mean_std", "min_max", "identity"] = "min_max"

    def __post_init__(self) -> None:
        check(
            1 <= self.execute_steps <= self.horizon,
            f"execute_steps must lie in 1..horizon ({self.horizon}), got {self.execute_steps}",
        )
        check(self.refresh_every >= 1, f"refresh_every must be at least 1, got {self.refresh_every}")
        check(self.max_staleness_steps >= 0, f"max_staleness_steps must not be negative, got {self.max_staleness_steps}")
        check(self.image_px > 0, f"image_px must be positive, got {self.image_px}")
        check(self.image_fit in ("area", "pad"), f"image_fit must be 'area' or 'pad', got {self.image_fit!r}")
        check(self.fps > 0, f"fps must be positive, got {self.fps}")
        for camera in self.cameras:
            camera_and_lag(camera)
        if self.system2 is not None:
            check(
                self.system2.token_dim == self.system1.hidden,
                f"System 2's token_dim ({self.system2.token_dim}) must equal System 1's hidden ({self.system1.hidden})",
            )

    @property
    def all_cameras(self) -> tuple[str, ...]:
        """Every camera that either system needs, System 1's first."""
        streams = self.system2.streams if self.system2 else ()
        seen = (camera_and_lag(camera)[0] for camera in self.cameras)
        return tuple(dict.fromkeys((*seen, *(stream.camera for stream in streams))))


@dataclass(frozen=True)
class OptimizationConfig:
    """What every training has in common. Budgets are steps, not seconds: a slow machine learns the same."""

    num_steps: int = 1000
    batch_size: int = 32
    """samples per process and step"""
    learning_rate: float = 2e-3
    """its peak; it rises linearly and falls as a cosine to zero"""
    warmup_steps: int = 50
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    ema_power: float = 0.75
    """the moving average of the weights takes in `(1 + step) ** -ema_power` of each step's"""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively"""
    gradient_accumulation: int = 1
    save_every: int = 500
    """training steps between two checkpoints"""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.num_steps >= 0, f"num_steps must not be negative, got {self.num_steps}")
        for name in ("batch_size", "gradient_accumulation", "save_every"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        check(self.max_grad_norm > 0, f"max_grad_norm must be positive, got {self.max_grad_norm}")
        check(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        check(self.learning_rate > 0, f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class VideoTrainConfig(OptimizationConfig):
    """`train-video`: the video model's own objective."""

    num_steps: int = 500
    batch_size: int = 8
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    num_frames: int = 17
    """frames of a training clip"""
    stride: int = 1
    """control steps between two frames"""
    sizes_px: tuple[int, ...] = (64,)
    """sides of training clips; a step draws one of them, so that one model serves streams of any. The first is reported on"""
    validation_fraction: float = 0.1
    """share of episodes, at the end of each dataset, that are never trained on"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.num_frames > 1,
            f"train-video needs longer clips than num_frames={self.num_frames}: there is no future to predict",
        )
        check(len(self.sizes_px) > 0, "sizes_px must name at least one size")
        check(0 < self.validation_fraction < 1, f"validation_fraction must lie in (0, 1), got {self.validation_fraction}")


@dataclass(frozen=True)
class TrainConfig(OptimizationConfig):
    """`train`: System 1 and the formers, by the denoising loss."""

    condition_dropout: float = 0.05
    """chance that a sample is shown no text, and likewise no image, no video, no state"""
    state_noise: float = 0.02
    """standard deviation added to the normalised state"""
    image_shift_px: int = 0
    """images are shifted by up to this many pixels; not for cameras that stand still, where a place in the picture is a place"""
    image_jitter: float = 0.1
    """brightness, contrast and saturation vary by up to this share"""
    num_workers: int = 0
    """processes that prepare batches; 0 prepares them in the training process"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.condition_dropout < 1, f"condition_dropout must lie in [0, 1), got {self.condition_dropout}")
        for name in ("state_noise", "image_shift_px", "image_jitter", "num_workers"):
            check(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
