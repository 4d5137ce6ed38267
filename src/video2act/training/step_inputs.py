"""From a batch (made in `data/batches.py`) to the arguments of a training step, and the loss on held-out episodes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from video2act.config import TrainConfig
from video2act.data import Dataset, as_view
from video2act.data.augmentation import vary_clips, vary_images
from video2act.data.batches import BatchLoader
from video2act.system1 import Visibility
from video2act.training.loop import TrainingLoop
from video2act.training.pause import ignore_signals
from video2act.types import Batch

VALIDATION_BATCHES = 16
"""at most, on each process"""


def episode_numbers(whole: Dataset, part: Dataset) -> list[int]:
    """The numbers of a part's episodes in the whole dataset, of which it is a half of `split`."""
    numbers = {place: number for number, place in enumerate(as_view(whole).places)}
    return [numbers[place] for place in as_view(part).places]


def training_inputs(
    loader: BatchLoader, config: TrainConfig, *, loop: TrainingLoop
) -> Callable[[int], tuple[Any, ...]]:
    """Micro-step -> arguments of `Video2Act.forward`: an augmented batch, its generator, what is hidden, noise on the
    state."""
    first = loop.first_step * config.gradient_accumulation
    last = config.num_steps * config.gradient_accumulation
    # fork: the decoded frames lie in memory that processes share
    forked = {"multiprocessing_context": "fork"} if config.num_workers else {}
    workers = {"num_workers": config.num_workers, "worker_init_fn": ignore_signals, **forked}
    batches = iter(DataLoader(loader, batch_size=None, sampler=range(first, last), **workers))
    device = loop.accelerator.device

    def inputs(step: int) -> tuple[Any, ...]:
        generator = loop.generator(step)
        batch: Batch = next(batches)
        images = vary_images(
            batch.images, shift_px=config.image_shift_px, amount=config.image_jitter, generator=generator
        )
        videos = batch.videos
        if batch.stage == "pixels":
            given = {"shift_px": config.clip_shift_px, "amount": config.clip_jitter, "generator": generator}
            videos = {name: vary_clips(clips, **given) for name, clips in videos.items()}
        visible = draw_visibility(
            len(batch.state),
            config.condition_dropout,
            vision_dropout=config.vision_dropout,
            generator=generator,
            device=device,
        )
        return replace(batch, images=images, videos=videos).to(device), generator, visible, config.state_noise

    return inputs


def validation_loss(loader: BatchLoader, *, loop: TrainingLoop) -> Callable[[], float]:
    """The training objective on batches of held-out episodes: always the same ones with the same noise, nothing
    hidden."""
    size = loader.batch_size * loader.world_size
    steps = range(min(VALIDATION_BATCHES, -(-loader.dataset.total_frames // size)))

    def measure() -> float:
        losses = []
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            losses.append(loop.module(loader[step].to(loop.accelerator.device), generator).detach())
        return float(loop.accelerator.reduce(torch.stack(losses).mean(), reduction="mean"))  # type: ignore[arg-type]

    return measure


def draw_visibility(
    batch: int,
    condition_dropout: float,
    *,
    vision_dropout: float = 0.0,
    generator: torch.Generator,
    device: torch.device,
) -> Visibility:
    """Hide text, image, video and state of each sample at random, each by itself; or image and video together, never
    the text."""
    text, image, video, state = (torch.rand(4, batch, generator=generator) >= condition_dropout).to(device)
    if vision_dropout:
        sees = (torch.rand(batch, generator=generator) >= vision_dropout).to(device)
        text, image, video = torch.ones_like(text), image & sees, video & sees
    return Visibility(text=text, image=image, video=video, state=state)
