"""`video2act label`: actions for videos that have none, by an inverse-dynamics model.

The model is trained on the episodes with recorded actions and measured on some that it never saw, beside the baseline
that always predicts the mean action. Then it labels every episode of the videos, into a new dataset. Training a policy
on these labels is VPT's recipe (arXiv 2206.11795), and the control that every use of action-free video must beat (arXiv
2602.02762).

    OUT           a LeRobotDataset v3.0: the videos' episodes, with labels as `action`; `meta/video2act.json` says so
    OUT.model/    the model: inverse_dynamics.json, model.safetensors, and the record of its training
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from video2act.config import LETTERBOX, InverseTrainConfig
from video2act.config.training_options import LabelOptions
from video2act.data import (
    Dataset,
    DatasetWriter,
    Episode,
    FrameStore,
    LeRobotDataset,
    as_view,
    load_origin,
    open_datasets,
    parse_episodes,
)
from video2act.data.frame_store import GIB
from video2act.data.labels import LABELS, DimensionError, Labels, label_notes
from video2act.data.lerobot_format import INFO_PATH
from video2act.data.lerobot_reader import statistics
from video2act.files.atomic import write_text
from video2act.files.differences import differences
from video2act.files.weights import load_weights, save_weights
from video2act.frames import fit_problem
from video2act.training.inverse_dynamics import InverseDynamics, MomentReader, held_out_errors
from video2act.training.loop import TrainingLoop, processes
from video2act.training.settings import FINISHED, SETTINGS_FILE, read_settings, settings_of

MODEL_FILE, WEIGHTS_FILE = "inverse_dynamics.json", "model.safetensors"

HANDFUL = 5
"""episodes with recorded actions, at least"""


def main(options: LabelOptions) -> None:
    """Label as the command line asks."""
    episodes = parse_episodes(options.episodes) if options.episodes else None
    names = ("out", "cameras", "use_state", "model", "training")
    label(
        open_datasets(options.data, episodes=episodes),
        open_datasets(options.videos),
        **{name: getattr(options, name) for name in names},
    )


def label(
    data: Dataset,
    videos: Dataset,
    *,
    out: Path | str,
    cameras: Sequence[str] | None = None,
    use_state: bool = False,
    model: Path | str | None = None,
    training: InverseTrainConfig | None = None,
) -> Labels | None:
    """Train the inverse-dynamics model, unless it is trained already, and write the labelled dataset. The same call
    goes on after an interruption.

    Args:
        data: one or several datasets of a robot with recorded actions.
        videos: of the same robot, without actions.
        out: dataset folder to write.
        cameras: those that the model looks through; all, if None.
        use_state: the model reads the state too.
        model: the model's folder; `out` with `.model` behind its name, if None.
    Returns:
        What is recorded of the labels; None in other processes than the first.
    Raises:
        FileExistsError: `out` holds something else, or is finished.
        ValueError: too few episodes; data and videos that do not go together.
        TrainingPausedError: a signal came, or the time given by `max_minutes` is over.
    """
    out, config = Path(out), training or InverseTrainConfig()
    folder = out.with_name(f"{out.name}.model") if model is None else Path(model)
    looks = tuple(cameras or data.cameras)
    _check(data, videos, cameras=looks, chosen=cameras is not None, use_state=use_state, config=config)
    identity = {"data": data.fingerprint, "cameras": list(looks), "use_state": use_state}
    settings = {"videos": videos.fingerprint, "model": settings_of(config, identity)}
    _check_out(out, settings, total=len(videos))
    learned, held_out = split_by_seed(len(data), config.held_out_fraction, seed=config.seed)
    stats = statistics([data.episode(i) for i in learned])
    stats = stats if use_state else {"action": stats["action"]}
    torch.manual_seed(config.seed)
    network = InverseDynamics(config, looks, statistics=stats)
    reader = MomentReader(data, FrameStore(data, int(config.frames_gib * GIB)), config=config, cameras=looks)
    names = _parts(data)[0].info.action_names
    if not _is_trained(folder, settings["model"]):
        _train(network, reader, config=config, folder=folder, identity=identity, episodes=(learned, held_out))
    if not processes().is_main_process:
        return None
    load_weights(network.to(processes().device or "cpu").eval(), folder / WEIGHTS_FILE)
    errors = held_out_errors(network, reader, episodes=held_out, names=names)
    labels = Labels(tuple(range(len(videos))), len(learned), len(held_out), errors)
    _print_errors(errors, labels)
    _write(out, videos, network, config=config, names=names, origin={**settings, **labels.record()})
    print(f"{out}: {labels}")
    return labels


def split_by_seed(count: int, fraction: float, *, seed: int) -> tuple[list[int], list[int]]:
    """Episodes to learn from and to measure on, at least one each."""
    order = np.random.default_rng([seed, count]).permutation(count).tolist()
    num_held_out = min(count - 1, max(1, round(fraction * count)))
    return sorted(order[num_held_out:]), sorted(order[:num_held_out])


def _parts(data: Dataset) -> list[LeRobotDataset]:
    return [part for part in as_view(data).parts if isinstance(part, LeRobotDataset)]


def _check(
    data: Dataset,
    videos: Dataset,
    *,
    cameras: Sequence[str],
    chosen: bool,
    use_state: bool,
    config: InverseTrainConfig,
) -> None:
    """Raise ValueError where nothing can be learned from the data, or not for these videos."""
    if data.action_dim is None:
        raise ValueError("label learns from recorded actions, but the data have none; name datasets that have")
    if notes := label_notes(data):
        raise ValueError(f"label learns from recorded actions, but {notes[0]}; name the recorded ones")
    first, *others = _parts(data)
    for other in others:
        ours, theirs = first.info.action_names, other.info.action_names
        if ours != theirs:
            raise ValueError(
                f"{first.root} and {other.root} name their actions differently: {', '.join(ours)} and "
                f"{', '.join(theirs)}; label with one of them"
            )
    if len(data) < HANDFUL:
        raise ValueError(f"label needs at least {HANDFUL} episodes with recorded actions, got {len(data)}; record more")
    if videos.action_dim is not None:
        raise ValueError(f"{_parts(videos)[0].root} has actions already; name datasets without actions as --videos")
    for word in ("robot", "fps"):
        ours, theirs = getattr(data, word), getattr(videos, word)
        if ours != theirs:
            raise ValueError(f"{word} is {ours} in the data and {theirs} in the videos; both must be of one robot")
    if not chosen and set(data.cameras) != set(videos.cameras):
        ours, theirs = ", ".join(data.cameras), ", ".join(videos.cameras)
        raise ValueError(f"the data's cameras are {ours}, the videos' {theirs}; choose common ones with --cameras")
    for camera in cameras:
        for name, dataset in (("data", data), ("videos", videos)):
            if camera not in dataset.cameras:
                raise ValueError(
                    f"the {name} have no camera {camera!r}; their cameras are {', '.join(dataset.cameras)}"
                )
        ours, theirs = data.image_size(camera), videos.image_size(camera)
        if ours != theirs:
            raise ValueError(f"camera {camera!r}: height and width are {ours} in the data, {theirs} in the videos")
        if problem := fit_problem(ours, (config.image_px, config.image_px), rule=LETTERBOX):
            raise ValueError(f"camera {camera!r}: {problem}; lower --image-px, or record larger frames")
    if not cameras:
        raise ValueError("the data have no camera, so there is nothing to see an action in")
    if use_state and (not data.state_dim or data.state_dim != videos.state_dim):
        problem = (
            f"--use-state: the state has {data.state_dim} numbers in the data and {videos.state_dim} in the videos"
        )
        raise ValueError(f"{problem}; leave it out")


def _check_out(out: Path, settings: dict[str, Any], *, total: int) -> None:
    """Raise FileExistsError or DatasetError unless labels can be written there, or the same ones go on."""
    if not out.exists() or (out.is_dir() and not any(entry.name != ".staging" for entry in out.iterdir())):
        return
    if not (out / INFO_PATH).is_file() or LABELS not in load_origin(out):
        raise FileExistsError(f"{out} exists and holds no labels that could be continued; choose another folder")
    origin = load_origin(out)
    if changed := differences({name: origin.get(name) for name in settings}, settings, words=("then", "now")):
        raise FileExistsError(f"{out} was labelled otherwise ({'; '.join(changed)}); choose another folder")
    if json.loads((out / INFO_PATH).read_text())["total_episodes"] >= total:
        raise FileExistsError(f"{out} holds these labels already, of all {total} episodes; choose another folder")


def _is_trained(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds this model, finished. Raises FileExistsError: it holds another one."""
    path = folder / SETTINGS_FILE
    before = read_settings(path) if path.is_file() else {}
    if not before.get(FINISHED):
        return False
    # how the device computes is chosen when a training begins
    own = {name: value for name, value in settings.items() if name != "mixed_precision"}
    if changed := differences({name: before.get(name) for name in own}, own, words=("there", "now")):
        problem = f"{folder} holds another inverse-dynamics model ({'; '.join(changed)})"
        raise FileExistsError(f"{problem}; name another folder with --model")
    print(f"note: {folder} holds the trained model, which is used")
    return True


