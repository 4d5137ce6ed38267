"""`video2act train`: teach a policy from demonstrations.

The frozen video model sees every frame once, before training (`FeatureCache`); training then reads its features. The
run folder holds the policy (`config.json`, `model.safetensors`, `stats.json`: the moving average of the weights) and
the training's record.
"""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from video2act.config import PolicyConfig, TrainConfig
from video2act.config.training_options import TrainOptions
from video2act.data import Dataset, open_dataset, split
from video2act.data.batches import BatchLoader, batch_bytes, check_columns, check_fit, check_weights
from video2act.data.embodied import EmbodiedDataset
from video2act.data.frame_store import GIB, check_budget
from video2act.data.opening import open_chosen
from video2act.files.run_folder import CONFIG_FILE as POLICY_FILE
from video2act.files.run_folder import ROBOTS
from video2act.interop.rdt import load_rdt
from video2act.policy import Video2Act
from video2act.training.beginning import Beginning, begin_from
from video2act.training.beside import (
    PREFIX,
    LearningBeside,
    VideoClips,
    check_beside,
    clip_bytes,
    measure_cost,
    shares_of,
)
from video2act.training.features import fill
from video2act.training.identity import policy_identity, whole_path
from video2act.training.loop import CHECKPOINTS, TrainingLoop
from video2act.training.new_policy import build_policy, choose_policy, fit_robots, frame_notes, open_cache, prepare_text
from video2act.training.record import save_runs
from video2act.training.step_inputs import episode_numbers, training_inputs, validation_loss


def main(options: TrainOptions) -> None:
    """Train as the command line asks."""
    data, video_data = open_chosen(options), [open_dataset(path) for path in options.video_data]
    check_columns(data)
    config = choose_policy(options, data, options.cameras)
    names = ("out", "training", "video_model", "init", "init_parts", "resume", "cache", "live")
    train(config, data, video_data=video_data, **{name: getattr(options, name) for name in names})


