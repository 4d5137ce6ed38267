"""The streams of the released code as its yaml describes them: which latents, how large, and what their filters keep.

The released policy begins with latents that were encoded before. So the yaml, not a clip, gives their number and size:
a stream may read some latents of the motion stream only, take the spatial stream's from among them, and resize those of
a single stream.
"""

from dataclasses import dataclass

import torch

from video2act.config import FilterConfig
from video2act.config.system2 import chosen_rate
from video2act_released.settings import Band, Model, Stream, Streams, VideoSettings

LATENT_PX = 16
"""pixels a side of one of its latents"""
SPATIAL = {"sobel": "sobel", "scharr": "scharr", "laplace": "laplacian"}
STREAMS = {"spatial": ("video", "raw_stream"), "motion": ("motion", "motion_stream")}
"""our name of a stream -> its name in their tensors, and in their yaml"""
MOTION_PX = (224, 224)
SPATIAL_PX = (480, 832)


@dataclass(frozen=True)
class Latents:
    """The latents that a stream shows the transformer."""

    source: str
    """our name of the stream whose clip they come from"""
    frames: tuple[int, ...]
    """their indices in that clip, 0 the oldest"""
    size: tuple[int, int] | tuple[()]
    """height and width to resize them to; empty: no resizing"""


def stream_names(model: Model) -> tuple[str, ...]:
    return ("spatial", "motion") if model.use_dual_stream_framepack else ("spatial",)


def stream_settings(stream: str, model: Model) -> Stream:
    """The yaml's section of a stream; empty for a single stream."""
    sections = (model.use_dual_stream_framepack and model.dual_stream_framepack) or Streams()
    return getattr(sections, STREAMS[stream][1]) or Stream()


def video_size(stream: str, model: Model, *, video: VideoSettings) -> tuple[int, int]:
    """Height and width in pixels of the frames that a stream reads."""
    return stream_settings(stream, model).video_size or (MOTION_PX if stream == "motion" else video.video_size)


def source_of(stream: str, model: Model) -> str:
    """Our name of the stream whose clip a stream reads."""
    word = stream_settings(stream, model).latent_source if stream == "spatial" else "raw"
    if word not in ("raw", "motion_current"):
        raise ValueError(f"raw_stream.latent_source {word!r} is not one of raw, motion_current")
    return "motion" if word == "motion_current" else stream


def latents_of(stream: str, model: Model, *, video: VideoSettings, num_latents: int) -> Latents:
    """The latents of one of our streams.

    Args:
        num_latents: of the clip that `source_of` names.
    Raises:
        ValueError: the yaml asks for more latents than there are, or chooses them by an unknown word.
    """
    source = source_of(stream, model)
    if not model.use_dual_stream_framepack:
        height, width = video_size(stream, model, video=video)
        return Latents(source, tuple(range(num_latents)), (max(1, height // LATENT_PX), max(1, width // LATENT_PX)))
    if source == "spatial":
        return Latents(source, tuple(range(num_latents)), ())
    frames = selected(num_latents, stream_settings("motion", model))
    if stream == "spatial":
        count = stream_settings(stream, model).num_frames or 1
        sizes = [tuple(side // LATENT_PX for side in video_size(name, model, video=video)) for name in STREAMS]
        if count > len(frames) or sizes[0] != sizes[1]:
            raise ValueError(
                f"raw_stream.latent_source motion_current takes the newest num_frames={count} latents of {sizes[0]} "
                f"from among the motion stream's {len(frames)} of {sizes[1]}: raw_stream's num_frames and video_size "
                "do not fit them"
            )
        frames = frames[-count:]
    return Latents(source, frames, ())


def selected(num_latents: int, settings: Stream) -> tuple[int, ...]:
    """`motion_stream.latent_frame_select` of `latent_num_frames` latents. Raises ValueError as `latents_of`."""
    count, word = settings.latent_num_frames or num_latents, settings.latent_frame_select
    if count > num_latents:
        raise ValueError(f"motion_stream.latent_num_frames={count}, but its clips have {num_latents} latents")
    if count == num_latents:
        return tuple(range(num_latents))
    if word == "uniform":
        # torch rounds, as there: a half to the even number
        return tuple(torch.linspace(0, num_latents - 1, count).round().long().tolist())
    begin = {"first": 0, "center": (num_latents - count) // 2, "last": num_latents - count}
    if word not in begin:
        raise ValueError(f"motion_stream.latent_frame_select {word!r} is not one of last, first, center, uniform")
    return tuple(range(begin[word], begin[word] + count))


def extraction_of(stream: str, model: Model) -> str | None:
    """The yaml's filter of a stream. The released code applies none to a single stream."""
    return stream_settings(stream, model).extraction


def filter_config(
    word: str | None, video: VideoSettings, *, latent_fps: float, frames: tuple[int, ...]
) -> FilterConfig:
    """A released `extraction` -> our filter.

    Args:
        video: its `motion_extraction` is the band.
        latent_fps: the true rate of the clip's latents. A band is a set of frequency bins, which stays the same: 1 Hz
            of theirs, at 16 latents a second, is `latent_fps / 16` Hz if the stream shows all latents.
        frames: indices of the latents that the stream shows.
    Raises:
        ValueError: the filter cannot be converted; the message gives the reason.
    """
    if word in (None, "", "none", "None"):
        return FilterConfig()
    if word in SPATIAL:
        return FilterConfig(SPATIAL[word], border="zeros")  # type: ignore[arg-type]
    if word == "moft":
        raise ValueError(
            "extraction 'moft': the released code chooses channels for a whole batch at once; ours for each sample"
        )
    if word not in ("fft", "fft+sobel", "sobel+fft"):
        raise ValueError(f"extraction {word!r} is not one of none, {', '.join(SPATIAL)}, fft, fft+sobel")
    band = _band(word, video, num_latents=len(frames))
    # the temporal filter comes first, whatever the order in the name
    is_both = word != "fft"
    if len(frames) == 1:
        # the one bin of a single latent is kept
        return FilterConfig("sobel", border="zeros") if is_both else FilterConfig()
    unit = chosen_rate(latent_fps, frames) / video.fps
    low_hz, high_hz = (unit * edge for edge in band)
    if is_both:
        return FilterConfig("temporal_bandpass", low_hz, high_hz, then="sobel", border="zeros")
    return FilterConfig("temporal_bandpass", low_hz, high_hz)


def _band(word: str, video: VideoSettings, *, num_latents: int) -> tuple[float, float]:
    """Both ends of the released band, in its Hz, such that our filter keeps the same bins."""
    settings, fps = video.motion_extraction or Band(), video.fps
    # there, every other word is a lowpass
    low, high = max(0.0, settings.freq_low) if settings.filter_type == "bandpass" else 0.0, settings.freq_high
    bins = torch.fft.rfftfreq(num_latents, d=1.0 / fps)
    kept = ((bins >= low) & (bins <= high)).nonzero().flatten().tolist()
    if not kept:
        listed = ", ".join(f"{frequency:.3g}" for frequency in bins.tolist())
        raise ValueError(
            f"extraction {word!r}: motion_extraction's {low:g} to {high:g} Hz holds no frequency of {num_latents} "
            f"latents ({listed} Hz); the released code fills such a stream with zeros"
        )
    tolerance = 1e-6 * fps
    ours = ((bins >= low - tolerance) & (bins <= high + tolerance)).nonzero().flatten().tolist()
    if ours == kept and low < high:
        return low, high
    # a band of one frequency, or an end that theirs misses by rounding
    step = fps / num_latents
    return max(0.0, (kept[0] - 0.5) * step), (kept[-1] + 0.5) * step