def _train(
    network: InverseDynamics,
    reader: MomentReader,
    *,
    config: InverseTrainConfig,
    folder: Path,
    identity: dict[str, Any],
    episodes: tuple[list[int], list[int]],
) -> None:
    data, (learned, held_out) = reader.data, episodes
    places = [(episode, frame) for episode in learned for frame in range(data.lengths[episode])]
    with TrainingLoop(network, config, folder=folder, resume=True, identity=identity) as loop:
        rank, device = loop.accelerator.process_index, loop.accelerator.device

        def inputs(step: int) -> tuple[Any, ...]:
            chosen = np.random.default_rng([config.seed, step, rank]).integers(len(places), size=config.batch_size)
            own = [places[i] for i in chosen]
            action = torch.from_numpy(np.stack([data.episode(episode).actions[frame] for episode, frame in own]))
            moments = reader.read(own, device=device, has_state=network.state is not None)
            return moments, action.to(device), loop.generator(step)

        loop.run(inputs, "inverse dynamics")
        weights = loop.averaged_weights()
        if loop.is_main:
            described = {"config": asdict(config), **identity, "learned": learned, "held_out": held_out}
            write_text(folder / MODEL_FILE, json.dumps(described, indent=2) + "\n")
            save_weights(folder / WEIGHTS_FILE, weights)
        loop.finish()


