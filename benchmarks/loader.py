"""Does the data loader keep up with training?

    python benchmarks/loader.py --data data/push

Takes the data and the policy as `video2act train` does. Batches per second of the loader alone against training steps
per second on a ready batch, in turns. All episodes are decoded first, as after the first epoch. The loader reads
pixels, which is slower than reading a cache; the training steps are those on a cache.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch

from video2act.cli_flags import parse
from video2act.config import TrainConfig
from video2act.config.training_options import TRAINING, DataOptions, PolicyStart
from video2act.data import FrameStore
from video2act.data.batches import BatchLoader
from video2act.data.fit import check_columns
from video2act.data.opening import open_chosen
from video2act.frames import frame_uses
from video2act.policy import Video2Act
from video2act.precision import fast_precision
from video2act.programs.bench import measure
from video2act.training.choice import choose_policy, fit_robots
from video2act.types import Batch


@dataclass(frozen=True, kw_only=True)
class LoaderOptions(PolicyStart, DataOptions):
    """Time the data loader, and training steps beside it."""

    cameras: tuple[str, ...] | None = None
    """cameras of the preset's policy; all of the dataset's, if left out"""
    training: TrainConfig = TRAINING
    num_batches: int = 40
    """batches to time"""
    loader_only: bool = False
    """time no training steps, which need all weights of the policy"""


def main(options: LoaderOptions) -> dict[str, float]:
    """Batches ("load") and training steps ("train") per second."""
    dataset = open_chosen(options)
    check_columns(dataset)
    config = fit_robots(choose_policy(options, dataset, options.cameras), dataset)
    training = options.training
    loader = BatchLoader(
        dataset,
        FrameStore(dataset),
        config=config,
        batch_size=training.batch_size,
        seed=training.seed,
        weights=training.weights,
        vary_instruction=training.vary_instruction,
    )
    for episode in range(len(dataset)):
        for use in frame_uses(config):
            loader.frames.read([(episode, [0])], use.camera, size=use.size, rule=use.rule)
    steps = count()
    timed: dict[str, Callable[[], object]] = {"load": lambda: loader[next(steps)]}
    if not options.loader_only:
        timed["train"] = train_step(Video2Act(config, dataset.stats).train(), loader[0])
    seconds = measure(timed, repeats=options.num_batches)
    rates = {name: float(1 / np.median(seconds[name])) for name in timed}
    print(", ".join(f"{name}: {rate:.1f}/s" for name, rate in rates.items()))
    return rates


def train_step(policy: Video2Act, batch: Batch) -> Callable[[], None]:
    """One step on a ready batch."""
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], fused=True)
    ready, generator = cached(policy, batch), torch.Generator().manual_seed(0)

    def step() -> None:
        with fast_precision(torch.device("cpu")):
            loss = policy(ready, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def cached(policy: Video2Act, batch: Batch) -> Batch:
    """The batch as a cache would give it."""
    if policy.system2 is None:
        return batch
    return replace(batch, videos=policy.system2.see(batch.videos, batch.instruction), stage="seen")


if __name__ == "__main__":
    main(parse(LoaderOptions, sys.argv[1:], program="benchmarks/loader.py"))
