"""The knobs of System 2: its streams, what is kept of them, how they are compressed."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import lcm
from typing import Annotated, Literal

from video2act.config.backbone import BackboneConfig, PretrainedBackboneConfig, TuningConfig
from video2act.config.checks import (
    Between,
    Bound,
    CheckedConfig,
    CountingInt,
    Layers,
    Pixels,
    Width,
    check,
    located,
)
from video2act.config.frames import LETTERBOX, FrameConfig
from video2act.config.system1 import adaptor_depth

FROZEN = TuningConfig()

FilterName = Literal["none", "sobel", "scharr", "laplacian", "temporal_bandpass", "moft"]


def kept_frequencies(num_frames: int, fps: float, *, low_hz: float | None, high_hz: float | None) -> list[bool]:
    """Which of the frequencies of a clip, from 0 in steps of `fps / num_frames` Hz, lie in a band.

    Args:
        low_hz: None: the lowest above 0.
        high_hz: None: the highest there is.
    Raises:
        ValueError: none; the message lists those there are.
    """
    bins = [number * fps / num_frames for number in range(num_frames // 2 + 1)]
    low_hz = fps / num_frames if low_hz is None else low_hz
    high_hz = fps / 2 if high_hz is None else high_hz
    tolerance = 1e-6 * fps
    kept = [low_hz - tolerance <= found <= high_hz + tolerance for found in bins]
    check(
        any(kept),
        f"the band {low_hz}-{high_hz} Hz holds no frequency of a grid of {num_frames} frames at {fps:g} Hz, which has "
        f"{', '.join(f'{found:.3g}' for found in bins)} Hz; widen the band or lengthen the clip",
    )
    return kept


def chosen_rate(fps: float, frames: tuple[int, ...]) -> float:
    """The mean rate of chosen frames of a video; where one or none is named, the video's."""
    return fps * (len(frames) - 1) / (frames[-1] - frames[0]) if len(frames) > 1 else fps


@dataclass(frozen=True)
class FilterConfig(CheckedConfig):
    """What is kept of a stream before it is compressed (paper section 3.2)."""

    name: FilterName = "none"
    """boundaries: sobel, scharr, laplacian; motion: temporal_bandpass, moft; none"""
    low_hz: float | None = None
    """temporal_bandpass: lowest frequency kept, on the time axis of the grid it filters; null: the lowest above 0, so
    that only what stands still is dropped"""
    high_hz: float | None = None
    """temporal_bandpass: highest frequency kept; null: the highest there is"""
    keep: Annotated[float, Bound("must lie in (0, 1]", lambda share: 0 < share <= 1)] = 0.25
    """moft: the share of channels kept, those with the largest variance over time"""
    then: Literal["none", "sobel", "scharr", "laplacian"] = "none"
    """a spatial filter after a temporal one: boundaries of what moves"""
    border: Literal["replicate", "zeros"] = "replicate"
    """sobel, scharr, laplacian: what lies around the picture. zeros is for checkpoints of the released code, which saw
    the picture's own border as its strongest edge"""

    def _check(self) -> None:
        is_right = self.then == "none" or self.is_temporal
        check(is_right, f"then={self.then!r} follows a temporal filter; leave it out after {self.name!r}")
        low, high = self.low_hz or 0.0, self.high_hz
        is_band = low >= 0 and (high is None or low < high)
        check(is_band, f"temporal_bandpass needs 0 <= low_hz < high_hz, got {self.low_hz} and {high}")

    @property
    def is_temporal(self) -> bool:
        """Whether it needs a clip of several frames."""
        return self.name in ("temporal_bandpass", "moft")


