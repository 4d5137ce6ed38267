"""Does the data loader keep up with training?

    python benchmarks/loader.py --data data/push

Batches per second of the loader alone against training steps per second on a ready batch, in turns. All episodes are
decoded first, as after the first epoch. The loader reads pixels, which is slower than reading a cache; the training
steps are those on a cache.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import tyro

from video2act.config import TrainConfig
from video2act.data import FrameStore, open_datasets
from video2act.data.loader import BatchLoader
from video2act.frames import frame_uses
from video2act.policy import Video2Act
from video2act.precision import fast_precision
from video2act.presets import DataSpec, make_preset
from video2act.programs.bench import measure
from video2act.types import Batch


def main(data: tuple[Path, ...], preset: str = "tiny", *, num_batches: int = 40) -> tuple[float, float]:
    """Returns the loader's batches per second, and training steps per second."""
    dataset = open_datasets(data)
    config = make_preset(
        preset, DataSpec(dataset.state_dim, dataset.action_dim or 0, float(dataset.fps), dataset.cameras)
    )
    loader = BatchLoader(dataset, FrameStore(dataset), config=config, batch_size=TrainConfig().batch_size, seed=0)
    policy = Video2Act(config, dataset.stats).train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], fused=True)
    for episode in range(len(dataset)):
        for use in frame_uses(config):
            loader.frames.frames(episode, use.camera, size=use.size, rule=use.rule)
    ready, generator, steps = cached(policy, loader[0]), torch.Generator().manual_seed(0), count()

    def train_step() -> None:
        with fast_precision(torch.device("cpu")):
            loss = policy(ready, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = measure({"load": lambda: loader[next(steps)], "train": train_step}, repeats=num_batches)
    loads, trains = (float(1 / np.median(seconds[name])) for name in ("load", "train"))
    print(f"loader alone {loads:.1f} batches/s, training {trains:.1f} steps/s: {loads / trains:.1f} times as fast")
    return loads, trains


def cached(policy: Video2Act, batch: Batch) -> Batch:
    """The batch as a cache would give it."""
    if policy.system2 is None:
        return batch
    return replace(batch, videos=policy.system2.see(batch.videos, batch.instruction), stage="seen")


if __name__ == "__main__":
    tyro.cli(main)