def train(
    config: PolicyConfig,
    data: Dataset,
    *,
    out: Path | str,
    training: TrainConfig | None = None,
    num_steps: int | None = None,
    video_model: PathLike[str] | str | None = None,
    init: PathLike[str] | str | None = None,
    init_parts: tuple[str, ...] = (),
    video_data: Dataset | Sequence[Dataset] = (),
    resume: bool = False,
    cache: Path | str | None = None,
    live: bool = False,
) -> Video2Act:
    """Train a policy, write its run folder, and return it, ready to act. Several processes: load it from the run
    folder.

    Args:
        config: the policy; `preset(name, data)` is a beginning.
        data: demonstrations of one robot, or of several (`open_datasets` with `embodiments`).
        out: folder to write; must not hold another training unless `resume`. For several robots it holds a run folder
            for each, and the policy of the first is returned.
        num_steps: replaces `training.num_steps`.
        video_model: what `train_video` returned, or its folder; the tiny presets need one. For the others it replaces
            the source of the published video model.
        init: another run's folder, or RDT-1B's checkpoint, whose weights this policy begins with; see `begin`.
        init_parts: take these parts only.
        video_data: more datasets, with or without actions, for `training.video_loss_weight`.
        cache: what System 2 sees, filled before; None fills one.
        live: run System 2 at every step; slow, and the same except for the cache's rounding.
    Raises:
        ValueError: the data do not fit, the video model is missing, or nothing of `init` fits.
        TrainingPausedError: the time given by `max_minutes` is over.
    """
    out, video_model = Path(out), None if video_model is None else Path(video_model)
    training = training or TrainConfig()
    training = training if num_steps is None else replace(training, num_steps=num_steps)
    tuning = config.system2.tuning.method if config.system2 else "frozen"
    if cache and tuning != "frozen":
        problem = f"{cache} holds what a frozen video model sees, but system2.tuning.method={tuning} trains it"
        raise ValueError(f"{problem}; leave the cache out")
    config = fit_robots(config, data)
    check_fit(config, data)
    videos = [video_data] if isinstance(video_data, Dataset) else list(video_data)
    check_beside(config, training, video_data=videos)
    check_weights(data, training.weights)
    budget, is_cached = int(training.frames_gib * GIB), tuning == "frozen" and not live
    needed = batch_bytes(config, training.batch_size, is_cached=is_cached) + clip_bytes(config, training)
    check_budget(budget, needed)
    learned, held_out = split(data, training.validation_fraction) if training.validation_fraction else (data, None)
    torch.manual_seed(training.seed)
    weight = training.video_loss_weight
    policy = build_policy(config, learned.stats, video_model=video_model, whole=weight > 0)
    begun = {"init": whole_path(init), "init_parts": list(init_parts)} if init else {}
    identity = {"policy": policy_identity(policy), "data": data.fingerprint, **begun}
    if weight:
        identity["video_data"] = " ".join(dataset.fingerprint for dataset in videos)
    if init and not (resume and (out / CHECKPOINTS).is_dir()):  # a resumed training goes on from its own weights
        print(begin(policy, Path(init), parts=init_parts))
    if policy.system2:
        policy.system2.learn()

    module, prefix = (LearningBeside(policy, weight), PREFIX) if weight else (policy, "")
    with TrainingLoop(
        module,
        training,
        folder=out,
        resume=resume,
        identity=identity,
        rates={f"{prefix}system2.backbone.": training.video_learning_rate} if tuning != "frozen" else {},
        elsewhere=tuple(prefix + name for name in policy.elsewhere),
    ) as loop:
        notes = [f"{line} (policy.normalize_floor)" for line in policy.scale_warnings()]
        for line in (*notes, *frame_notes(config, data, video_model)) if loop.is_main else ():
            print(f"note: {line}")
        prepare_text(policy, data, videos=videos, accelerator=loop.accelerator)
        store, video_stores = shares_of(budget, data, video_data=videos)
        seen = None
        if policy.system2 and not policy.system2.is_learning and not live:
            seen = open_cache(policy, data, out=out, video_model=video_model, cache=cache)
            fill(policy, data, store=store, cache=seen, accelerator=loop.accelerator)

        def loader(part: Dataset) -> BatchLoader:
            return BatchLoader(
                part,
                store,
                config=policy.config,
                batch_size=training.batch_size,
                seed=training.seed,
                cache=seen,
                numbers=episode_numbers(data, part),
                rank=loop.accelerator.process_index,
                world_size=loop.accelerator.num_processes,
                weights=training.weights,
                vary_instruction=training.vary_instruction,
            )

        batches = loader(learned)
        validate = validation_loss(loader(held_out), loop=loop) if held_out else None
        inputs, cost = training_inputs(batches, training, loop=loop), None
        if weight:
            pairs = list(zip(videos, video_stores, strict=True))
            episodes = episode_numbers(data, learned)
            clips = VideoClips(policy, data, training, store=store, episodes=episodes, video_data=pairs)
            inputs, cost = clips.beside(inputs, loop), measure_cost(loop, batches, clips=clips)
        for line in (*(store, *video_stores), *([cost] if cost else [])) if loop.is_main else ():
            print(f"note: {line}")
        loop.run(inputs, "policy", validate=validate)
        weights = {name.removeprefix(prefix): tensor for name, tensor in loop.averaged_weights().items()}
        if policy.system2 and weight:
            policy.system2.backbone.drop_rest()
            weights = {name: weights[name] for name in policy.state_dict()}
        if loop.is_main:
            save_runs(policy, weights, out=out, data=data)
        if loop.is_main and cost:
            print(cost)
        is_alone = loop.accelerator.num_processes == 1
        loop.finish(cost.record() if cost else None)
    if is_alone:
        policy.load_state_dict(weights)
    if isinstance(data, EmbodiedDataset):
        embodiment, name = next(iter(data.robots.items()))
        policy, out = policy.of_robot(embodiment), out / ROBOTS / name
    if is_alone:
        policy.folder = out
    return policy.eval()


def begin(policy: Video2Act, source: Path, *, parts: tuple[str, ...] = ()) -> Beginning:
    """Fill a new policy with what fits of a run's weights, or its System 1 with all of RDT-1B's.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: nothing fits, an unknown part, or a System 1 that is not of RDT-1B's form.
    """
    if (source / POLICY_FILE).is_file():
        return begin_from(policy, source, parts=parts)
    if parts not in ((), ("system1",)):
        problem = f"{source} has no {POLICY_FILE}, so it is read as RDT-1B's checkpoint, which fills system1 only"
        raise ValueError(f"{problem}; got init_parts {', '.join(parts)}")
    loaded = load_rdt(policy.system1, source)
    return Beginning(source, loaded.taken, (), (), loaded.own)