@dataclass(frozen=True)
class FormerConfig(CheckedConfig):
    """What turns a stream's features into tokens."""

    num_tokens: Width = 8
    """tokens that the stream gives"""
    depth: Layers = 1
    """blocks"""
    num_heads: Width = 4
    """attention heads of a block"""
    kind: Literal["resampler", "projection", "frame_resampler", "constant"] = "resampler"
    """resampler: learned queries that read the whole clip; projection: every feature becomes a token (num_tokens and
    depth have no effect); frame_resampler: the released code's former, whose queries belong to one frame each;
    constant: what that code computes at its depth 0, tokens that never saw the video, here only so that such a
    checkpoint can be loaded"""
    norm: Literal["position", "clip"] = "position"
    """resampler: how features are scaled before they are read. position: LayerNorm of each position, which hides how
    strong a boundary or a motion is; clip: one factor for all of a clip, so that what is weak stays weak"""
    width: Annotated[int, Between(0, 2**16)] = 0
    """frame_resampler, constant: width inside; 0: as wide as System 1"""
    head_dim: Width = 64
    """frame_resampler: width of a head"""
    num_frames: CountingInt = 1
    """frame_resampler: frames among which features and queries are shared out"""
    is_temporal: bool = False
    """frame_resampler: queries of different frames read each other"""
    adaptor: str = "mlp2x_gelu"
    """all but resampler: the last step, to System 1's width"""

    def _check(self) -> None:
        tokens, frames = self.num_tokens, self.num_frames
        check(tokens % frames == 0, f"num_tokens={tokens} cannot be shared out among num_frames={frames}")
        adaptor_depth(self.adaptor)


@dataclass(frozen=True)
class ImagineConfig(CheckedConfig):
    """What the video model imagines beyond a stream's newest frame, in the same pass (arXiv 2412.14803)."""

    num_frames: Annotated[int, Between(0, 10**4)] = 0
    """future frames, as far apart as those of the clip; 0: the stream does not look ahead"""
    level: Annotated[float, Bound("must lie in (0, 1]", lambda level: 0 < level <= 1)] = 1.0
    """noise level at which they are appended. 1: noise alone; below, mixed with the newest latent, held still"""
    keep: Literal["past", "future", "all"] = "all"
    """the positions whose features are kept"""

    def _check(self) -> None:
        is_used = self.num_frames > 0 or (self.level == 1 and self.keep == "all")
        check(is_used, "level and keep have no effect with num_frames=0; set imagine.num_frames, or leave them out")


NOTHING = ImagineConfig()

MAX_LATENT_SIDE = 2**10


