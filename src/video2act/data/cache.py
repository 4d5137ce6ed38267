"""The output of System 2's frozen part for a dataset, on disk: computed once, read at every training step.

    cache.json            the manifest: what is stored, and what it was computed from
    000000.safetensors    one episode; every tensor with its checksum

One file per episode, written whole or not at all: an interrupted filling resumes, and several processes can share the
work. The manifest holds what the contents depend on (weights, streams, data); another cache is refused with the
difference. Each file holds its episode's number and its number of rows, so that a damaged or exchanged file is
noticed. Channels are stored last, as a former reads them.
"""

import json
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from video2act.config.plain import parse_json
from video2act.data.cache_manifest import MANIFEST, CacheSpec, StaleCacheError, load_spec
from video2act.files.atomic import replacing, write_text
from video2act.types import Video

FACTS = "episode"
"""entry of a file's metadata: its number, and of each stream rate, rows and checksum"""
REFILL = "remove the file and fill the cache again"
SMALLER = "store an earlier stage, encode as a stream, or use fewer episodes or smaller streams"


class FeatureCache:
    """Per episode and stream, a `Video` for the clip that ends at each frame.

    Args:
        max_bytes: what the files may take together.
    Raises:
        StaleCacheError: the folder holds another cache.
    """

    def __init__(self, root: Path | str, spec: CacheSpec | None = None, *, max_bytes: int | None = None):
        self.root = Path(root)
        self.max_bytes = max_bytes
        self.spec = spec or CacheSpec()
        self._open = lru_cache(maxsize=256)(_open)
        self._check_manifest()

    def _check_manifest(self) -> None:
        if (self.root / MANIFEST).is_file() and (found := self.spec.differences(load_spec(self.root))):
            problem = f"the cache {self.root} was made of something else: {'; '.join(found)}"
            raise StaleCacheError(f"{problem}. Fill another folder, or remove this one")

    def __contains__(self, episode: int) -> bool:
        return self._path(episode).is_file()

    def begin(self) -> None:
        """Write the manifest, if there is none; the caller holds the folder's lock. Raises StaleCacheError: another
        process filled another cache meanwhile; ValueError: the folder holds episodes but no manifest."""
        self._check_manifest()
        if not (self.root / MANIFEST).is_file():
            if found := next(self.root.glob("*.safetensors"), None):
                problem = f"{self.root} holds {found.name} but no {MANIFEST}, so nobody knows what it was made of"
                raise ValueError(f"{problem}; remove the folder, or fill another one")
            write_text(self.root / MANIFEST, self.spec.to_json())

    def write(self, episode: int, seen: dict[str, Video]) -> None:
        """Store one episode; the batch axis of each video is the clip's number, or the latent's. Raises ValueError: a
        value is not finite, or too large for the dtype; OSError: the files would take more than `max_bytes`."""
        dtype = getattr(torch, self.spec.dtype)
        tensors = {name: video.grid.to("cpu", dtype).movedim(1, -1).contiguous() for name, video in seen.items()}
        for name, video in seen.items():
            _check_finite(f"episode {episode}, {name}", video.grid, stored=tensors[name])
        streams = {
            name: {"fps": float(video.fps), "rows": len(tensors[name]), "crc32": _checksum(tensors[name])}
            for name, video in seen.items()
        }
        facts = {"number": episode, "streams": streams}
        with replacing(self._path(episode)) as temporary:
            # as one entry: safetensors writes several in any order, and the same cache shall be the same bytes
            save_file(tensors, temporary, metadata={FACTS: json.dumps(facts)})
            replaced = self._path(episode).stat().st_size if episode in self else 0
            self._check_bound(temporary.stat().st_size - replaced)
        self._open.cache_clear()  # it may have replaced a file that was open

    def size(self, seen: dict[str, Video]) -> int:
        """Bytes that the values of an episode will take."""
        itemsize = getattr(torch, self.spec.dtype).itemsize
        return sum(video.grid.numel() * itemsize for video in seen.values())

    def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
        """A batch of what was seen at (episode, frame) places. Raises FileNotFoundError: an episode has not been
        written; ValueError: a file is damaged, or of another episode; it is named."""
        opened = [(*self._open(self._path(episode), episode), episode, frame) for episode, frame in places]
        return {
            name: _video([self._clip(file, name, episode=i, frame=frame) for file, _, i, frame in opened], facts)
            for name, facts in opened[-1][1].items()
        }

    def whole(self, episode: int) -> dict[str, Video]:
        """All that is stored of an episode, as it was written."""
        file, facts = self._open(self._path(episode), episode)
        return {name: _video([file.get_tensor(name)], entry) for name, entry in facts.items()}

    def fault(self, episode: int, num_frames: int | None = None) -> str | None:
        """What is wrong with the file of an episode, as far as it shows without reading the values; None: nothing.

        Args:
            num_frames: of the episode, if it is known.
        """
        path = self._path(episode)
        try:
            _, facts = _open(path, episode)
        except FileNotFoundError:
            return f"{path} does not exist: episode {episode} was never filled; fill the cache again"
        except ValueError as error:
            return str(error)
        for name, entry in facts.items():
            expected = entry["rows"] if num_frames is None else self.spec.num_rows(name, num_frames)
            if entry["rows"] < expected:
                return f"{path}: {name} has {entry['rows']} rows, expected {expected}; {REFILL}"
        return None

    def missing(self, lengths: Sequence[int]) -> list[int]:
        """The episodes of a dataset whose files are not there, or damaged, by the numbers of their frames."""
        return [episode for episode, length in enumerate(lengths) if self.fault(episode, length)]

    def verify(self, episode: int, num_frames: int | None = None) -> str | None:
        """Read an episode whole and compare it with its checksums; what is wrong, if anything."""
        if fault := self.fault(episode, num_frames):
            return fault
        path = self._path(episode)
        file, facts = _open(path, episode)
        for name, entry in facts.items():
            tensor = file.get_tensor(name)
            if entry["crc32"] != _checksum(tensor):
                return f"{path}: {name} is not what was written; {REFILL}"
            if not bool(tensor.isfinite().all()):
                return f"{path}: {name} holds values that are not finite: too large for {self.spec.dtype}"
        return None

    @property
    def num_bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in (*self.root.glob("*.safetensors"), *self.root.glob(MANIFEST)))

    def check_room(self, num_bytes: int) -> None:
        """Refuse to go on where what is still to be written does not fit. Raises OSError: it is more than `max_bytes`
        in all, or than the disk has."""
        self._check_bound(num_bytes)
        free = shutil.disk_usage(
            next(each for each in (self.root, *self.root.absolute().parents) if each.exists())
        ).free
        if num_bytes > 0.95 * free:
            raise OSError(f"the cache needs {_gib(num_bytes)} more, the disk has {_gib(free)}: {SMALLER}")

    def _check_bound(self, num_bytes: int) -> None:
        if self.max_bytes is None:  # to look at every file takes long where there are many
            return
        total = self.num_bytes + num_bytes
        if total > self.max_bytes:
            raise OSError(f"the cache would take {_gib(total)}, more than {_gib(self.max_bytes)}: {SMALLER}")

    def _clip(self, file: Any, name: str, *, episode: int, frame: int) -> Tensor:
        slices = file.get_slice(name)
        count = slices.get_shape()[0]
        step, length, every = self.spec.window(name)
        row = (frame - frame % every) // step
        if row >= count:
            raise ValueError(f"{self._path(episode)} has no frame {frame}; {REFILL}")
        if not length:
            return slices[row : row + 1]
        # single latents, one after another: those before the episode are its first
        latents = slices[max(0, row - length + 1) : row + 1].movedim(1, 0)
        missing = length - latents.shape[1]
        first = latents[:, :1].expand(-1, missing, *latents.shape[2:])
        return torch.cat([first, latents], dim=1) if missing else latents

    def _path(self, episode: int) -> Path:
        return self.root / f"{episode:06d}.safetensors"


