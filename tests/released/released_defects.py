"""What the released code does and a conversion refuses, put in from outside, so that the rest of such a policy can be
compared.

Each time it is checked that the conversion does refuse it.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from released_checkpoint import as_model, as_video
from torch import Tensor

from golden import Report
from video2act.system2.filters import make_filter, sobel
from video2act.types import Video
from video2act_released.config import denoising_config
from video2act_released.settings import Model, Schedule
from video2act_released.streams import filter_config, selected, stream_settings

TEMPORAL = ("fft", "fft+sobel", "sobel+fft")


def filter_of(
    word: str | None, video: Mapping[str, Any], fps: float, frames: tuple[int, ...], report: Report
) -> Callable[[Video], Video]:
    """The conversion's filter of an `extraction`; where it refuses, what the released code does instead."""
    try:
        return make_filter(filter_config(word, as_video(dict(video)), latent_fps=fps, frames=frames))
    except ValueError as error:
        report.equal(f"extraction {word!r}, refused", str(error).startswith(f"extraction {word!r}"), True)
    if word == "moft":
        share = video.get("motion_extraction", {}).get("prop_motion", 0.04)
        return lambda clip: replace(clip, grid=channels_of_the_batch(clip.grid, share))
    if word == "fft":
        return _nothing
    if word in TEMPORAL:
        return lambda video: sobel(_nothing(video), "zeros")
    # a word that is not known there is passed over
    return lambda video: video


def channels_of_the_batch(latents: Tensor, share: float) -> Tensor:
    """Its `moft`: the channels that vary most in the whole batch, mean kept."""
    variance = latents.var(dim=2).mean(dim=(0, 2, 3))
    kept = torch.zeros_like(variance)
    kept[variance.topk(max(1, int(len(variance) * share))).indices] = 1.0
    return latents * kept[:, None, None, None]


def _nothing(video: Video) -> Video:
    """Of a band without a frequency."""
    return replace(video, grid=torch.zeros_like(video.grid))


def known_schedule(model: Model, report: Report) -> Model:
    """The yaml's model section; with the usual `noise_scheduler` in place of one that we do not have.

    What needs none can be compared all the same.
    """
    try:
        denoising_config(model.noise_scheduler)
    except ValueError as error:
        report.equal("noise_scheduler, refused", str(error).startswith("noise_scheduler: "), True)
        return replace(model, noise_scheduler=Schedule())
    return model


def known_selection(settings: Mapping[str, Any], report: Report) -> Model:
    """The yaml's model section; a `latent_frame_select` that is not known there means the newest."""
    known = deepcopy(dict(settings))
    motion = (known.get("dual_stream_framepack") or {}).get("motion_stream") or {}
    word = motion.get("latent_frame_select", "last")
    if word not in ("last", "first", "center", "uniform"):
        if known.get("use_dual_stream_framepack"):
            with pytest.raises(ValueError, match="latent_frame_select"):
                selected(1 + int(motion["latent_num_frames"]), stream_settings("motion", as_model(known)))
            report.equal(f"latent_frame_select {word!r}, refused", True, True)
        motion["latent_frame_select"] = "last"
    return as_model(known)
