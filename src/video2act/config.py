"""Every knob of a policy and of its training, as inert data: frozen, typed, validated, saved as json beside the weights.

Imports no torch. A value that follows from others is a property. Errors name the field, the value and what to write instead.
Durations in this file are seconds (`_s`), sizes pixels (`_px`), counts `num_`.
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from video2act.backbone_config import BackboneConfig, PretrainedBackboneConfig, check

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

    def __post_init__(self) -> None:
        choices = get_args(FilterName)
        check(self.name in choices, f"unknown filter {self.name!r}; choose from {', '.join(choices)}")
        if self.name == "temporal_bandpass":
            check(
                0 <= self.low_hz < self.high_hz,
                f"temporal_bandpass needs 0 <= low_hz < high_hz, got {self.low_hz} and {self.high_hz}",
            )
        check(0 < self.keep <= 1, f"moft keeps a share of channels in (0, 1], got keep={self.keep}")


@dataclass(frozen=True)
class FormerConfig:
    """A perceiver resampler with learned queries."""

    num_tokens: int = 8
    depth: int = 1
    num_heads: int = 4

    def __post_init__(self) -> None:
        check(self.num_tokens > 0, f"a former needs at least one token, got num_tokens={self.num_tokens}")
        # a resampler without layers returns its queries: constants that never saw the video
        check(self.num_heads > 0, f"num_heads must be positive, got {self.num_heads}")
        check(self.depth > 0, f"a former of depth {self.depth} never reads the video; use depth >= 1")


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
    filter: FilterConfig
    former: FormerConfig

    def __post_init__(self) -> None:
        check(self.num_frames > 0, f"stream {self.name!r}: num_frames must be positive, got {self.num_frames}")
        check(self.size_px > 0, f"stream {self.name!r}: size_px must be positive, got {self.size_px}")
        check(self.stride > 0, f"stream {self.name!r}: stride must be positive, got {self.stride}")
        is_temporal = self.filter.name in ("temporal_bandpass", "moft")
        check(
            not is_temporal or self.num_frames > 1,
            f"stream {self.name!r}: the filter {self.filter.name!r} needs a clip of several frames, got num_frames=1",
        )


@dataclass(frozen=True)
class System2Config:
    """The slow system: two streams through one frozen video diffusion model."""

    backbone: BackboneConfig | PretrainedBackboneConfig
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
                self.token_dim % heads == 0,
                f"stream {stream.name!r}: token_dim={self.token_dim} is not divisible by the former's num_heads={heads}",
            )
            patch = self.backbone.patch_px
            check(
                stream.size_px % patch == 0,
                f"stream {stream.name!r}: size_px={stream.size_px} is not a multiple of the backbone's patch of {patch} px",
            )
            group = self.backbone.frames_per_feature
            check(
                (stream.num_frames - 1) % group == 0,
                f"stream {stream.name!r}: num_frames must be 1 + a multiple of {group} (the video model merges {group} frames "
                f"after the first), got {stream.num_frames}",
            )


@dataclass(frozen=True)
class DenoisingConfig:
    """How actions are noised in training and denoised in sampling; the schedules are those of diffusers."""

    schedule: Literal["flow_matching", "ddpm"] = "flow_matching"
    prediction: Literal["sample", "epsilon", "velocity"] = "sample"
    """what the network outputs: the clean actions, the noise, or (flow matching) noise - actions"""
    num_steps: int = 5
    """denoising steps per chunk"""
    num_train_timesteps: int = 1000
    noise_shift: float = 1.0
    """training draws noise levels from `s u / (1 + (s - 1) u)`, u uniform (arXiv 2403.03206); above 1, more of them are high,
    where the conditions decide"""
    loss: Literal["mse", "smooth_l1"] = "mse"
    noise_draws: int = 1
    """noise levels drawn per training sample; they share the projected conditions, so extra draws are cheap"""

    def __post_init__(self) -> None:
        allowed = {"flow_matching": ("sample", "velocity"), "ddpm": ("sample", "epsilon")}
        check(self.schedule in allowed, f"unknown schedule {self.schedule!r}; choose from {', '.join(allowed)}")
        check(
            self.prediction in allowed[self.schedule],
            f"schedule {self.schedule!r} predicts one of {allowed[self.schedule]}, got {self.prediction!r}",
        )
        check(self.loss in ("mse", "smooth_l1"), f"unknown loss {self.loss!r}; choose from mse, smooth_l1")
        check(self.noise_shift > 0, f"noise_shift must be positive, got {self.noise_shift}")
        check(self.num_steps > 0 and self.noise_draws > 0, "num_steps and noise_draws must be positive")


@dataclass(frozen=True)
class System1Config:
    """The fast system: encoders of text and image, and the action diffusion transformer."""

    hidden: int = 128
    depth: int = 4
    """blocks; even ones attend to text, odd ones to image and video (RDT-1B)"""
    num_heads: int = 4
    text_dim: int = 64
    image_channels: int = 16
    """channels after the first convolution of the image encoder"""
    denoising: DenoisingConfig = DenoisingConfig()

    def __post_init__(self) -> None:
        check(self.num_heads > 0, f"num_heads must be positive, got {self.num_heads}")
        check(
            self.image_channels > 0 and self.image_channels % 8 == 0,
            f"image_channels must be a multiple of 8 (its norm has 8 groups), got {self.image_channels}",
        )
        check(self.depth >= 2, f"depth must be at least 2 (one block for text, one for image and video), got {self.depth}")
        check(self.hidden % self.num_heads == 0, f"hidden={self.hidden} is not divisible by num_heads={self.num_heads}")


@dataclass(frozen=True)
class PolicyConfig:
    """A whole policy. Saved as `config.json`; with the weights it rebuilds the policy."""

    state_dim: int
    action_dim: int
    fps: float
    """control steps per second of the data and of the robot"""
    cameras: tuple[str, ...]
    """what System 1 looks at; empty for a policy that sees nothing"""
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
        check(self.fps > 0, f"fps must be positive, got {self.fps}")
        if self.system2 is not None:
            check(
                self.system2.token_dim == self.system1.hidden,
                f"System 2's token_dim ({self.system2.token_dim}) must equal System 1's hidden ({self.system1.hidden})",
            )

    @property
    def all_cameras(self) -> tuple[str, ...]:
        """Every camera that either system needs, System 1's first."""
        streams = self.system2.streams if self.system2 else ()
        return tuple(dict.fromkeys((*self.cameras, *(stream.camera for stream in streams))))


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


Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """Any config of this file as readable json."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(cls: type[Config], text: str, source: str) -> Config:
    """The inverse of `to_json`; `source` names the file in errors. Unknown and missing fields are errors."""
    return _build(cls, _parse(text, source), source)


def load(cls: type[Config], path: Path) -> Config:
    """Read a config file. Raises FileNotFoundError, or ValueError naming the field that is wrong."""
    return from_json(cls, _read(path), str(path))


def load_backbone(path: Path) -> BackboneConfig | PretrainedBackboneConfig:
    """As `load`, for a video model of either kind."""
    return _build(BackboneConfig | PretrainedBackboneConfig, _parse(_read(path), str(path)), str(path))


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; a run folder holds config.json, model.safetensors and stats.json")
    return path.read_text()


def _parse(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source} is not valid json: {error}") from error


def _build(hint: Any, value: Any, where: str) -> Any:
    """A value of the annotated type out of plain json data."""
    name = getattr(hint, "__name__", str(hint))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        check(isinstance(value, dict), f"{where}: expected an object for {name}, got {value!r}")
        hints = get_type_hints(hint)
        unknown = sorted(set(value) - set(hints))
        check(not unknown, f"{where}: unknown field {', '.join(unknown)} of {name}; it has {', '.join(hints)}")
        required = {field.name for field in dataclasses.fields(hint) if field.default is dataclasses.MISSING}
        missing = sorted(required - set(value))
        check(not missing, f"{where}: missing field {', '.join(missing)} of {name}")
        return hint(**{key: _build(hints[key], item, f"{where}: {key}") for key, item in value.items()})
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        check(isinstance(value, list | tuple), f"{where}: expected a list, got {value!r}")
        return tuple(_build(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        return None if value is None and types.NoneType in arguments else _build(_member(arguments, value), value, where)
    if origin is Literal:
        check(value in arguments, f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    check(type(value) is hint, f"{where}: expected {name}, got {value!r}")
    return value


def _member(union: tuple[Any, ...], value: Any) -> Any:
    """Which of a union's types the data means: of several dataclasses the one whose `name` may be what the data says."""
    members = [member for member in union if member is not types.NoneType]
    name = value.get("name") if isinstance(value, dict) else None
    if len(members) == 1 or name is None:
        return members[0]
    names = {choice: member for member in members for choice in get_args(get_type_hints(member)["name"])}
    check(name in names, f"unknown name {name!r}; choose from {', '.join(names)}")
    return names[name]
