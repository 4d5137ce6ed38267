"""Which clips a video model learns: those of the streams that will read it, as their config defines them.

Sizes are (height, width), as in `frames.py`.

A model that has seen frames 12 ms apart does not know what moves in frames 50 ms apart, so a policy refuses a video
model of ours that learned another rate.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isclose, prod
from pathlib import Path
from typing import Any

from video2act.config import ImagineConfig, PolicyConfig, StreamConfig, System2Config, TrainConfig, VideoTrainConfig
from video2act.files.run_folder import TRAINING_FILE
from video2act.frames import Size
from video2act.training.resuming import read_settings

RATES = "clip_hz"
"""in `training.json` of a video model: frames per second of its clips, of each dataset"""
SIZES = "clip_px"
"""there, too: height and width of its clips, if not all are square"""


def moving(streams: Sequence[StreamConfig]) -> list[StreamConfig]:
    """The streams of which something can be predicted: those that show or imagine more than one frame."""
    return [stream for stream in streams if stream.num_frames > 1 or stream.imagine.num_frames]


def clip_length(stream: StreamConfig, frames_per_feature: int) -> int:
    """Frames of a clip for a stream: those that it shows and imagines; where it imagines nothing, one latent more, to
    be predicted."""
    return stream.num_frames + (stream.imagine.num_frames or frames_per_feature)


def clip_of(config: System2Config) -> StreamConfig:
    """The stream whose clips a policy's video model learns from, with their length: the first of those with the longest
    clips. One stream at least moves."""
    lengths = [clip_length(stream, config.backbone.frames_per_feature) for stream in moving(config.streams)]
    longest = moving(config.streams)[lengths.index(max(lengths))]
    return replace(longest, num_frames=max(lengths), imagine=ImagineConfig())


def clip_bytes(config: PolicyConfig, training: TrainConfig) -> int:
    """Bytes of the decoded frames of a batch for the video loss."""
    if not training.video_loss_weight or config.system2 is None:
        return 0
    stream = clip_of(config.system2)
    return 3 * training.video_batch_size * stream.num_frames * prod(stream.frame_px)


def clips_of_streams(
    config: VideoTrainConfig, streams: Sequence[StreamConfig], *, frames_per_feature: int
) -> VideoTrainConfig:
    """The training with the stride, the length and the sizes of the streams' clips filled in.

    A clip is as long as the longest that `clip_length` finds. Its size is that of any stream: a model learns the frames
    that it will be shown.

    Raises:
        ValueError: streams of several strides, or another stride than theirs.
    """
    shown = moving(streams)
    strides = {stream.stride: stream.name for stream in shown} or {config.stride or 1: ""}
    if len(strides) > 1:
        listed = ", ".join(f"{name} {stride}" for stride, name in strides.items())
        raise ValueError(
            f"a video model is trained at one stride, but the policy's streams have several ({listed}); give them one "
            "(--policy.system2.streams.NAME.stride)"
        )
    stride, name = next(iter(strides.items()))
    if config.stride not in (0, stride):
        raise ValueError(
            f"stride={config.stride} is not that of stream {name!r}, which has {stride}; leave it out, or change "
            f"--policy.system2.streams.{name}.stride in both trainings"
        )
    lengths = [clip_length(stream, frames_per_feature) for stream in shown]
    longest = max(lengths, default=1 + 4 * frames_per_feature)
    heights = tuple(dict.fromkeys(stream.size_px for stream in (*shown, *streams)))
    sizes_px = config.sizes_px or heights
    return replace(config, stride=stride, num_frames=config.num_frames or longest, sizes_px=sizes_px)


def clip_sizes(config: VideoTrainConfig, streams: Sequence[StreamConfig]) -> list[Size]:
    """The sizes of training clips: those of the streams of these heights; a height that no stream has is a square's."""
    sizes: dict[Size, None] = {}
    for height in config.sizes_px:
        sizes |= dict.fromkeys([one.frame_px for one in streams if one.size_px == height] or [(height, height)])
    return list(sizes)


def wide_sizes(sizes: Sequence[Size]) -> dict[str, Any]:
    """What `training.json` says of sizes beside their heights: nothing, if all are square."""
    return {SIZES: [list(size) for size in sizes]} if any(height != width for height, width in sizes) else {}


def clip_notes(config: PolicyConfig, settings: dict[str, Any]) -> list[str]:
    """One line for each stream that shows a video model of ours larger, smaller or longer clips than it learned.

    Args:
        settings: the video model's `training.json`.
    """
    streams = config.system2.streams if config.system2 else ()
    heights, longest = settings.get("sizes_px"), settings.get("num_frames")
    learned = settings.get(SIZES, [[side, side] for side in heights or ()])
    notes = []
    for stream in streams:
        unlearned, shown = [], stream.num_frames + stream.imagine.num_frames
        if learned and list(stream.frame_px) not in learned:
            unlearned.append(f"{_text(stream.frame_px)}, learned: {', '.join(map(_text, learned))}")
        if longest and shown > longest:
            unlearned.append(f"{shown} frames, learned: {longest}")
        if unlearned:
            notes.append(
                f"stream {stream.name!r} shows the video model clips that it did not learn from: "
                f"{'; '.join(unlearned)}; train one for this policy without --sizes-px and --num-frames"
            )
    return notes


def _text(size: Sequence[int]) -> str:
    height, width = size
    return f"{width}x{height} px"


def check_rate(config: PolicyConfig, video_model: Path | None) -> None:
    """Raises ValueError: a stream's frames lie further apart, or closer, than those that the video model learned."""
    path = video_model / TRAINING_FILE if video_model else None
    if path is None or config.system2 is None or not path.is_file():
        return
    rates = read_settings(path).get(RATES)
    if not isinstance(rates, list) or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        return  # the video model is older than this record
    for stream in config.system2.streams:
        rate = config.fps / stream.stride
        if stream.num_frames > 1 and not any(isclose(rate, learned, rel_tol=1e-3) for learned in rates):
            learned = ", ".join(f"{one:g}" for one in rates)
            raise ValueError(
                f"stream {stream.name!r} shows {rate:g} frames a second ({config.fps:g} Hz, stride {stream.stride}), "
                f"but {video_model} learned clips of {learned} a second; train a video model on these data at this "
                f"stride (train-video --data, --policy.system2.streams.{stream.name}.stride {stream.stride})"
                f"{_other_strides(stream.name, config.fps, rates)}"
            )


def _other_strides(stream: str, fps: float, rates: Sequence[float]) -> str:
    """The other remedy: a stride at which the stream shows what was learned, where there is one."""
    for rate in rates:
        stride = round(fps / rate)
        if stride and isclose(fps / stride, rate, rel_tol=1e-3):
            return f", or give the stream that of the video model: --policy.system2.streams.{stream}.stride {stride}"
    return ""
