"""Trains an inverse-dynamics model, measures it, and writes its labels. `programs/label.py` checks the input."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from video2act.config import InverseTrainConfig
from video2act.data import Dataset, DatasetWriter, Episode, FrameStore, as_view, load_origin
from video2act.data.frame_store import GIB
from video2act.data.labels import DimensionError, Labels, labelled_form, recorded_parts
from video2act.data.lerobot_format import INFO_PATH
from video2act.data.lerobot_reader import statistics
from video2act.data.origin import load_visual_shift
from video2act.files.atomic import write_text
from video2act.files.weights import load_weights, save_weights
from video2act.progress import track
from video2act.training.inverse_dynamics import InverseDynamics, MomentReader, held_out_errors
from video2act.training.loop import TrainingLoop, processes
from video2act.training.resuming import check_free

MODEL_FILE, WEIGHTS_FILE = "inverse_dynamics.json", "model.safetensors"


def write_labels(
    data: Dataset,
    videos: Dataset,
    *,
    config: InverseTrainConfig,
    is_trained: bool,
    out: Path,
    folder: Path,
    identity: dict[str, Any],
    settings: dict[str, Any],
) -> Labels | None:
    """Result and errors as for `video2act.label`.

    Args:
        folder: the model's; it is trained first, unless `is_trained`.
        identity: what the model is made of: fingerprint of the data, cameras, whether it reads the state.
        settings: what labels that go on must agree in.
    """
    cameras = identity["cameras"]
    learned, held_out = split_by_seed(len(data), config.held_out_fraction, seed=config.seed)
    stats = statistics([data.episode(i) for i in learned])
    torch.manual_seed(config.seed)
    read = stats if identity["use_state"] else {"action": stats["action"]}
    network = InverseDynamics(config, cameras, statistics=read)
    reader = MomentReader(data, FrameStore(data, int(config.frames_gib * GIB)), config=config, cameras=cameras)
    if not is_trained:
        _train(network, reader, config=config, folder=folder, identity=identity, episodes=(learned, held_out))
    if not processes().is_main_process:
        return None
    load_weights(network.to(processes().device or "cpu").eval(), folder / WEIGHTS_FILE)
    names = recorded_parts(data)[0].info.action_names
    errors = held_out_errors(network, reader, episodes=held_out, names=names)
    labels = Labels(tuple(range(len(videos))), len(learned), len(held_out), errors)
    _print_errors(errors, labels)
    origin = {**settings, **labels.record()}
    # datasets that record none may stand beside others; those that record some agree
    relative = next(filter(None, (part.relative_actions for part in recorded_parts(data))), ())
    form = labelled_form(data, videos) | {"relative_actions": relative}
    _write(out, videos, network, config=config, form=form, origin=origin)
    print(f"{out}: {labels}")
    return labels


def split_by_seed(count: int, fraction: float, *, seed: int) -> tuple[list[int], list[int]]:
    """Episodes to learn from and to measure on, at least one each."""
    order = np.random.default_rng([seed, count]).permutation(count).tolist()
    num_held_out = min(count - 1, max(1, round(fraction * count)))
    return sorted(order[num_held_out:]), sorted(order[:num_held_out])


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
    has_begun = check_free(folder, resume=True)
    with TrainingLoop(network, config, folder=folder, resume=has_begun, identity=identity) as loop:
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
            escape(error.name),
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
    form: dict[str, Any],
    origin: dict[str, Any],
) -> None:
    """Every episode with its labels; those that are there already are left."""
    device = next(network.parameters()).device
    environments = {load_origin(part.root).get("environment") for part in recorded_parts(videos)}
    if environments != {None} and len(environments) == 1:  # so that an evaluation refuses the same scenes
        origin = {"environment": environments.pop(), **origin}
    shifts = {load_visual_shift(part.root) for part in recorded_parts(videos)}
    if shifts != {""}:
        origin = {"visual_shift": shifts.pop() if len(shifts) == 1 else "mixed", **origin}
    if (out / INFO_PATH).is_file():
        writer = DatasetWriter.resume(out)
    else:
        writer = DatasetWriter.create(out, origin={**origin, "orientation": videos.orientation}, **form)
    reader = MomentReader(
        videos, FrameStore(videos, int(config.frames_gib * GIB)), config=config, cameras=network.cameras
    )
    places = as_view(videos).places
    with writer:
        for number in track(range(writer.num_episodes, len(videos)), "labelling", unit="episode"):
            part, own = places[number]
            dataset = recorded_parts(videos)[part]
            entry, recorded = dataset.entries[own], videos.episode(number)
            writer.add_episode(
                Episode(
                    {camera: videos.frames(number, camera) for camera in videos.cameras},
                    recorded.state,
                    reader.predict(network, number, device=device),
                    recorded.instruction,
                    seed=entry.seed,
                    environment=entry.environment,
                    seen=entry.seen,
                    unseen=entry.unseen,
                )
            )
