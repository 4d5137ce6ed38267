"""Which clips a video model learns: those of the streams that will read it, as their config defines them.

A model that has seen frames 12 ms apart does not know what moves in frames 50 ms apart, so a policy refuses a video
model of ours that learned another rate.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from video2act.config import PolicyConfig, StreamConfig, VideoTrainConfig
from video2act.files.run_folder import TRAINING_FILE
from video2act.training.resuming import read_settings

RATES = "clip_hz"
"""in `training.json` of a video model: frames per second of its clips, of each dataset"""


def clips_of_streams(
    config: VideoTrainConfig, streams: Sequence[StreamConfig], *, frames_per_feature: int
) -> VideoTrainConfig:
    """The training with the stride and the length of the streams' clips filled in.

    A clip holds what the longest stream shows and imagines; where none imagines, one latent more, to be predicted.

    Raises:
        ValueError: streams of several strides, or another stride than theirs.
    """
    moving = [stream for stream in streams if stream.num_frames > 1 or stream.imagine.num_frames]
    strides = {stream.stride: stream.name for stream in moving} or {config.stride or 1: ""}
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
    longest = max(
        (stream.num_frames + (stream.imagine.num_frames or frames_per_feature) for stream in moving),
        default=1 + 4 * frames_per_feature,
    )
    return replace(config, stride=stride, num_frames=config.num_frames or longest)


def check_rate(config: PolicyConfig, video_model: Path | None) -> None:
    """Raises ValueError: a stream's frames lie further apart, or closer, than those that the video model learned."""
    path = video_model / TRAINING_FILE if video_model else None
    if path is None or config.system2 is None or not path.is_file():
        return
    rates = read_settings(path).get(RATES)
    if not isinstance(rates, list) or not all(isinstance(rate, int | float) for rate in rates):
        return  # the video model is older than this record
    for stream in config.system2.streams:
        rate = config.fps / stream.stride
        if stream.num_frames > 1 and not any(isclose(rate, learned, rel_tol=1e-3) for learned in rates):
            learned = ", ".join(f"{one:g}" for one in rates)
            raise ValueError(
                f"stream {stream.name!r} shows {rate:g} frames a second ({config.fps:g} Hz, stride {stream.stride}), "
                f"but {video_model} learned clips of {learned} a second; train it with "
                f"--policy.system2.streams.{stream.name}.stride {stream.stride}, or give the stream its stride"
            )
