"""Datasets exchanged with the real `lerobot`: run by `make test-interop` in a virtual environment that holds both.

    python tests/interop/lerobot_exchange.py FOLDER

What we write is read by LeRobotDataset, what it records is read by us, and every number and every pixel is compared.
Prints one line per exchange, with versions, and ends with an error at the first difference.
"""

import importlib.metadata
import inspect
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from video2act.data import DatasetWriter, Episode, LeRobotDataset
from video2act.data.check import check_dataset
from video2act.data.lerobot_format import Feature

FPS, SIZE, LENGTHS = 20, (64, 96), (37, 23, 41)
CAMERAS = ("top", "left_wrist")
TASKS = ("push the block", "pull it back", "push the block")
PACKAGES = ("lerobot", "torch", "torchcodec", "datasets", "av", "diffusers", "transformers", "huggingface-hub")


def frames_of(episode: int, camera: str) -> np.ndarray:
    """A moving pattern with some texture; every frame is unlike every other."""
    h, w = SIZE
    y, x = np.mgrid[:h, :w]
    rng = np.random.default_rng(episode)
    texture = rng.integers(0, 40, (h, w, 3))
    frames = []
    for k in range(LENGTHS[episode]):
        wave = 110 + 60 * np.sin((x + 3 * k + 10 * CAMERAS.index(camera)) / 9.0) * np.cos((y - k) / 7.0)
        frames.append((wave[..., None] + texture + np.array([0, 15, 30]) * (episode + 1)).clip(0, 255))
    return np.stack(frames).astype(np.uint8)


def numbers_of(episode: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100 + episode)
    t = LENGTHS[episode]
    return {
        "observation.state": rng.normal(size=(t, 5)).astype(np.float32),
        "action": rng.normal(size=(t, 3)).astype(np.float32),
        "next.reward": rng.normal(size=(t, 1)).astype(np.float32),
    }


def write_ours(root: Path, storage: Any) -> None:
    extra = {"next.reward": Feature("float32", (1,))}
    names: dict[str, Any] = {"state_names": tuple("abcde"), "action_names": tuple("xyz")}
    sizes: dict[str, tuple[int, int]] = dict.fromkeys(CAMERAS, SIZE)
    with DatasetWriter.create(
        root, fps=FPS, robot="arm", cameras=CAMERAS, image_size=sizes, extra=extra, storage=storage, **names
    ) as writer:
        for i, task in enumerate(TASKS):
            numbers = numbers_of(i)
            pictures = {camera: frames_of(i, camera) for camera in CAMERAS}
            own = {"next.reward": numbers["next.reward"][:, 0]}
            state, action = numbers["observation.state"], numbers["action"]
            writer.add_episode(
                Episode(pictures, state, action, task, seed=i, extra=own, seen=(task,), unseen=("shove",))
            )


