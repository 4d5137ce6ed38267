"""`video2act train-video`: teach the video model to continue the robot's videos. Actions are not needed.

What comes out is a folder that `video2act train` takes as `--video-model`:
    backbone.json, model.safetensors   the model
    video_report.json                  on episodes never trained on: loss, and PSNR of predicted frames beside that of copying the
                                       last frame and of the codec, which bounds what any prediction can reach
    prediction.mp4                     a true future beside the imagined one
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from video2act.atomic import write_text
from video2act.config import BackboneConfig, FilterConfig, FormerConfig, StreamConfig, VideoTrainConfig
from video2act.data import Dataset, FrameStore, open_datasets
from video2act.data.loader import episode_clips
from video2act.interfaces import VideoBackbone
from video2act.system2.backbones import TinyBackbone, load_video_model, make_backbone, save_video_model
from video2act.system2.video_training import continue_video, flow_matching_loss, psnr
from video2act.training_loop import TrainingLoop
from video2act.types import Video
from video2act.viz.video_writer import write_video

REPORT_FILE = "video_report.json"


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
    """What the video model learned, on episodes it was not trained on. PSNR in dB of the frames of the predicted latents."""

    loss: float
    num_clips: int
    predictions: list["Prediction"]


class VideoObjective(nn.Module):
    """The backbone under its own loss."""

    def __init__(self, backbone: VideoBackbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Video, instruction: list[str], generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            latents = self.backbone.encode(pixels)
        return flow_matching_loss(self.backbone, latents, instruction, generator)


class ClipSampler:
    """Clips of one camera, with their instruction, from a chosen set of episodes."""

    def __init__(self, dataset: Dataset, store: FrameStore, episodes: list[int], camera: str, config: VideoTrainConfig):
        self.dataset = dataset
        self.store = store
        self.stream = StreamConfig(
            "video", camera, config.num_frames, config.stride, config.sizes_px[0], FilterConfig(), FormerConfig()
        )
        self.sizes_px = config.sizes_px
        self.places = [(episode, frame) for episode in episodes for frame in range(dataset.lengths[episode])]

    def clips(self, places: list[tuple[int, int]], size_px: int) -> tuple[Video, list[str]]:
        pixels = episode_clips(self.store, replace(self.stream, size_px=size_px), places, self.dataset.fps)
        return pixels, [self.dataset.episode(episode).instruction[frame] for episode, frame in places]

    def random(self, count: int, seed: tuple[int, ...]) -> tuple[Video, list[str]]:
        """`count` clips of one random size that end at random frames."""
        rng = np.random.default_rng(seed)
        size_px = self.sizes_px[rng.integers(len(self.sizes_px))]
        return self.clips([self.places[i] for i in rng.integers(len(self.places), size=count)], size_px)


def train_video(
    data: tuple[Path, ...],
    out: Path,
    config: VideoTrainConfig,
    backbone: BackboneConfig,
    camera: str | None = None,
    resume: bool = False,
) -> VideoReport:
    """Train a video model on every dataset's frames and report on held-out episodes.

    Args:
        data: LeRobotDataset folders, with or without actions.
        out: folder to write; must not hold another training unless `resume`.
        config: with `num_steps=0` the model keeps its random weights behind a fitted codec: a control.
        camera: the camera to learn; the first of the dataset, if None.
    Raises:
        ValueError: fewer than two episodes, or an unknown camera.
    """
    dataset = open_datasets(data, ignore_actions=True)
    camera = camera or dataset.cameras[0]
    if camera not in dataset.cameras:
        raise ValueError(f"the dataset has no camera {camera!r}; its cameras are {', '.join(dataset.cameras)}")
    training, held_out = split_episodes(len(dataset), config.validation_fraction)
    store = FrameStore(dataset)
    sampler = ClipSampler(dataset, store, training, camera, config)

    torch.manual_seed(config.seed)
    model = make_backbone(backbone)
    assert isinstance(model, TinyBackbone)
    fit_generator = np.random.default_rng([config.seed, 0])
    model.codec.fit([sampler.random(8, (config.seed, int(i)))[0] for i in fit_generator.integers(2**31, size=16)])

    identity = {"backbone": asdict(backbone), "data": dataset.fingerprint, "camera": camera}
    loop = TrainingLoop(VideoObjective(model), config, out, resume, identity)
    rank, device = loop.accelerator.process_index, loop.accelerator.device

    def inputs(step: int) -> tuple[Video, list[str], torch.Generator]:
        pixels, instruction = sampler.random(config.batch_size, (config.seed, 1, step, rank))
        return pixels.to(device), instruction, loop.generator(step)

    loop.run(inputs, "video model")
    weights = {name.removeprefix("backbone."): tensor for name, tensor in loop.averaged_weights().items()}
    report = VideoReport(0.0, 0, [])
    if loop.is_main:
        save_video_model(out, backbone, weights)
        learned = load_video_model(out)[1]
        report = validate(learned, ClipSampler(dataset, store, held_out, camera, config), out)
        write_text(out / REPORT_FILE, json.dumps(asdict(report), indent=2) + "\n")
        print_report(report)
        print(f"video model: {out}   report: {out / REPORT_FILE}   clip: {out / 'prediction.mp4'}")
    loop.finish()
    return report


def split_episodes(count: int, fraction: float) -> tuple[list[int], list[int]]:
    """The first episodes to train on, the last ones to report on."""
    if count < 2:
        raise ValueError(f"train-video needs at least 2 episodes, one of them to report on; the dataset has {count}")
    num_held_out = min(count - 1, max(1, round(fraction * count)))
    return list(range(count - num_held_out)), list(range(count - num_held_out, count))


@torch.no_grad()
def validate(backbone: VideoBackbone, sampler: ClipSampler, out: Path) -> VideoReport:
    """Loss and PSNR on clips spread evenly over unseen episodes; writes `prediction.mp4`."""
    span = sampler.stream.stride * (sampler.stream.num_frames - 1)
    # whole clips only: the repeated first frame before an episode is too easy to predict
    whole = [(episode, frame) for episode, frame in sampler.places if frame >= span] or sampler.places
    places = whole[:: max(1, len(whole) // 48)]
    pixels, instruction = sampler.clips(places, sampler.sizes_px[0])
    latents = backbone.encode(pixels)
    generator = torch.Generator().manual_seed(0)
    loss = float(flow_matching_loss(backbone, latents, instruction, generator))
    t = latents.grid.shape[2]
    per_latent = (pixels.grid.shape[2] - 1) // (t - 1)
    codec = backbone.decode(latents).grid
    predictions = []
    for num_clean in range(1, t):
        past = Video(latents.grid[:, :, :num_clean], latents.fps)
        # one step: the mean of all futures, which is what a mean square error rewards
        imagined = continue_video(backbone, past, t - num_clean, instruction, num_steps=1, generator=generator)
        model = backbone.decode(imagined).grid
        last = pixels.grid[:, :, per_latent * (num_clean - 1)][:, :, None].expand_as(pixels.grid)
        for horizon in range(1, t - num_clean + 1):
            first = per_latent * (num_clean + horizon - 2) + 1
            frames = slice(first, first + per_latent)
            truth = pixels.grid[:, :, frames]
            model_db, copy_db, codec_db = (_psnr(video[:, :, frames], truth) for video in (model, last, codec))
            predictions.append(Prediction(num_clean, horizon, model_db, copy_db, codec_db))
    _write_prediction(backbone, pixels, instruction, out / "prediction.mp4")
    return VideoReport(loss, len(places), predictions)


def _psnr(a: Tensor, b: Tensor) -> float:
    """Of the mean error over all frames."""
    return float(10 * torch.log10(1 / (10 ** (-psnr(a, b) / 10)).mean()))


def _write_prediction(backbone: VideoBackbone, pixels: Video, instruction: list[str], path: Path) -> None:
    """Four clips: truth above, below it the future imagined in 8 steps from the first two latent frames."""
    chosen = torch.linspace(0, len(instruction) - 1, min(4, len(instruction))).long()
    truth = Video(pixels.grid[chosen], pixels.fps)
    latents = backbone.encode(truth)
    num_clean = min(2, latents.grid.shape[2] - 1)
    past = Video(latents.grid[:, :, :num_clean], latents.fps)
    generator = torch.Generator().manual_seed(0)
    words = [instruction[i] for i in chosen.tolist()]
    imagined = continue_video(backbone, past, latents.grid.shape[2] - num_clean, words, num_steps=8, generator=generator)
    rows = torch.cat([truth.grid, backbone.decode(imagined).grid], dim=3)  # one above the other
    side_by_side = torch.cat(list(rows), dim=3)  # c t h w
    frames = ((side_by_side.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
    enlarged = frames.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    write_video(path, enlarged.contiguous().numpy(), fps=8.0)


def print_report(report: VideoReport) -> None:
    table = Table(title=f"{report.num_clips} clips of unseen episodes, validation loss {report.loss:.4f}; PSNR in dB")
    for heading in ("clean latent frames", "horizon", "model", "copy last frame", "codec bound"):
        table.add_column(heading, justify="right")
    for row in report.predictions:
        decibels = (f"{value:.1f}" for value in (row.model, row.copy_last, row.codec))
        table.add_row(str(row.num_clean), str(row.horizon), *decibels)
    Console().print(table)
