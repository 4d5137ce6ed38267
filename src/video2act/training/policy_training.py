"""The training of a policy, from the first look at the data to the run folder. `programs/train.py` checks its input."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from video2act.config import PolicyConfig, TrainConfig
from video2act.data import Dataset, split
from video2act.data.batches import BatchLoader
from video2act.data.cache import FeatureCache
from video2act.data.embodied import EmbodiedDataset
from video2act.data.fingerprint import of_datasets
from video2act.data.fit import relative_notes
from video2act.data.frame_store import GIB, stores_of
from video2act.data.labels import label_notes
from video2act.files.fingerprint import fingerprint
from video2act.files.run_folder import CONFIG_FILE as POLICY_FILE
from video2act.files.run_folder import ROBOTS, TRAINING_FILE, WEIGHTS_FILE
from video2act.interop.checkpoints import find_checkpoint
from video2act.interop.rdt import load_rdt
from video2act.policy import Video2Act
from video2act.training.beginning import Beginning, begin_from
from video2act.training.beside import PREFIX, LearningBeside, VideoClips, measure_cost
from video2act.training.cache_copies import check_room
from video2act.training.checkpoints import checkpoints_in
from video2act.training.choice import frame_notes
from video2act.training.effects import instruction_notes
from video2act.training.features import fill
from video2act.training.identity import policy_identity
from video2act.training.loop import CHECKPOINTS, TrainingLoop
from video2act.training.new_policy import build_policy, copies_of, open_cache, prepare_text
from video2act.training.pause import Deadline
from video2act.training.record import save_runs
from video2act.training.resuming import read_settings
from video2act.training.step_inputs import episode_numbers, training_inputs, validation_loss


def train_policy(
    config: PolicyConfig,
    data: Dataset,
    *,
    out: Path,
    training: TrainConfig,
    video_model: Path | None,
    init: Path | None,
    init_parts: tuple[str, ...],
    video_data: Sequence[Dataset],
    resume: bool,
    cache: Path | str | None,
    live: bool,
    deadline: Deadline,
) -> Video2Act:
    """Arguments, result and errors as for `video2act.train`; the config is fitted to the data's robots."""
    learned, held_out = split(data, training.validation_fraction) if training.validation_fraction else (data, None)
    is_tuned = config.system2 is not None and config.system2.tuning.method != "frozen"
    torch.manual_seed(training.seed)
    weight = training.video_loss_weight
    policy = build_policy(config, learned.stats, video_model=video_model, whole=weight > 0)
    identity: dict[str, Any] = {"policy": policy_identity(policy), "data": data.fingerprint}
    # also where there are none: a training that began with weights is not resumed without them
    identity |= {"init": _init_identity(init, out) if init else None, "init_parts": list(init_parts) if init else None}
    if weight:
        identity["video_data"] = of_datasets(video_data)
    if init and not (resume and checkpoints_in(out / CHECKPOINTS)):  # a resumed training goes on from its own weights
        print(begin(policy, init, parts=init_parts, has_video_model=video_model is not None))
    if policy.system2:
        policy.system2.learn()

    module, prefix = (LearningBeside(policy, weight), PREFIX) if weight else (policy, "")
    with TrainingLoop(
        module,
        training,
        folder=out,
        resume=resume,
        identity=identity,
        rates={f"{prefix}system2.backbone.": training.video_learning_rate} if is_tuned else {},
        elsewhere=tuple(prefix + name for name in policy.elsewhere),
        deadline=deadline,
    ) as loop:
        notes = [f"{line} (policy.normalize_floor)" for line in policy.scale_warnings()]
        notes += [*label_notes(data), *relative_notes(config, data), *frame_notes(config, data, video_model)]
        for line in notes if loop.is_main else ():
            print(f"note: {line}")
        prepare_text(policy, data, videos=video_data, accelerator=loop.accelerator)
        store, *video_stores = stores_of((data, *video_data), int(training.frames_gib * GIB))
        seen, copies = None, []
        if policy.system2 and not policy.system2.is_learning and not live:
            seen = open_cache(policy, data, out=out, video_model=video_model, cache=cache)
            for line in instruction_notes(training, seen.spec) if loop.is_main else ():
                print(f"note: {line}")
            copies = copies_of(seen, training, lengths=data.lengths, out=out)
            fill(policy, data, store=store, cache=seen, accelerator=loop.accelerator, deadline=deadline)
            check_room(seen, copies)
            for copy in copies:
                fill(policy, data, store=store, cache=copy, accelerator=loop.accelerator, deadline=deadline)

        def loader(part: Dataset, copies: Sequence[FeatureCache] = ()) -> BatchLoader:
            return BatchLoader(
                part,
                store,
                config=policy.config,
                batch_size=training.batch_size,
                seed=training.seed,
                cache=seen,
                copies=copies,
                numbers=episode_numbers(data, part),
                rank=loop.accelerator.process_index,
                world_size=loop.accelerator.num_processes,
                weights=training.weights,
                vary_instruction=training.vary_instruction,
            )

        batches = loader(learned, copies)
        validate = validation_loss(loader(held_out), loop=loop) if held_out else None
        inputs, cost = training_inputs(batches, training, loop=loop), None
        if weight:
            pairs = list(zip(video_data, video_stores, strict=True))
            episodes = episode_numbers(data, learned)
            clips = VideoClips(policy, data, training, store=store, episodes=episodes, video_data=pairs)
            inputs, cost = clips.beside(inputs, loop), measure_cost(loop, batches, clips=clips)
        for line in (*(store, *video_stores), *([cost] if cost else [])) if loop.is_main else ():
            print(f"note: {line}")
        loop.run(inputs, "policy", validate=validate)
        weights = {name.removeprefix(prefix): tensor for name, tensor in loop.averaged_weights().items()}
        if policy.system2 and weight:
            policy.system2.backbone.drop_rest()
            kept = policy.state_dict().keys()
            weights = {name: tensor for name, tensor in weights.items() if name in kept}
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


def _init_identity(init: Path, out: Path) -> str:
    """A fingerprint of the weights that a training begins with. A training that an older version began recorded their
    path, and one that is resumed may do without the weights: then what was recorded stays."""
    before = read_settings(out / TRAINING_FILE).get("init") if (out / TRAINING_FILE).is_file() else None
    if before is not None and (before == os.path.realpath(init) or not init.exists()):
        return str(before)
    file = init / WEIGHTS_FILE if (init / POLICY_FILE).is_file() else find_checkpoint(init)
    return fingerprint([file])


def begin(policy: Video2Act, source: Path, *, parts: tuple[str, ...] = (), has_video_model: bool = False) -> Beginning:
    """Fill a new policy with what fits of a run's weights (`begin_from`), or its System 1 with all of RDT-1B's.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: nothing fits, an unknown part, or a System 1 that is not of RDT-1B's form.
    """
    if (source / POLICY_FILE).is_file():
        return begin_from(policy, source, parts=parts, has_video_model=has_video_model)
    if parts not in ((), ("system1",)):
        problem = f"{source} has no {POLICY_FILE}, so it is read as RDT-1B's checkpoint, which fills system1 only"
        raise ValueError(f"{problem}; got init_parts {', '.join(parts)}")
    loaded = load_rdt(policy.system1, source)
    return Beginning(source, loaded.taken, (), (), loaded.own)
