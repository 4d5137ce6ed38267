"""Random clips of a dataset: frames per second of our reader and of `lerobot`'s own, in turns, on the same files.

    .interop/lerobot-0.6.1/bin/python benchmarks/clip_reads.py

Run it in an environment of `make test-interop`, with its FFmpeg for torchcodec (see the Makefile). Clips of 17 frames
of 2 cameras of 128 px, as float tensors on the CPU, from files as we write them (H.264) and as LeRobot records
them (AV1). Prints markdown.
"""

import importlib.metadata
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs

from video2act.clips import to_pixels
from video2act.data import DatasetWriter, Episode, LeRobotDataset

FPS, SIZE, EPISODES, LENGTH, FRAMES = 25, 128, 3, 80, 17
CAMERAS = ("front", "wrist")
REPEATS = 20


def pictures(episode: int, camera: int) -> np.ndarray:
    """A textured scene that pans, with a moving square: neither flat nor noise."""
    rng = np.random.default_rng(10 * episode + camera)
    coarse = rng.integers(0, 255, (48, 48, 3)).astype(np.float32)
    scene = torch.nn.functional.interpolate(
        torch.from_numpy(coarse).permute(2, 0, 1)[None], size=(400, 400), mode="bilinear"
    )
    image = scene[0].permute(1, 2, 0).numpy().astype(np.uint8)
    frames = np.stack([image[k : k + SIZE, 2 * k : 2 * k + SIZE] for k in range(LENGTH)])
    for k in range(LENGTH):
        frames[k, 50:70, k % 100 : k % 100 + 20] = (220, 40, 40)
    return frames


def write(ours: Path, theirs: Path) -> None:
    image = {"dtype": "video", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (4,), "names": list("abcd")}
    features = {"observation.state": vector, "action": vector} | {f"observation.images.{c}": image for c in CAMERAS}
    dataset = Theirs.create("test/clips", FPS, features, root=theirs, use_videos=True)
    names: dict[str, Any] = {"state_names": tuple("abcd"), "action_names": tuple("abcd")}
    with DatasetWriter.create(ours, fps=FPS, robot="arm", cameras=CAMERAS, image_size=SIZE, **names) as writer:
        for episode in range(EPISODES):
            numbers = np.random.default_rng(episode).normal(size=(LENGTH, 4)).astype(np.float32)
            frames = {camera: pictures(episode, i) for i, camera in enumerate(CAMERAS)}
            writer.add_episode(Episode(frames, numbers, numbers, "push"))
            for k in range(LENGTH):
                images = {f"observation.images.{camera}": value[k] for camera, value in frames.items()}
                dataset.add_frame({"observation.state": numbers[k], "action": numbers[k], **images, "task": "push"})
            dataset.save_episode()
    dataset.finalize()


def readers(root: Path, backends: list[str]) -> dict[str, Callable[[int], Any]]:
    """Name -> the clip whose newest frame is row `i`."""
    mine = LeRobotDataset(root)
    past = [-k / FPS for k in range(FRAMES)][::-1]
    deltas = {f"observation.images.{camera}": past for camera in CAMERAS}

    def ours(i: int) -> Any:
        episode, frame = divmod(i, LENGTH)
        clip = range(frame - FRAMES + 1, frame + 1)
        return [to_pixels(mine.frames(episode, c, numbers=clip), float(FPS)) for c in CAMERAS]

    found: dict[str, Callable[[int], Any]] = {"ours": ours}
    for backend in backends:
        dataset = Theirs("test/clips", root=root, delta_timestamps=deltas, video_backend=backend)
        found[f"lerobot, {backend}"] = dataset.__getitem__
    return found


def measure(found: dict[str, Callable[[int], Any]]) -> dict[str, np.ndarray]:
    """Seconds per clip, in turns."""
    rng = np.random.default_rng(0)
    rows = [
        int(e * LENGTH + f)
        for e, f in zip(rng.integers(0, EPISODES, REPEATS), rng.integers(FRAMES, LENGTH, REPEATS), strict=True)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for read in found.values():
        for row in rows[:3]:
            read(row)  # files are opened
    for row in rows:
        for name, read in found.items():
            started = perf_counter()
            read(row)
            seconds[name].append(perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def main() -> None:
    torch.set_num_threads(1)
    backends = ["pyav"]
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401

        backends.insert(0, "torchcodec")
    except (ImportError, RuntimeError, OSError):
        print("torchcodec cannot be loaded")
    print(
        f"lerobot {importlib.metadata.version('lerobot')}, {os.cpu_count()} cores, clips of {FRAMES} x "
        f"{len(CAMERAS)} frames"
    )
    print("\n| files | reader | frames/s (median) | ours is faster by |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        roots = {"ours, H.264": Path(folder) / "ours", "lerobot's, AV1": Path(folder) / "theirs"}
        write(*roots.values())
        for files, root in roots.items():
            seconds = {name: float(np.median(values)) for name, values in measure(readers(root, backends)).items()}
            for name, value in seconds.items():
                rate = FRAMES * len(CAMERAS) / value
                ratio = value / seconds["ours"]
                print(f"| {files} | {name} | {rate:.0f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