@dataclass(frozen=True)
class StreamConfig(CheckedConfig):
    """One way of looking: which frames, how large, what is kept, how it is compressed."""

    name: str
    """of the stream, in options and maps"""
    camera: str
    """that it looks through"""
    num_frames: Annotated[int, Between(1, 10**4)]
    """frames of a clip, newest last"""
    stride: Annotated[int, Between(1, 10**4)]
    """control steps between two frames"""
    size_px: Pixels
    """height, and width unless `width_px` is given"""
    filter: FilterConfig
    former: FormerConfig
    width_px: Annotated[int, Between(0, 2**13)] = 0
    """width of a frame that is not square; 0: square"""
    frame: FrameConfig = LETTERBOX
    """how a camera's frames get that size"""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """in which the video model is shown the frame; bgr for checkpoints of the released code, whose latents were made
    so"""
    imagine: ImagineConfig = NOTHING
    """the future that the video model imagines beside the clip"""
    encoding: Literal["window", "stream"] = "window"
    """window: each clip is encoded as if nothing had been before it. stream: the causal encoder goes on from the
    beginning of the episode, which costs a fraction, and a clip is the newest latents. They give different latents: a
    policy is trained on one"""
    every: CountingInt = 1
    """control steps between two refreshes of the clip: its newest frame is that of the last multiple. Beside a stream
    with encoding=stream, 1 stands for as many as complete a latent of every stream"""
    latent_frames: tuple[int, ...] = ()
    """which latents of a clip the video model's transformer is shown, by number, 0 the oldest; empty: all. For
    checkpoints of the released code, which may have been trained on some of them"""
    latent_size: tuple[int, ...] = ()
    """height and width to which the latents are resized before the transformer; empty: as they are. For the same
    checkpoints"""
    is_still: bool = False
    """every frame of the clip is the newest one, in training and on the robot: a control, which has all of a clip but
    its motion"""

    @property
    def frame_px(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.size_px, self.width_px or self.size_px

    def __post_init__(self) -> None:
        with located(f"stream {self.name!r}"):
            super().__post_init__()

    def _check(self) -> None:
        several = self.num_frames + self.imagine.num_frames > 1
        check(
            not self.is_still or (self.num_frames > 1 and self.encoding == "window"),
            "is_still repeats the newest frame of a clip; it needs num_frames above 1 and encoding='window'",
        )
        latents, size = list(self.latent_frames), list(self.latent_size)
        temporal = self.filter.name if self.filter.is_temporal else ""
        check(
            self.encoding == "window" or self.num_frames > 1,
            "a single frame has no past to continue; use encoding='window'",
        )
        check(not temporal or several, f"the filter {temporal!r} needs a clip of several frames, got num_frames=1")
        check(
            all(frame >= 0 for frame in latents) and all(a < b for a, b in pairwise(latents)),
            f"latent_frames must be numbers from 0, each once, oldest first, got {latents}",
        )
        check(
            len(size) in (0, 2) and all(0 < side <= MAX_LATENT_SIDE for side in size),
            f"latent_size must be height and width, each at most {MAX_LATENT_SIDE}, or empty, got {size}",
        )
        check(
            not temporal or len(latents) != 1,
            f"the filter {temporal!r} needs several latents, got latent_frames={latents}",
        )


@dataclass(frozen=True)
class System2Config(CheckedConfig):
    """The slow system: two streams through one frozen video diffusion model."""

    backbone: BackboneConfig | PretrainedBackboneConfig
    streams: Annotated[tuple[StreamConfig, ...], Bound("must be at most 64", lambda streams: len(streams) <= 64)]
    filter_on: Literal["features", "latents"] = "features"
    """features: after the transformer blocks, as in the paper; latents: before them, as in the released code"""
    reference: Literal["none", "grey"] = "grey"
    """grey: before a filter on features, those of a plain grey clip are subtracted. They follow position alone, and
    would be boundaries and motion of an empty picture. They are computed once per instruction, and take as long as a
    refresh"""
    tuning: TuningConfig = FROZEN
    """what of the video model is trained together with the policy; the paper's is frozen"""

    def _check(self) -> None:
        object.__setattr__(self, "streams", self._with_rhythm())
        check(
            self.tuning.method != "lora" or isinstance(self.backbone, PretrainedBackboneConfig),
            "tuning.method=lora is for published video models; tune the tiny one whole (full)",
        )
        check(len(self.streams) > 0, "System 2 needs at least one stream; for a policy without it, set system2 to null")
        names = [stream.name for stream in self.streams]
        check(len(set(names)) == len(names), f"stream names must differ, got {names}")
        for stream in self.streams:
            with located(f"stream {stream.name!r}"):
                self._check_stream(stream)

    def latent_frames(self, stream: StreamConfig) -> int:
        """Latent frames of a stream's clip that the transformer gets, without imagined ones."""
        return len(stream.latent_frames) or 1 + (stream.num_frames - 1) // self.backbone.frames_per_latent

    def latent_rate(self, stream: StreamConfig, fps: float) -> float:
        """Their frames per second, at a control rate."""
        return chosen_rate(fps / stream.stride / self.backbone.frames_per_latent, stream.latent_frames)

    def feature_frames(self, stream: StreamConfig) -> int:
        """Frames of the features that a stream keeps."""
        past = 1 + (self.latent_frames(stream) - 1) // self.latents_per_feature
        future = stream.imagine.num_frames // self.backbone.frames_per_feature
        return {"past": past, "future": future, "all": past + future}[stream.imagine.keep]

    def feature_rate(self, stream: StreamConfig, fps: float) -> float:
        """Their frames per second, at a control rate."""
        return self.latent_rate(stream, fps) / self.latents_per_feature

    def feature_size(self, stream: StreamConfig) -> tuple[int, int]:
        """Height and width of the features' grid."""
        height, width = stream.latent_size or stream.frame_px
        patch = self.latent_patch if stream.latent_size else self.backbone.patch_px
        return height // patch, width // patch

    @property
    def latent_patch(self) -> int:
        """Latent positions a side that the transformer merges into one of its features."""
        return getattr(getattr(self.backbone, "grid", None), "patch", 1)

    @property
    def latents_per_feature(self) -> int:
        """Latent frames that the transformer merges into one frame of features."""
        return self.backbone.frames_per_feature // self.backbone.frames_per_latent

    def check_bands(self, fps: float) -> None:
        """Raise ValueError for a filter whose band holds no frequency of its stream, at this control rate."""
        on_features = self.filter_on == "features"
        for stream in self.streams:
            if stream.filter.name != "temporal_bandpass":
                continue
            num_frames = self.feature_frames(stream) if on_features else self.latent_frames(stream)
            rate = self.feature_rate(stream, fps) if on_features else self.latent_rate(stream, fps)
            with located(f"stream {stream.name!r}"):
                kept_frequencies(num_frames, rate, low_hz=stream.filter.low_hz, high_hz=stream.filter.high_hz)

    def _check_stream(self, stream: StreamConfig) -> None:
        """Whether the video model's grid divides it."""
        patch, group, per_latent = (
            self.backbone.patch_px,
            self.backbone.frames_per_feature,
            self.backbone.frames_per_latent,
        )
        for name, side in zip(("size_px", "width_px"), stream.frame_px, strict=True):
            check(side % patch == 0, f"{name}={side} is not a multiple of the backbone's patch of {patch} px")
        check(
            (stream.num_frames - 1) % group == 0,
            f"num_frames must be 1 + a multiple of {group} (the video model merges {group} frames after the first), "
            f"got {stream.num_frames}",
        )
        num_latents, last = 1 + (stream.num_frames - 1) // per_latent, max(stream.latent_frames, default=0)
        check(
            last < num_latents,
            f"latent_frames asks for latent {last}, but {stream.num_frames} frames make {num_latents} latents, "
            "numbered from 0",
        )
        check(
            all(side % self.latent_patch == 0 for side in stream.latent_size),
            f"latent_size={list(stream.latent_size)} must be multiples of {self.latent_patch}, the transformer's patch",
        )
        self._check_imagination(stream)
        check(
            not (stream.filter.is_temporal and self.filter_on == "features") or self.feature_frames(stream) > 1,
            f"the filter {stream.filter.name!r} needs features of several frames, but with imagine.num_frames="
            f"{stream.imagine.num_frames} and imagine.keep={stream.imagine.keep!r} there is one; imagine more, or keep "
            "all",
        )
        merged, chosen = group // per_latent, len(stream.latent_frames)
        check(
            not chosen or (chosen - 1) % merged == 0,
            f"latent_frames must be 1 + a multiple of {merged} (the transformer merges them), got {chosen}",
        )
        step = stream.stride * per_latent
        is_window = stream.encoding == "window"
        check(
            is_window or self.backbone.name in STREAMING,
            f"encoding='stream' needs a strictly causal video VAE ({', '.join(STREAMING)}; this is "
            f"{self.backbone.name})",
        )
        check(
            is_window or stream.every % step == 0,
            f"encoding='stream': every must be a multiple of {step} control steps (stride x frames of a latent), got "
            f"{stream.every}",
        )

    def _check_imagination(self, stream: StreamConfig) -> None:
        """Whether the video model can look ahead, and what is asked fits its grid."""
        ahead, name, group = stream.imagine.num_frames, self.backbone.name, self.backbone.frames_per_feature
        if not ahead:
            return
        form = IMAGE_TO_VIDEO.get(name)
        instead = f"; diffusers has an image-to-video form of it ({form})" if form else ""
        check(
            name in LOOKING_AHEAD,
            f"imagine needs a video model that takes a clean past beside a noisy future ({', '.join(LOOKING_AHEAD)}); "
            f"{name} knows one noise level per clip{instead}; leave imagine out, or choose one of these",
        )
        check(
            ahead % group == 0,
            f"imagine.num_frames must be a multiple of {group} (the video model merges {group} frames), got {ahead}",
        )
        for field in ("latent_frames", "latent_size"):
            check(not getattr(stream, field), f"imagine continues the clip's newest latent as it is; leave {field} out")
        check(
            self.filter_on == "features" or stream.filter.name == "none",
            "imagine appends noise to the latents, which a filter on latents has changed; use filter_on='features'",
        )

    def _with_rhythm(self) -> tuple[StreamConfig, ...]:
        """The streams; `every` follows from the latents' length where one is encoded as a stream and none is given."""
        rhythm = lcm(*(s.stride * self.backbone.frames_per_latent for s in self.streams if s.encoding == "stream"))
        return tuple(replace(s, every=rhythm) if s.every == 1 else s for s in self.streams)


STREAMING = ("tiny", "wan_small", "wan21", "wan22", "cosmos")
"""video models whose encoder can continue where it stopped"""

LOOKING_AHEAD = ("tiny", "wan_small", "wan21", "wan22", "ltx", "cosmos")
"""video models whose latent frames may each have their own noise level"""

IMAGE_TO_VIDEO = {
    "hunyuan": "HunyuanVideoImageToVideoPipeline",
    "cogvideox": "CogVideoXImageToVideoPipeline",
    "cogvideox15": "CogVideoXImageToVideoPipeline",
}
"""of the others: what continues a clean first frame, not yet a backbone here"""
