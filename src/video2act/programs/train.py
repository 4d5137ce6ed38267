"""`video2act train`: teach a policy from demonstrations.

The frozen video model looks at every frame once, before training (`FeatureCache`); training then reads what it saw. The run
folder holds the policy (`config.json`, `model.safetensors`, `stats.json`: the moving average of the weights) and the training's
record.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from video2act.config import (
    System1Sources,
    System2Options,
    TrainConfig,
    TuningConfig,
)
from video2act.data import Dataset, FrameStore, LeRobotDataset, as_view, load_origin, open_datasets
from video2act.data.augmentation import jitter, shift
from video2act.data.embodied import EmbodiedDataset
from video2act.data.loader import BatchLoader, check_fit, check_weights
from video2act.files.atomic import write_text
from video2act.files.run_folder import DATA_FILE, INSTRUCTIONS_FILE, ROBOTS, SCENES_FILE
from video2act.interop.rdt import load_rdt
from video2act.policy import Video2Act
from video2act.presets import DataSpec, make_preset
from video2act.system2.backbones import CONFIG_FILE
from video2act.training.features import fill
from video2act.training.loop import TrainingLoop
from video2act.training.new_policy import (
    build_policy,
    draw_visibility,
    of_several_robots,
    open_cache,
    prepare_text,
    with_encoding,
    with_options,
    with_sources,
    with_tuning,
)
from video2act.types import Batch

PRESETS_OWN = System1Sources()
AS_IN_PRESET = System2Options()
MAX_INSTRUCTIONS = 1000
"""a large dataset may have as many sentences as episodes"""
FROZEN = TuningConfig()


def train(
    data: tuple[Path, ...],
    out: Path,
    *,
    config: TrainConfig,
    preset: str = "tiny",
    video_model: Path | None = None,
    cameras: tuple[str, ...] | None = None,
    resume: bool = False,
    system1: System1Sources = PRESETS_OWN,
    tuning: TuningConfig = FROZEN,
    cache: Path | None = None,
    live: bool = False,
    encoding: Literal["window", "stream"] = "window",
    system2: System2Options = AS_IN_PRESET,
) -> None:
    """Train a policy and write its run folder.

    Args:
        data: LeRobotDataset folders with actions; each brings its own instructions. Of one robot, or of several that
            `config.embodiments` names.
        out: folder to write; must not hold another training unless `resume`. Of several robots it holds a run folder for each.
        preset: a name of `PRESETS`.
        video_model: a folder written by `train-video`, which the tiny presets need; for the others it replaces the source of
            the published video model that the preset names.
        cameras: what the policy looks through, System 2's camera first; all of the dataset's, if None.
        system1: for presets with frozen encoders: where they lie, and the weights to begin with.
        tuning: what of the video model is trained together with the policy. Then no features are cached: each step runs it.
        cache: of what System 2 sees, filled before; None fills one.
        live: System 2 looks at every step instead; slow, and the same but for the cache's rounding.
        encoding: stream: System 2's encoder goes on through an episode, in training and on the robot.
        system2: how the preset's published video model is looked through.
    Raises:
        ValueError: the preset is unknown, the dataset does not fit, or the video model is missing: there are no random weights.
    """
    if cache and tuning.method != "frozen":
        raise ValueError(
            f"{cache} holds what a frozen video model sees, but with tuning.method={tuning.method} it learns"
        )
    dataset = open_datasets(data, embodiments=config.embodiments)
    spec = DataSpec(dataset.state_dim, dataset.action_dim or 0, float(dataset.fps), cameras or dataset.cameras)
    policy_config = with_options(with_sources(make_preset(preset, spec), system1), system2)
    policy_config = with_tuning(with_encoding(policy_config, encoding), tuning)
    if config.max_delay_steps:
        shows_prefix = replace(policy_config.system1, max_delay_steps=config.max_delay_steps)
        policy_config = replace(policy_config, system1=shows_prefix)
    if config.embodiments:
        policy_config = of_several_robots(policy_config)
    check_fit(policy_config, dataset)
    check_weights(dataset, config.weights)
    torch.manual_seed(config.seed)
    policy = build_policy(policy_config, dataset.stats, video_model=video_model)
    # a resumed training goes on from its own weights
    if system1.weights and not resume:
        taken = load_rdt(policy.system1, Path(system1.weights))
        print(f"System 1 begins with {len(taken.taken)} tensors of {system1.weights}; {len(taken.own)} are its own")

    if policy.system2:
        policy.system2.learn()
    # the whole policy and what it learns from: a resumed training must agree in both
    identity = {"policy": asdict(policy.config), "data": dataset.fingerprint, "video_model": str(video_model)}
    rates = {"system2.backbone.": config.video_learning_rate} if tuning.method != "frozen" else {}
    loop = TrainingLoop(policy, config, folder=out, resume=resume, identity=identity, rates=rates)
    prepare_text(policy, dataset, accelerator=loop.accelerator)
    store = FrameStore(dataset)
    # beside a video model of ours; a published one's folder may be shared, and is not written to
    beside = video_model if video_model and (video_model / CONFIG_FILE).is_file() else out
    seen = None
    if policy.system2 and not policy.system2.is_learning and not live:
        seen = open_cache(policy, dataset, folder=beside, cache=cache)
        fill(policy, dataset, store=store, cache=seen, accelerator=loop.accelerator)
    loader = BatchLoader(
        dataset,
        store,
        config=policy_config,
        batch_size=config.batch_size,
        seed=config.seed,
        cache=seen,
        rank=loop.accelerator.process_index,
        world_size=loop.accelerator.num_processes,
        weights=config.weights,
        vary_instruction=config.vary_instruction,
    )
    loop.run(training_inputs(loader, config, loop=loop), "policy")
    weights = loop.averaged_weights()
    if loop.is_main:
        record = f"record: {out / 'metrics.jsonl'}   curves: tensorboard --logdir {out / 'tensorboard'}"
        if not isinstance(dataset, EmbodiedDataset):
            save(policy, weights, out=out, own=data, data=data, dataset=dataset)
            print(f"policy: {out}   {record}")
        for embodiment, name in dataset.robots.items() if isinstance(dataset, EmbodiedDataset) else ():
            robot = policy.of_robot(embodiment)
            normalizers = {key: value for key, value in robot.state_dict().items() if key.startswith("normalize_")}
            own = tuple(path for path, of in zip(data, config.embodiments or (), strict=True) if of == embodiment)
            save(robot, weights | normalizers, out=out / ROBOTS / name, own=own, data=data, dataset=dataset)
            print(f"policy of {name}: {out / ROBOTS / name}   {record}")
    loop.finish()


def save(
    policy: Video2Act,
    weights: dict[str, Tensor],
    *,
    out: Path,
    own: tuple[Path, ...],
    data: tuple[Path, ...],
    dataset: Dataset,
) -> None:
    """Write a run folder, and beside the policy what it learned from: of all `data`, and the scenes of its `own`."""
    policy.save(out, weights)
    write_text(out / SCENES_FILE, json.dumps(scenes(own)) + "\n")
    write_text(out / INSTRUCTIONS_FILE, json.dumps(sorted(dataset.tasks)[:MAX_INSTRUCTIONS], indent=2) + "\n")
    write_text(out / DATA_FILE, json.dumps(describe_data(data, dataset), indent=2) + "\n")


def describe_data(data: tuple[Path, ...], dataset: Dataset) -> list[dict[str, Any]]:
    """What a policy learned from, for its card."""
    return [
        {
            "name": path.name,
            "robot": part.robot,
            "episodes": len(part),
            "frames": part.total_frames,
            "tasks": list(part.tasks),
        }
        for path, part in zip(data, as_view(dataset).each, strict=True)
    ]


def scenes(data: tuple[Path, ...]) -> dict[str, list[int]]:
    """Environment -> seeds, of the datasets that `collect` recorded."""
    seeds: dict[str, list[int]] = {}
    for path in data:
        environment = load_origin(path).get("environment")
        if environment is not None:
            seeds.setdefault(environment, []).extend(e.seed for e in LeRobotDataset(path).entries if e.seed is not None)
    return seeds


def training_inputs(
    loader: BatchLoader, config: TrainConfig, *, loop: TrainingLoop
) -> Callable[[int], tuple[Any, ...]]:
    """Micro-step -> arguments of `Video2Act.forward`: an augmented batch, its generator, what is hidden, noise on the state."""
    first = loop.first_step * config.gradient_accumulation
    last = config.num_steps * config.gradient_accumulation
    steps = range(first, last)
    batches = iter(DataLoader(loader, batch_size=None, sampler=steps, num_workers=config.num_workers))
    device = loop.accelerator.device

    def inputs(step: int) -> tuple[Any, ...]:
        generator = loop.generator(step)
        batch: Batch = next(batches)
        images = {
            camera: jitter(
                shift(image, config.image_shift_px, generator=generator), config.image_jitter, generator=generator
            )
            for camera, image in batch.images.items()
        }
        visible = draw_visibility(
            len(batch.state),
            config.condition_dropout,
            vision_dropout=config.vision_dropout,
            generator=generator,
            device=device,
        )
        return replace(batch, images=images).to(device), generator, visible, config.state_noise

    return inputs
