"""What System 2's frozen part made of a dataset, on disk: computed once, read at every training step.

    cache.json            what is stored, and what it was made of: the manifest
    000000.safetensors    one episode; every tensor with its checksum

One file per episode, written whole or not at all, so that an interrupted filling goes on where it stopped and several processes
can share the work. What the contents depend on (weights, streams, data) is in the manifest, and a cache that was made of anything
else is refused with the difference. Stored channels last, as a former reads them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from video2act.atomic import publish, write_text
from video2act.types import Stage, Video

MANIFEST = "cache.json"
FACTS = "streams"
"""entry of an episode's metadata"""
SAMPLES = 4096
"""values of a large tensor whose places count, too"""

Dtype = Literal["float16", "bfloat16", "float32"]


class StaleCacheError(ValueError):
    """A cache that was made of something else; the message says of what."""


@dataclass(frozen=True)
class CacheSpec:
    """The manifest."""

    stage: Stage = "seen"
    dtype: Dtype = "float16"
    every: int = 1
    """control steps between two clips that are stored"""
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """streams of which single latents are stored -> control steps per latent, latents in a clip"""
    described: Mapping[str, Any] = field(default_factory=dict)
    """what the contents depend on, as json"""

    @property
    def name(self) -> str:
        """A short name that changes when anything does."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        return json.dumps({**vars(self), "windows": dict(self.windows)}, indent=2, sort_keys=True) + "\n"

    def differences(self, other: "CacheSpec") -> list[str]:
        """What is not the same in another manifest: `streams.motion.stride: 1 there, 2 here`."""
        ours, theirs = _flat(json.loads(self.to_json())), _flat(json.loads(other.to_json()))
        return [
            f"{key}: {theirs.get(key, 'nothing')} there, {ours.get(key, 'nothing')} here"
            for key in sorted(ours | theirs)
            if ours.get(key) != theirs.get(key)
        ]


def load_spec(root: Path) -> CacheSpec:
    """The manifest of a cache.

    Raises:
        FileNotFoundError, ValueError: it is no cache, or its manifest is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{root} is not a cache ({MANIFEST} is missing); make one with video2act cache")
    try:
        fields = json.loads(path.read_text())
        windows = {name: (int(step), int(count)) for name, (step, count) in fields.pop("windows").items()}
        return CacheSpec(**fields, windows=windows)
    except (json.JSONDecodeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not the manifest of a cache ({error}); remove {root} and fill it again") from error


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A short name for the values of tensors: it changes with any of them.

    Gigabytes are not hashed: of a large tensor the sum of all its bits, as numbers, and some of its values in their places.
    """
    hasher = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().contiguous().view(-1)
        hasher.update(f"{name} {list(weights[name].shape)} {tensor.dtype}".encode())
        bits = tensor.view(torch.uint8)
        if len(tensor) > 16 * SAMPLES and len(bits) % 4 == 0:
            hasher.update(str(int(bits.view(torch.int32).sum(dtype=torch.int64))).encode())
            bits = tensor[torch.linspace(0, len(tensor) - 1, SAMPLES, dtype=torch.float64).long()].view(torch.uint8)
        hasher.update(bits.cpu().numpy().tobytes())
    return hasher.hexdigest()[:16]


class FeatureCache:
    """Per episode and stream, a `Video` for the clip that ends at each frame.

    Raises:
        StaleCacheError: the folder holds another cache.
    """

    def __init__(self, root: Path, spec: CacheSpec | None = None):
        self.root = root
        self.spec = spec or CacheSpec()
        if (root / MANIFEST).is_file() and (found := self.spec.differences(load_spec(root))):
            raise StaleCacheError(
                f"the cache {root} was made of something else: {'; '.join(found)}. Fill another folder, or remove this one"
            )
        self._open = lru_cache(maxsize=256)(_open)

    def __contains__(self, episode: int) -> bool:
        return self._path(episode).is_file()

    def begin(self) -> None:
        """Write the manifest, for the first time or again."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_text(self.root / MANIFEST, self.spec.to_json())

    def write(self, episode: int, seen: dict[str, Video]) -> None:
        """Store one episode; the batch axis of each video is the clip's number, or the latent's."""
        self.root.mkdir(parents=True, exist_ok=True)
        dtype = getattr(torch, self.spec.dtype)
        tensors = {name: video.grid.to("cpu", dtype).movedim(1, -1).contiguous() for name, video in seen.items()}
        facts = {name: {"fps": float(video.fps), "crc32": _checksum(tensors[name])} for name, video in seen.items()}
        temporary = self.root / f"{episode:06d}.{os.getpid()}.tmp"
        try:
            # as one entry: safetensors writes several in any order, and the same cache shall be the same bytes
            save_file(tensors, temporary, metadata={FACTS: json.dumps(facts)})
            publish(temporary, self._path(episode))
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
        """A batch of what was seen at (episode, frame) places.

        Raises:
            FileNotFoundError: an episode has not been written.
        """
        rows: dict[str, list[Tensor]] = {}
        fps: dict[str, float] = {}
        for episode, frame in places:
            file = self._open(self._path(episode))
            fps = {name: entry["fps"] for name, entry in _facts(file).items()}
            for name in fps:
                rows.setdefault(name, []).append(self._clip(file, name, episode, frame))
        return {name: Video(torch.cat(grids).float().movedim(-1, 1), fps[name]) for name, grids in rows.items()}

    def whole(self, episode: int) -> dict[str, Video]:
        """All that is stored of an episode, as it was written."""
        file = self._open(self._path(episode))
        fps = {name: entry["fps"] for name, entry in _facts(file).items()}
        return {name: Video(file.get_tensor(name).float().movedim(-1, 1), fps[name]) for name in fps}

    def verify(self, episode: int) -> str | None:
        """Read an episode whole and compare it with its checksums; what is wrong, if anything."""
        path = self._path(episode)
        try:
            with safe_open(path, framework="pt") as file:
                for name, entry in _facts(file).items():
                    tensor = file.get_tensor(name)
                    if entry["crc32"] != _checksum(tensor):
                        return f"{path}: {name} is not what was written; remove the file and fill the cache again"
                    if not bool(tensor.isfinite().all()):
                        return f"{path}: {name} holds values that are not finite: too large for {self.spec.dtype}"
        except FileNotFoundError:
            return f"{path} does not exist: episode {episode} was never filled; fill the cache again"
        except SafetensorError as error:
            return f"{path} is not readable ({error}); remove the file and fill the cache again"
        return None

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.root.glob("*.safetensors"))

    def check_room(self, episode: int, num_left: int, max_bytes: int | None) -> None:
        """Refuse to go on where what is left, at the size of an episode that is there, does not fit.

        Raises:
            OSError: it is more than `max_bytes` in all, or than the disk has.
        """
        size = self._path(episode).stat().st_size
        total, free = self.num_bytes + num_left * size, shutil.disk_usage(self.root).free
        remedy = "store an earlier stage, encode as a stream, or use fewer episodes or smaller streams"
        if max_bytes is not None and total > max_bytes:
            raise OSError(f"the cache would take {total / 2**30:.2f} GiB, more than {max_bytes / 2**30:.2f} GiB: {remedy}")
        if num_left * size > 0.95 * free:
            raise OSError(
                f"the cache needs {num_left * size / 2**30:.2f} GiB more, the disk has {free / 2**30:.2f} GiB: {remedy}"
            )

    def _clip(self, file: Any, name: str, episode: int, frame: int) -> Tensor:
        slices = file.get_slice(name)
        count = slices.get_shape()[0]
        step, length = self.spec.windows.get(name, (self.spec.every, 0))
        row = (frame - frame % self.spec.every) // step
        if row >= count:
            raise IndexError(f"{self._path(episode)} has no frame {frame}; remove {self.root} and retry")
        if not length:
            return slices[row : row + 1]
        # single latents, one after another: those before the episode are its first
        latents = slices[max(0, row - length + 1) : row + 1].movedim(1, 0)
        missing = length - latents.shape[1]
        return torch.cat([latents[:, :1].expand(-1, missing, *latents.shape[2:]), latents], dim=1) if missing else latents

    def _path(self, episode: int) -> Path:
        return self.root / f"{episode:06d}.safetensors"


def _facts(file: Any) -> dict[str, dict[str, Any]]:
    """Stream -> rate and checksum."""
    return json.loads(file.metadata()[FACTS])


def _checksum(tensor: Tensor) -> int:
    values: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return crc32(values)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested json as one level of dotted keys; entries of lists go by their `name`, if they have one."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in _flat(item, f"{prefix}.{name}" if prefix else name).items()
    }


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: the cache of this episode was never filled; remove {path.parent} and retry"
        )
    return safe_open(path, framework="pt")
