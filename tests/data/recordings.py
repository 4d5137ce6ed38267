"""Small made-up recordings, whose frames say which they are."""

import shutil
from pathlib import Path

import numpy as np

from video2act.data import DatasetWriter, Episode

SIZE = 64
FPS = 20.0
CAMERAS = ("front", "wrist")


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


def make_writer(root: Path, fps: float = FPS, has_action: bool = True, robot: str = "arm") -> DatasetWriter:
    return DatasetWriter.create(
        root,
        fps=fps,
        robot=robot,
        cameras=CAMERAS,
        image_size=SIZE,
        state_names=("x", "y", "grip"),
        action_names=("dx", "dy") if has_action else (),
    )


def write_dataset(root: Path, episodes: list[Episode], fps: float = FPS, robot: str = "arm") -> Path:
    with make_writer(root, fps, episodes[0].action is not None, robot) as writer:
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
