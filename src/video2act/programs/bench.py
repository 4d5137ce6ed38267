"""`video2act bench`: how long each stage takes, whether reusing keys and values pays, and whether data keeps up with training.

Times on a shared machine are noisy, so what is compared is measured in one run, in turns, and reported as a ratio of medians.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from video2act.config import DenoisingConfig, PolicyConfig, TrainConfig
from video2act.data import FrameStore, open_datasets
from video2act.data.loader import BatchLoader
from video2act.normalize import Statistics
from video2act.policy import Video2Act
from video2act.precision import fast_precision
from video2act.presets import DataSpec, make_preset
from video2act.system1 import Visibility
from video2act.system1.action_dit import ActionDiT
from video2act.system1.denoising import Denoising
from video2act.types import Batch, Conditions, Observation, Tokens, Video, VideoCondition

REPEATS = 20


def measure(
    work: dict[str, Callable[[], object]], repeats: int = REPEATS, *, device: torch.device | None = None
) -> dict[str, np.ndarray]:
    """Seconds of each piece of work, `repeats` times, in turns: what slows the machine down for a while slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(-3, repeats):  # three rounds to warm up
        for name, run in work.items():
            started = perf_counter()
            run()
            if device and device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat >= 0:
                seconds[name].append(perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


@torch.no_grad()
def bench_stages(run: Path | None = None, preset: str = "tiny", *, device: str = "cpu") -> dict[str, np.ndarray]:
    """Time every stage between a camera and an action, and print the table.

    Args:
        run: a policy's run folder; without it, `preset` with random weights, whose speed is the same.
    """
    policy = Video2Act.load(run, device) if run else random_policy(preset).to(device).eval()
    config, system1, system2 = policy.config, policy.system1, policy.system2
    instruction = ["push the puck to the goal"]
    visible = Visibility.full(1, policy.device)
    observation = _observation(config, instruction[0])
    images = {camera: torch.zeros(1, 3, config.image_px, config.image_px, device=device) for camera in config.cameras}
    work: dict[str, Callable[[], object]] = {}
    tokens = policy.perceive({}, instruction) if system2 is None else None
    if system2 is not None:
        clips = _clips(config, device)
        seen = system2.see(clips, instruction)
        tokens = system2.compress(seen)
        for stream in system2.config.streams:
            pixels = clips[stream.name]
            latents = system2.backbone.encode(pixels)
            features = system2.backbone.features(latents, instruction)
            work[f"System 2, {stream.name}: encode"] = lambda pixels=pixels: system2.backbone.encode(pixels)
            work[f"System 2, {stream.name}: features"] = lambda latents=latents: system2.backbone.features(
                latents, instruction
            )
            work[f"System 2, {stream.name}: filter"] = lambda name=stream.name, grid=features: system2.filters[name](
                grid
            )
            work[f"System 2, {stream.name}: former"] = lambda name=stream.name: system2.formers[name](seen[name])
        work["System 2: one refresh"] = lambda: policy.perceive(clips, instruction)
    assert tokens is not None
    conditions = system1.gather(instruction, images, video=tokens, visible=visible)
    state, age = torch.zeros(1, config.state_dim, device=device), torch.zeros(1, device=device)
    projected = system1.project(conditions, state, staleness=age, visible=visible)
    noise = torch.zeros(1, config.horizon, config.action_dim, device=device)
    condition = VideoCondition(tokens, observation.time, episode=0)
    work |= {
        "System 1: text and images": lambda: system1.gather(instruction, images, video=tokens, visible=visible),
        "System 1: keys and values": lambda: system1.project(conditions, state, staleness=age, visible=visible),
        "System 1: one denoising step": lambda: system1.dit(noise, age, projected),
        "System 1: one chunk": lambda: policy.act(observation, condition),
    }
    seconds = measure(work, device=policy.device)
    table = Table("stage", "p50 ms", "p95 ms", title=f"{device}, {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * np.median(values):.2f}", f"{1000 * np.percentile(values, 95):.2f}")
    Console().print(table)
    return seconds


@torch.no_grad()
def bench_kv_reuse(
    hidden: int = 512, depth: int = 8, *, text: int = 256, image: int = 1092, video: int = 294, device: str = "cpu"
) -> tuple[float, float]:
    """A chunk of 5 denoising steps with the conditions' keys and values computed once, against computing them at each step.

    The token counts are a quarter of the released policy's, its proportions kept.

    Returns:
        How many times faster, and the largest difference between the two results.
    """
    torch.manual_seed(0)
    horizon, action_dim = 64, 128
    dit = (
        ActionDiT(action_dim, action_dim, horizon=horizon, width=hidden, depth=depth, num_heads=hidden // 64)
        .to(device)
        .eval()
    )
    denoising = Denoising(DenoisingConfig(num_steps=5))
    conditions = Conditions(
        *(Tokens.all_visible(torch.randn(1, n, hidden, device=device)) for n in (text, image, video))
    )
    state, shown, age = (
        torch.randn(1, action_dim, device=device),
        torch.ones(1, 1, device=device),
        torch.zeros(1, device=device),
    )
    noise = torch.randn(1, horizon, action_dim, device=device)

    def once() -> torch.Tensor:
        projected = dit.project(conditions, state, has_state=shown, staleness=age)
        return denoising.sample(lambda noisy, timestep: dit(noisy, timestep, projected), noise)

    def at_each_step() -> torch.Tensor:
        return denoising.sample(
            lambda noisy, timestep: dit(
                noisy, timestep, dit.project(conditions, state, has_state=shown, staleness=age)
            ),
            noise,
        )

    difference = float((once() - at_each_step()).abs().max())
    seconds = measure({"once": once, "each": at_each_step}, repeats=7, device=torch.device(device))
    ratio = float(np.median(seconds["each"]) / np.median(seconds["once"]))
    print(
        f"keys and values once per chunk: {ratio:.2f} times faster than at each of 5 steps (hidden {hidden}, depth {depth}); "
        f"largest difference {difference:.1e}"
    )
    return ratio, difference


def bench_loader(data: tuple[Path, ...], preset: str = "tiny", *, num_batches: int = 40) -> tuple[float, float]:
    """Batches per second that the loader alone prepares, and training steps per second on ready batches, in turns.

    Every episode has been decoded before, as after the first epoch. Clips are loaded as pixels, which is slower than reading from
    the cache what System 2 saw in them; training steps are those on the cache.

    Returns:
        Loader batches per second, training steps per second.
    """
    dataset = open_datasets(data)
    spec = DataSpec(dataset.state_dim, dataset.action_dim or 0, float(dataset.fps), dataset.cameras)
    config = make_preset(preset, spec)
    training = TrainConfig()
    loader = BatchLoader(dataset, FrameStore(dataset), config=config, batch_size=training.batch_size, seed=0)
    policy = Video2Act(config, dataset.stats).train()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in policy.parameters() if parameter.requires_grad], fused=True
    )
    # what is measured is a long training: every episode has been decoded before
    for episode in range(len(dataset)):
        for camera, size_px in _views(config):
            loader.frames.frames(episode, camera, size=(size_px, size_px))
    ready = _seen(policy, loader[0])
    generator = torch.Generator().manual_seed(0)

    def train_step() -> None:
        with fast_precision(torch.device("cpu")):
            loss = policy(ready, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    steps = count()
    seconds = measure({"load": lambda: loader[next(steps)], "train": train_step}, repeats=num_batches)
    loads, trains = (float(1 / np.median(seconds[name])) for name in ("load", "train"))
    print(f"loader alone {loads:.1f} batches/s, training {trains:.1f} steps/s: {loads / trains:.1f} times as fast")
    return loads, trains


def _seen(policy: Video2Act, batch: Batch) -> Batch:
    if policy.system2 is None:
        return batch
    return replace(batch, videos=policy.system2.see(batch.videos, batch.instruction), stage="seen")


def _views(config: PolicyConfig) -> list[tuple[str, int]]:
    streams = config.system2.streams if config.system2 else ()
    return [*((camera, config.image_px) for camera in config.cameras), *((s.camera, s.size_px) for s in streams)]


def random_policy(preset: str) -> Video2Act:
    """A preset with random weights, for a robot of 4 numbers and two cameras: for timing only."""
    torch.manual_seed(0)
    unit = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4, min=(-1.0,) * 4, max=(1.0,) * 4)
    return Video2Act(make_preset(preset, DataSpec(4, 4, 80.0, ("front", "wrist"))), {"state": unit, "action": unit})


def _observation(config: PolicyConfig, instruction: str) -> Observation:
    image = np.zeros((2 * config.image_px, 2 * config.image_px, 3), np.uint8)
    state = np.zeros(config.state_dim, np.float32)
    return Observation(dict.fromkeys(config.cameras, image), state, instruction, time=0.0)


def _clips(config: PolicyConfig, device: str) -> dict[str, Video]:
    streams = config.system2.streams if config.system2 else ()
    return {
        s.name: Video(torch.zeros(1, 3, s.num_frames, *s.frame_px, device=device), config.fps / s.stride)
        for s in streams
    }
