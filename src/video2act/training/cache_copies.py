"""Varied copies of a cache. System 2 is frozen and its output stored, so a training sees the same features of a moment
in every epoch, and can learn the episodes by heart. A copy holds what System 2 sees in shifted and recoloured clips. A
batch draws each clip from one of the copies, or as it was recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from video2act.data.augmentation import vary_clips
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CacheSpec
from video2act.types import Video

VARIED = "variation"
"""entry of a copy's manifest"""


@dataclass(frozen=True)
class Variation:
    """How the clips of a copy differ from those that were recorded."""

    shift_px: int
    jitter: float
    copy: int
    """its number, from 1: other draws"""

    def of(self, clips: dict[str, Video], *, episode: int, first: int) -> dict[str, Video]:
        """The streams' clips varied; the same draws for the same episode and first moment, whoever computes them."""
        generator = torch.Generator().manual_seed(hash((self.copy, episode, first)) % 2**63)
        given = {"shift_px": self.shift_px, "amount": self.jitter, "generator": generator}
        return {name: vary_clips(video, **given) for name, video in clips.items()}


def variation_of(spec: CacheSpec) -> Variation | None:
    """How the clips of a copy vary; None where a cache holds them as recorded."""
    return Variation(**spec.described[VARIED]) if VARIED in spec.described else None


def check_room(cache: FeatureCache, copies: Sequence[FeatureCache]) -> None:
    """Raise OSError where the copies of a cache that is filled will not fit: beside it within its bound, or on the
    disk."""
    size, largest = cache.num_bytes, cache.max_bytes
    whole = size * (1 + len(copies))
    if copies and largest is not None and whole > largest:
        takes = f"the cache and its {len(copies)} copies would take {whole / 2**30:.2f} GiB"
        raise OSError(f"{takes}, more than {largest / 2**30:g} GiB; fewer --clip-copies take less")
    for copy in copies[-1:]:
        copy.check_room(sum(max(0, size - each.num_bytes) for each in copies))


def open_copies(cache: FeatureCache, *, shift_px: int, jitter: float, copies: int, root: Path) -> list[FeatureCache]:
    """The varied copies of a cache, below `root`; none where nothing varies."""
    if not shift_px and not jitter:
        return []
    variations = [Variation(shift_px, float(jitter), number) for number in range(1, copies + 1)]
    specs = [replace(cache.spec, described={**cache.spec.described, VARIED: vars(one)}) for one in variations]
    return [FeatureCache(root / spec.name, spec) for spec in specs]
