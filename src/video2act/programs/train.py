"""`video2act train`: teach a policy from demonstrations.

The frozen video model sees every frame once, before training (`FeatureCache`); training then reads its features. The
run folder holds the policy (`config.json`, `model.safetensors`, `stats.json`: the moving average of the weights) and
the training's record.
"""

from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch

from video2act.config import PolicyConfig, TrainConfig
from video2act.config.training_options import TrainOptions
from video2act.data import Dataset, FrameStore, split
from video2act.data.batches import BatchLoader, batch_bytes, check_columns, check_fit, check_weights
from video2act.data.embodied import EmbodiedDataset
from video2act.data.frame_store import GIB, check_budget
from video2act.data.opening import open_chosen
from video2act.files.run_folder import CONFIG_FILE as POLICY_FILE
from video2act.files.run_folder import ROBOTS
from video2act.interop.rdt import load_rdt
from video2act.policy import Video2Act
from video2act.training.beginning import Beginning, begin_from
from video2act.training.features import fill
from video2act.training.identity import policy_identity, whole_path
from video2act.training.loop import CHECKPOINTS, TrainingLoop
from video2act.training.new_policy import build_policy, choose_policy, fit_robots, frame_notes, open_cache, prepare_text
from video2act.training.record import save_runs
from video2act.training.step_inputs import episode_numbers, training_inputs, validation_loss


def main(options: TrainOptions) -> None:
    """Train as the command line asks."""
    data = open_chosen(options)
    check_columns(data)
    config = choose_policy(options, data, options.cameras)
    names = ("out", "training", "video_model", "init", "init_parts", "resume", "cache", "live")
    train(config, data, **{name: getattr(options, name) for name in names})


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
    check_weights(data, training.weights)
    budget, is_cached = int(training.frames_gib * GIB), tuning == "frozen" and not live
    check_budget(budget, batch_bytes(config, training.batch_size, is_cached=is_cached))
    learned, held_out = split(data, training.validation_fraction) if training.validation_fraction else (data, None)
    torch.manual_seed(training.seed)
    policy = build_policy(config, learned.stats, video_model=video_model)
    begun = {"init": whole_path(init), "init_parts": list(init_parts)} if init else {}
    identity = {"policy": policy_identity(policy), "data": data.fingerprint, **begun}
    if init and not (resume and (out / CHECKPOINTS).is_dir()):  # a resumed training goes on from its own weights
        print(begin(policy, Path(init), parts=init_parts))
    if policy.system2:
        policy.system2.learn()

    with TrainingLoop(
        policy,
        training,
        folder=out,
        resume=resume,
        identity=identity,
        rates={"system2.backbone.": training.video_learning_rate} if tuning != "frozen" else {},
        elsewhere=policy.elsewhere,
    ) as loop:
        notes = [f"{line} (policy.normalize_floor)" for line in policy.scale_warnings()]
        for line in (*notes, *frame_notes(config, data, video_model)) if loop.is_main else ():
            print(f"note: {line}")
        prepare_text(policy, data, accelerator=loop.accelerator)
        store, seen = FrameStore(data, budget), None
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
        if loop.is_main:
            print(f"note: {store}")
        loop.run(training_inputs(batches, training, loop=loop), "policy", validate=validate)
        weights = loop.averaged_weights()
        if loop.is_main:
            save_runs(policy, weights, out=out, data=data)
        is_alone = loop.accelerator.num_processes == 1
        loop.finish()
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
