"""What a video model has learned, on episodes that it never saw: its loss, and how well it continues a video.

PSNR stands beside that of repeating the last frame, which is hard to beat one step ahead, and that of the codec, which
bounds any prediction. A model that knows one noise level per clip cannot be given a past: its report has the loss and
imagined clips only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from video2act.data.clip_sampler import ClipSampler
from video2act.system2.video_training import continue_video, diffusion_loss, given_frames
from video2act.types import Video
from video2act.video_backbone import VideoBackbone
from video2act.viz.video_writer import write_video

NUM_CLIPS, BATCH = 48, 8


@dataclass(frozen=True)
class Prediction:
    """How well one latent frame of the future is predicted, in dB of its decoded frames."""

    num_clean: int
    """latent frames that were given"""
    horizon: int
    """latent frames ahead of the last of them"""
    model: float
    copy_last: float
    """repeating the last given frame"""
    codec: float
    """the truth, encoded and decoded: no prediction can be better"""


@dataclass(frozen=True)
class VideoReport:
    """What the video model learned, on episodes it was not trained on. PSNR in dB of the frames of the predicted
    latents."""

    loss: float
    num_clips: int
    codec: float
    """PSNR of clips, encoded and decoded"""
    predictions: list["Prediction"]
    """empty for a model that cannot be given a past"""


@torch.no_grad()
def validate(backbone: VideoBackbone, sampler: ClipSampler, *, out: Path, device: torch.device) -> VideoReport:
    """Loss and PSNR on clips spread evenly over unseen episodes; writes `prediction.mp4`."""
    generator = torch.Generator().manual_seed(0)
    losses: list[tuple[float, int]] = []
    errors: dict[tuple[int, int], list[tuple[Tensor, Tensor, Tensor]]] = {}
    codec_errors: list[Tensor] = []
    for places in sampler.spread(NUM_CLIPS):
        for first in range(0, len(places), BATCH):
            pixels, instruction = sampler.clips(places[first : first + BATCH], sampler.sizes[0])
            pixels = pixels.to(device)
            latents = backbone.encode(pixels)
            given: dict[str, Any] = {"instruction": instruction, "generator": generator}
            losses.append((float(diffusion_loss(backbone, latents, **given)), len(instruction)))
            codec = backbone.decode(latents)
            codec_errors.append(_error(codec.grid, pixels.grid))
            for key, triple in _continued(backbone, pixels, latents=latents, codec=codec, **given).items():
                errors.setdefault(key, []).append(triple)
    predictions = [Prediction(*key, *map(_decibels, zip(*triples, strict=True))) for key, triples in errors.items()]
    num_clips = sum(count for _, count in losses)
    chosen = sampler.spread(4)[0][:4]
    pixels, instruction = sampler.clips(chosen, sampler.sizes[0])
    film(backbone, pixels.to(device), instruction=instruction, path=out / "prediction.mp4")
    mean_loss = sum(loss * count for loss, count in losses) / num_clips
    return VideoReport(mean_loss, num_clips, _decibels(codec_errors), predictions)


def _continued(
    backbone: VideoBackbone,
    pixels: Video,
    *,
    latents: Video,
    codec: Video,
    instruction: list[str],
    generator: torch.Generator,
) -> dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]]:
    """Of each number of given latent frames and each horizon: errors per clip of model, copying and codec."""
    t = latents.grid.shape[2]
    fewest, most = given_frames(backbone.objective, t)
    per_latent = (pixels.grid.shape[2] - 1) // (t - 1)
    errors = {}
    for num_clean in range(max(1, fewest), most + 1):
        past = Video(latents.grid[:, :, :num_clean], latents.fps)
        # one step: the mean of all futures, which is what a mean square error rewards
        imagined = continue_video(
            backbone, past, num_frames=t - num_clean, instruction=instruction, num_steps=1, generator=generator
        )
        model = backbone.decode(imagined).grid
        last = pixels.grid[:, :, per_latent * (num_clean - 1)][:, :, None].expand_as(pixels.grid)
        for horizon in range(1, t - num_clean + 1):
            first = per_latent * (num_clean + horizon - 2) + 1
            frames = slice(first, first + per_latent)
            truth = pixels.grid[:, :, frames]
            triple = (_error(video[:, :, frames], truth) for video in (model, last, codec.grid))
            errors[num_clean, horizon] = tuple(triple)
    return errors


def _error(a: Tensor, b: Tensor) -> Tensor:
    """Mean square error of each clip of pixels in [-1, 1]."""
    return (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean(dim=(1, 2, 3, 4)).cpu()


def _decibels(errors: Sequence[Tensor]) -> float:
    """Peak signal-to-noise ratio of pixels in [-1, 1] from the mean error over all clips."""
    return 10 * log10(4 / max(float(torch.cat(list(errors)).mean()), 1e-10))


def film(backbone: VideoBackbone, truth: Video, *, instruction: list[str], path: Path) -> None:
    """Truth above, below it what is imagined in 8 steps: the future of up to two latent frames, or all of it."""
    latents = backbone.encode(truth)
    t = latents.grid.shape[2]
    num_clean = min(2, given_frames(backbone.objective, t)[1])
    past = Video(latents.grid[:, :, :num_clean], latents.fps)
    generator = torch.Generator().manual_seed(0)
    imagined = continue_video(
        backbone, past, num_frames=t - num_clean, instruction=instruction, num_steps=8, generator=generator
    )
    rows = torch.cat([truth.grid, backbone.decode(imagined).grid], dim=3)  # one above the other
    side_by_side = torch.cat(list(rows), dim=3)  # c t h w
    frames = ((side_by_side.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
    enlarged = frames.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    write_video(path, enlarged.contiguous().cpu().numpy(), fps=8.0)


def print_report(report: VideoReport) -> None:
    title = f"{report.num_clips} unseen clips, validation loss {report.loss:.4f}; PSNR in dB (codec {report.codec:.1f})"
    table = Table(title=title)
    for heading in ("clean latent frames", "horizon", "model", "copy last frame", "codec bound"):
        table.add_column(heading, justify="right")
    for row in report.predictions:
        decibels = (f"{value:.1f}" for value in (row.model, row.copy_last, row.codec))
        table.add_row(str(row.num_clean), str(row.horizon), *decibels)
    Console().print(table)