def write_theirs(root: Path, use_videos: bool, codec: str | None, in_two: bool) -> None:
    """`in_two`: the first two episodes share their files, the last one has its own, in another folder."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs

    kind = "video" if use_videos else "image"
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (5,), "names": list("abcde")},
        "action": {"dtype": "float32", "shape": (3,), "names": list("xyz")},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    image = {"dtype": kind, "shape": (*SIZE, 3), "names": ["height", "width", "channels"]}
    features |= {f"observation.images.{camera}": image for camera in CAMERAS}
    options: dict[str, Any] = {}
    parameters = inspect.signature(Theirs.create).parameters
    if codec and "vcodec" in parameters:
        options["vcodec"] = codec
    elif codec and "rgb_encoder" in parameters:
        config = parameters["rgb_encoder"].annotation
        from lerobot.datasets import lerobot_dataset

        kind_of = getattr(lerobot_dataset, "RGBEncoderConfig", config)
        options["rgb_encoder"] = kind_of(vcodec=codec)
    dataset = Theirs.create("test/theirs", FPS, features, root=root, robot_type="arm", use_videos=use_videos, **options)
    for i, task in enumerate(TASKS):
        if in_two and i == 2:
            dataset.meta.update_chunk_settings(chunks_size=1, data_files_size_in_mb=1e-4, video_files_size_in_mb=1e-4)
        numbers, pictures = numbers_of(i), {camera: frames_of(i, camera) for camera in CAMERAS}
        for k in range(LENGTHS[i]):
            frame: dict[str, Any] = {name: values[k] for name, values in numbers.items()}
            frame |= {f"observation.images.{camera}": images[k] for camera, images in pictures.items()}
            dataset.add_frame({**frame, "task": task})
        dataset.save_episode()
    dataset.finalize()


def read_theirs(root: Path, backend: str) -> Iterator[dict[str, Any]]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs

    dataset = Theirs("test/exchange", root=root, video_backend=backend)
    assert dataset.meta.total_episodes == len(LENGTHS)
    for i in range(len(dataset)):
        yield dataset[i]


def compare(root: Path, backend: str) -> str:
    """Their reader against ours, frame by frame; what was compared."""
    ours = LeRobotDataset(root)
    theirs = read_theirs(root, backend)
    largest, pictures = 0, 0
    for i, length in enumerate(LENGTHS):
        episode = ours.episode(i)
        numbers = numbers_of(i)
        reward = np.asarray(ours.column(i, "next.reward")).reshape(-1)
        own = {camera: ours.frames(i, camera) for camera in CAMERAS}
        for k in range(length):
            item = next(theirs)
            assert item["task"] == TASKS[i] == episode.instruction[k]
            assert (int(item["episode_index"]), int(item["frame_index"])) == (i, k)
            assert episode.action is not None
            assert np.array_equal(item["observation.state"].numpy(), numbers["observation.state"][k])
            assert np.array_equal(episode.state[k], numbers["observation.state"][k])
            assert np.array_equal(item["action"].numpy(), episode.action[k])
            assert np.array_equal(episode.action[k], numbers["action"][k])
            assert float(item["next.reward"]) == float(reward[k]) == float(numbers["next.reward"][k, 0])
            for camera in CAMERAS:
                picture = np.rint(item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0) * 255).astype(int)
                largest = max(largest, int(np.abs(picture - own[camera][k]).max()))
                error = ((own[camera][k].astype(float) - frames_of_cached(i, camera)[k]) ** 2).mean()
                assert 10 * np.log10(255**2 / max(error, 1e-9)) > 24, (
                    f"episode {i}, frame {k}, {camera}: another picture"
                )
                pictures += 1
    assert next(theirs, None) is None
    return f"{sum(LENGTHS)} rows, {pictures} pictures ({backend}), largest difference {largest} of 255"


_frames: dict[tuple[int, str], np.ndarray] = {}


def frames_of_cached(episode: int, camera: str) -> np.ndarray:
    if (episode, camera) not in _frames:
        _frames[episode, camera] = frames_of(episode, camera)
    return _frames[episode, camera]


def files(root: Path) -> str:
    kinds = (("data/*/*.parquet", "parquet"), ("videos/*/*/*.mp4", "mp4"))
    return ", ".join(f"{len(list(root.glob(pattern)))} {name}" for pattern, name in kinds)


def backends() -> list[str]:
    found = ["pyav"]
    try:
        from torchcodec.decoders import VideoDecoder  # noqa: F401

        found.append("torchcodec")
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchcodec cannot be loaded ({str(error).splitlines()[0]}); pictures are compared through pyav alone")
    return found


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}")
    for storage in ("video", "image"):
        root = folder / f"ours_{storage}"
        write_ours(root, storage)
        for backend in backends() if storage == "video" else ["pyav"]:
            print(f"ours ({storage}; {files(root)}) -> lerobot: {compare(root, backend)}")
    for kind, codec in (("av1", None), ("h264", "h264"), ("hevc", "hevc"), ("h264 in two", "h264"), ("images", None)):
        root = folder / f"theirs_{kind.replace(' ', '_')}"
        write_theirs(root, kind != "images", codec, in_two="two" in kind)
        faults = check_dataset(root)
        assert not faults, faults
        chosen = ["pyav"] if kind == "images" else backends()
        if kind == "hevc" and importlib.metadata.version("lerobot").startswith("0.4"):
            chosen.remove("pyav")  # through torchvision, 0.4 does not find the frames of its own hevc
        for backend in chosen:
            print(f"lerobot ({kind}; {files(root)}) -> ours: {compare(root, backend)}; info --check finds nothing")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