def _print_errors(errors: Sequence[DimensionError], labels: Labels) -> None:
    table = Table("action", "error", "of the mean action", "error / deviation", "of the mean action", box=None)
    for error in errors:
        table.add_row(
            error.name,
            *(f"{number:.4g}" for number in (error.raw, error.mean_raw)),
            *(f"{number:.3f}" for number in (error.normalised, error.mean_normalised)),
        )
    table.add_row("all", "", "", f"{labels.error:.3f}", f"{labels.mean_error:.3f}")
    Console().print(f"root mean square error on {labels.num_held_out} held-out episodes", table)


def _write(
    out: Path,
    videos: Dataset,
    network: InverseDynamics,
    *,
    config: InverseTrainConfig,
    names: tuple[str, ...],
    origin: dict[str, Any],
) -> None:
    """Every episode with its labels; those that are there already are left."""
    device = next(network.parameters()).device
    first = _parts(videos)[0]
    environments = {load_origin(part.root).get("environment") for part in _parts(videos)}
    if environments != {None} and len(environments) == 1:  # so that an evaluation refuses the same scenes
        origin = {"environment": environments.pop(), **origin}
    if (out / INFO_PATH).is_file():
        writer = DatasetWriter.resume(out)
    else:
        writer = DatasetWriter.create(
            out,
            fps=videos.fps,
            robot=videos.robot,
            cameras=videos.cameras,
            image_size={camera: videos.image_size(camera) for camera in videos.cameras},
            state_names=first.info.state_names,
            action_names=names,
            origin=origin,
            storage="video" if first.info.videos else "image",
        )
    reader = MomentReader(
        videos, FrameStore(videos, int(config.frames_gib * GIB)), config=config, cameras=network.cameras
    )
    places = [(part, i) for part, chosen in enumerate(as_view(videos).episodes) for i in chosen]
    with writer:
        for number in track(range(writer.num_episodes, len(videos)), "labelling"):
            part, own = places[number]
            dataset = _parts(videos)[part]
            entry, recorded = dataset.entries[own], videos.episode(number)
            writer.add_episode(
                Episode(
                    {camera: videos.frames(number, camera) for camera in videos.cameras},
                    recorded.state,
                    reader.predict(network, number, device=device),
                    recorded.instruction,
                    seed=entry.seed,
                    seen=entry.seen,
                    unseen=entry.unseen,
                )
            )
