"""What System 2's frozen part saw at every frame of a dataset, on disk: seen once, read at every training step.

One file per episode, written whole or not at all, so that an interrupted filling goes on where it stopped and several processes
can share the work. The folder's name is a digest of everything the contents depend on (weights, streams, data), so contents that
do not belong to a run are never read by it. Stored in half precision, channels last, as a former reads them.
"""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from video2act.types import Video


def digest(description: Any, weights: dict[str, Tensor]) -> str:
    """A short name for json-able settings together with the exact values of tensors."""
    hasher = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(weights):
        hasher.update(name.encode())
        hasher.update(weights[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()[:16]


class FeatureCache:
    """Per episode and stream, a `Video` for the clip that ends at each frame."""

    def __init__(self, root: Path):
        self.root = root
        self._open = lru_cache(maxsize=256)(_open)

    def __contains__(self, episode: int) -> bool:
        return self._path(episode).is_file()

    def write(self, episode: int, seen: dict[str, Video]) -> None:
        """Store one episode; the batch axis of each video is the frame at which its clip ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        tensors = {name: video.grid.to("cpu", torch.float16).movedim(1, -1).contiguous() for name, video in seen.items()}
        temporary = self.root / f"{episode:06d}.{os.getpid()}.tmp"
        save_file(tensors, temporary, metadata={name: repr(float(video.fps)) for name, video in seen.items()})
        os.replace(temporary, self._path(episode))

    def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
        """A batch of what was seen at (episode, frame) places.

        Raises:
            FileNotFoundError: an episode has not been written.
        """
        rows: dict[str, list[Tensor]] = {}
        fps: dict[str, float] = {}
        for episode, frame in places:
            file = self._open(self._path(episode))
            fps = {name: float(value) for name, value in file.metadata().items()}
            for name in fps:
                rows.setdefault(name, []).append(file.get_slice(name)[frame : frame + 1])
                if not len(rows[name][-1]):
                    raise IndexError(f"{self._path(episode)} has no frame {frame}; remove {self.root} and retry")
        return {name: Video(torch.cat(grids).float().movedim(-1, 1), fps[name]) for name, grids in rows.items()}

    def _path(self, episode: int) -> Path:
        return self.root / f"{episode:06d}.safetensors"


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: the cache of this episode was never filled; remove {path.parent} and retry"
        )
    return safe_open(path, framework="pt")
