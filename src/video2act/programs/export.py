"""`video2act export`: a run folder -> a folder that onnxruntime or OpenVINO runs, checked against PyTorch."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from video2act.config import ExportOptions, PolicyConfig, camera_and_lag
from video2act.data.opening import open_as_trained
from video2act.engines.choice import check_engine, check_export
from video2act.engines.folder import Engine
from video2act.files.run_folder import STATISTICS_FILE, load_config, load_instructions
from video2act.statistics import Statistics, load_statistics
from video2act.types import Observation

ENGINE_OF: dict[str, Engine] = {"onnx": "onnxruntime", "openvino": "openvino"}
NUM_OBSERVATIONS = 40


def export(run: Path | str, *, to: Literal["onnx", "openvino"], **options: Any) -> str:
    """Write the folder. Returns what was written and how exact it is.

    Args:
        to: the form: of onnxruntime, or of OpenVINO.
        options: the other fields of `ExportOptions`.
    Raises:
        ImportError: the engine is not installed.
        FileNotFoundError, FileExistsError, ValueError: the run folder cannot be read or exported, or the check fails.
            Nothing is left then.
    """
    chosen = ExportOptions(run=Path(run), to=to, **options)
    check_engine(chosen.run, "torch")
    config = load_config(chosen.run)
    engine = ENGINE_OF[chosen.to]
    check_export(config, chosen.folder, engine=engine, has_system2=chosen.only is None, int8=chosen.int8)
    statistics = load_statistics(chosen.run / STATISTICS_FILE)["state"]
    if chosen.data is None:
        instruction = next(iter(load_instructions(chosen.run)), "move")
        observations, checked_on = drawn_observations(config, statistics, instruction=instruction), "drawn observations"
    else:
        observations = recorded_observations(config, chosen.data, run=chosen.run, episode=chosen.episode)
        checked_on = f"episode {chosen.episode} of {chosen.data.name}"
    observations = list(itertools.islice(observations, NUM_OBSERVATIONS))

    from video2act.engines.export import export_policy  # torch: after the input was checked
    from video2act.policy import Video2Act

    parity = export_policy(
        Video2Act.load(chosen.run),
        chosen.folder,
        engine=engine,
        observations=observations,
        checked_on=checked_on,
        only_system1=chosen.only is not None,
        int8=chosen.int8,
    )
    size_mb = sum(file.stat().st_size for file in chosen.folder.iterdir()) / 1e6
    return (
        f"{chosen.folder}: {size_mb:.1f} MB; on {checked_on} normalised actions differ from PyTorch's in "
        f"float32 by at most {parity.actions:.1e}, System 2's tokens by {parity.tokens:.1e}"
    )


def recorded_observations(config: PolicyConfig, data: Path, *, run: Path, episode: int) -> Iterator[Observation]:
    """The observations of an episode, with the state of the run's training.

    Raises:
        FileNotFoundError, IndexError, ValueError: the dataset does not fit the policy.
    """
    dataset = open_as_trained(data, run)
    missing = set(config.all_cameras) - set(dataset.cameras)
    if missing or dataset.state_dim != config.state_dim:
        raise ValueError(
            f"{data} does not fit this policy: it has cameras {', '.join(dataset.cameras)} and a state of "
            f"{dataset.state_dim} numbers, the policy needs {', '.join(config.all_cameras)} and {config.state_dim}"
        )
    if not 0 <= episode < len(dataset):
        raise ValueError(f"{data} has episodes 0..{len(dataset) - 1}, asked for {episode}")
    found, stop = dataset.episode(episode), min(dataset.lengths[episode], NUM_OBSERVATIONS)
    frames = {camera: dataset.frames(episode, camera, numbers=range(stop)) for camera in config.all_cameras}
    for step in range(stop):
        images = {camera: frames[camera][step] for camera in frames}
        yield Observation(images, found.state[step], found.instruction[step], step / config.fps)


def drawn_observations(config: PolicyConfig, statistics: Statistics, *, instruction: str) -> Iterator[Observation]:
    """States within the range of the training, and pictures of coloured squares that move."""
    draw = np.random.default_rng(0)
    low, high = np.array(statistics.min), np.array(statistics.max)
    side = max([config.image_px, *(max(s.frame_px) for s in (config.system2.streams if config.system2 else ()))])
    cameras = {camera_and_lag(camera)[0] for camera in config.all_cameras}
    backgrounds = {camera: draw.integers(0, 256, (side, side, 3), dtype=np.uint8) for camera in sorted(cameras)}
    for step in itertools.count():
        images = {camera: picture.copy() for camera, picture in backgrounds.items()}
        place = step % (side - side // 8)
        for picture in images.values():
            picture[place : place + side // 8, place : place + side // 4] = (250, 40, 40)
        state = draw.uniform(low, high).astype(np.float32)
        yield Observation(images, state, instruction, step / config.fps)