def _video(rows: list[Tensor], facts: dict[str, Any]) -> Video:
    """Stored rows as a batch."""
    return Video(torch.cat(rows).float().movedim(-1, 1), facts["fps"])


def _facts(path: Path, file: Any, *, episode: int) -> dict[str, dict[str, Any]]:
    """Stream -> rate, rows and checksum. Raises ValueError where the file lacks them, or is of another episode."""
    try:
        facts = parse_json((file.metadata() or {})[FACTS])
        number, streams = facts["number"], facts["streams"]
        rows = {name: file.get_slice(name).get_shape()[0] for name in streams}
        written = {
            name: (float(entry["fps"]), int(entry["crc32"]), int(entry["rows"])) for name, entry in streams.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SafetensorError) as error:
        raise ValueError(f"{path} was not written by this program, or is damaged ({error}); {REFILL}") from error
    if number != episode:
        raise ValueError(f"{path} holds episode {number}, expected {episode}: files were exchanged; {REFILL}")
    if not written:
        raise ValueError(f"{path} holds no stream; {REFILL}")
    for name, (*_, count) in written.items():
        if rows[name] != count:
            raise ValueError(f"{path}: {name} has {rows[name]} rows, but {count} were written; {REFILL}")
    return streams


def _check_finite(where: str, seen: Tensor, *, stored: Tensor) -> None:
    if bool(stored.isfinite().all()):
        return
    if not bool(seen.isfinite().all()):
        problem = "System 2 sees values that are not finite"
        raise ValueError(f"{where}: {problem}; its weights, or the precision it runs in, are wrong")
    dtype = str(stored.dtype).removeprefix("torch.")
    problem = f"values up to {float(seen.abs().max()):.3g} are too large for {dtype}, which would store infinity"
    raise ValueError(f"{where}: {problem}; fill the cache with --dtype bfloat16")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"


def _checksum(tensor: Tensor) -> int:
    values: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return crc32(values)


def _open(path: Path, episode: int) -> tuple[Any, dict[str, dict[str, Any]]]:
    """A file, and its entry for each stream."""
    if not path.is_file():
        problem = f"{path} does not exist: the cache of this episode was never filled"
        raise FileNotFoundError(f"{problem}; remove {path.parent} and retry")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not readable ({error}); {REFILL}") from error
    return file, _facts(path, file, episode=episode)
