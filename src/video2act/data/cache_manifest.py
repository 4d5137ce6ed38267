"""What a cache holds and of what it was made: its manifest, `cache.json`. Others are refused with the difference."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from video2act.config.checks import CheckedConfig, CountingInt, NonNegativeInt, check
from video2act.config.files import build
from video2act.config.nearby import nearby
from video2act.config.plain import read_json
from video2act.files.differences import differences

MANIFEST = "cache.json"
COPIES = "copies"
"""folder of a cache's varied copies, within its own"""
FORMAT = 3
"""of the manifest and the files; 1 had no numbers of episodes and rows in them"""

CachedStage = Literal["latents", "features", "seen"]
Dtype = Literal["float16", "bfloat16", "float32"]


class StaleCacheError(ValueError):
    """A cache that was made of something else; the message names the differences."""


@dataclass(frozen=True)
class CacheSpec(CheckedConfig):
    """The manifest."""

    stage: CachedStage = "seen"
    dtype: Dtype = "float16"
    every: CountingInt = 1
    """control steps between two clips that are stored"""
    windows: dict[str, tuple[CountingInt, CountingInt, CountingInt]] = field(default_factory=dict)
    """streams of which single latents are stored -> control steps per latent, latents in a clip, control steps between
    two clips"""
    described: dict[str, Any] = field(default_factory=dict)
    """what the contents depend on, as json"""
    num_episodes: NonNegativeInt = 0
    """of the dataset"""

    def _check(self) -> None:
        streams = self.described.get("streams", [])
        is_listed = isinstance(streams, list) and all(isinstance(stream, dict) for stream in streams)
        check(is_listed, f"streams are {streams!r}, expected a list of tables")

    @property
    def has_read_text(self) -> bool:
        """Whether the recorded instructions went into the contents: latents are made without them."""
        return self.stage in ("features", "seen")

    @property
    def name(self) -> str:
        """A short name that changes when anything does."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        fields = {**vars(self), "format": FORMAT}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    def window(self, stream: str) -> tuple[int, int, int]:
        """Control steps per row, latents in a clip (0: the rows are clips), control steps between two clips."""
        return self.windows.get(stream, (self.every, 0, self.every))

    def num_rows(self, stream: str, num_frames: int) -> int:
        """Clips, or latents, that belong to an episode."""
        step, _, every = self.window(stream)
        last = num_frames - 1
        return 1 + (last - last % every) // step

    def differences(self, other: "CacheSpec") -> list[str]:
        """What is not the same in another manifest: `streams.motion.stride: 1 there, 2 here`."""
        return differences(json.loads(other.to_json()), json.loads(self.to_json()), words=("there", "here"))


def load_spec(root: Path | str) -> CacheSpec:
    """The manifest of a cache. Raises FileNotFoundError, ValueError: it is no cache, or its manifest is damaged;
    StaleCacheError: it was made by another version."""
    path = Path(root) / MANIFEST
    if not path.is_file():
        remedy = "make one with video2act cache"
        raise FileNotFoundError(f"{root} is not a cache ({MANIFEST} is missing){nearby(root)}; {remedy}")
    try:
        fields = read_json(path)
        found = fields.pop("format", 1)
        if found == FORMAT:
            return build(CacheSpec, fields, where=MANIFEST)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is not the manifest of a cache ({error}); remove {root} and fill it again") from error
    problem = f"{root} is a cache of format {found}, expected {FORMAT}: another version of this program made it"
    raise StaleCacheError(f"{problem}; remove it and fill it again")
