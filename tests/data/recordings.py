"""Small made-up recordings, whose frames say which they are."""

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video2act.data import DatasetWriter, Episode
from video2act.data.video_file import encode, open_video

SIZE = 64
FPS = 20.0
CAMERAS = ("front", "wrist")


def decode(path: Path, first: int, *, count: int, fps: int) -> np.ndarray:
    reader = open_video(path)
    reader.check_rate(fps)
    return reader.frames(range(first, first + count))


def numbered_frames(first: int, count: int) -> np.ndarray:
    """A smooth moving pattern; the number of the frame stands in the top rows as ten black or white blocks."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE * 2 * np.pi
    numbers = np.arange(first, first + count)[:, None, None]
    gray = 128 + 50 * np.sin(x + 0.2 * numbers) * np.cos(y)
    frames = np.repeat(gray[..., None], 3, axis=3).astype(np.uint8)
    for bit in range(10):
        value = np.where(np.arange(first, first + count) >> bit & 1, 235, 20)
        frames[:, :6, 6 * bit : 6 * bit + 6] = value[:, None, None, None]
    return frames


def read_numbers(frames: np.ndarray) -> list[int]:
    """What `numbered_frames` wrote, also at half the size."""
    block = 6 * frames.shape[1] // SIZE
    is_set = [frames[:, :block, block * bit : block * (bit + 1)].mean(axis=(1, 2, 3)) > 128 for bit in range(10)]
    return [sum(int(bits[i]) << bit for bit, bits in enumerate(is_set)) for i in range(len(frames))]


def make_episode(number: int, length: int = 7, instruction: str = "push", has_action: bool = True) -> Episode:
    """Frames 100 * number + k in the front camera; the same in reverse order in the wrist camera."""
    rng = np.random.default_rng(number)
    frames = numbered_frames(100 * number, length)
    return Episode(
        frames={"front": frames, "wrist": frames[::-1]},
        state=rng.normal(size=(length, 3)).astype(np.float32),
        action=rng.normal(size=(length, 2)).astype(np.float32) if has_action else None,
        instruction=instruction,
        seed=number,
    )


def make_writer(
    root: Path,
    fps: float = FPS,
    has_action: bool = True,
    robot: str = "arm",
    storage: Literal["video", "image"] = "video",
) -> DatasetWriter:
    return DatasetWriter.create(
        root,
        fps=fps,
        robot=robot,
        cameras=CAMERAS,
        image_size=SIZE,
        state_names=("x", "y", "grip"),
        action_names=("dx", "dy") if has_action else (),
        storage=storage,
    )


def write_dataset(
    root: Path,
    episodes: list[Episode],
    fps: float = FPS,
    robot: str = "arm",
    storage: Literal["video", "image"] = "video",
) -> Path:
    with make_writer(root, fps, episodes[0].action is not None, robot, storage) as writer:
        for episode in episodes:
            writer.add_episode(episode)
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a dataset but work in progress."""
    files = (path for path in root.rglob("*") if path.is_file() and ".staging" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def copy(root: Path, to: Path) -> Path:
    shutil.copytree(root, to)
    return to


def change_info(root: Path, **changes: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_column(root: Path, file: str, name: str, values: list) -> None:
    path = root / file
    table = pq.read_table(path)
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(values, table.schema.field(name).type)), path)


def pack_videos(root: Path, drift_s: float = 0.0) -> Path:
    """All episodes of a camera in one mp4, as LeRobot's own writer does; times drift, as sums of rounded durations
    do."""
    info = json.loads((root / "meta/info.json").read_text())
    paths = sorted(root.glob("meta/episodes/*/*.parquet"))
    for camera in CAMERAS:
        key = f"observation.images.{camera}"
        folder, before = root / f"videos/{key}/chunk-000", 0
        lengths = [pq.read_table(path)["length"][0].as_py() for path in paths]
        files = [folder / f"file-{i:03d}.mp4" for i in range(len(paths))]
        frames = [decode(file, 0, count=length, fps=info["fps"]) for file, length in zip(files, lengths, strict=True)]
        for file in files:
            file.unlink()
        encode(files[0], np.concatenate(frames), fps=info["fps"])
        for i, path in enumerate(paths):
            start = before / info["fps"] + i * drift_s
            columns = {"file_index": 0, "from_timestamp": start, "to_timestamp": start + lengths[i] / info["fps"]}
            table = pq.read_table(path)
            for name, value in columns.items():
                name = f"videos/{key}/{name}"
                table = table.set_column(table.column_names.index(name), name, pa.array([value]))
            pq.write_table(table, path)
            before += lengths[i]
    return root
