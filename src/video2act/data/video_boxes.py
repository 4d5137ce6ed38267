"""What an mp4 file claims to hold, before FFmpeg makes room for it: 3 KB can claim 100 million frames.

An mp4 is a tree of boxes: size, name, content. Only those that count frames are read.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from video2act.data.dataset_files import COPY, DatasetError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
"""containers that are read; others are lists of files, which may lead anywhere"""
HOLDERS = tuple(b"moov trak mdia minf stbl edts moof traf mvex udta tref sinf".split())
MAX_DEPTH = 12
COUNTED_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}
"""boxes that say how many frames, or pieces of a film, follow, and where in the box the number is"""
RUNS = (b"stts", b"ctts")
"""boxes of pairs: how many frames, and what they share"""
MAX_EDITS = 100
SPARE_FRAMES = 10_000


def check_claims(path: Path) -> None:
    """Raise DatasetError where an mp4 claims more frames than it has bytes, or a film of very many pieces."""
    size, totals = path.stat().st_size, Counter[bytes]()
    with path.open("rb") as file:
        for name, count in _counts(file, 0, size):
            totals[name] += count
            most = MAX_EDITS if name == b"elst" else size + SPARE_FRAMES
            if totals[name] > most:
                what = "pieces" if name == b"elst" else "frames"
                raise DatasetError(f"{path} claims {totals[name]} {what}, more than its {size} bytes can hold", COPY)


def _counts(file: BinaryIO, begin: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int]]:
    while begin + 8 <= end:
        file.seek(begin)
        size, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = int.from_bytes(file.read(8), "big"), 16
        size = size or end - begin  # 0: to the end
        if size < header:
            return  # damaged: FFmpeg will say how
        close = min(begin + size, end)
        if name in HOLDERS and depth < MAX_DEPTH:
            yield from _counts(file, begin + header, close, depth + 1)
        elif name in COUNTED_AT:
            file.seek(begin + header + COUNTED_AT[name])
            yield name, int.from_bytes(file.read(4), "big")
        elif name == b"cmov":  # the same tree, compressed; nobody has written it for twenty years
            yield name, 2**32
        elif name in RUNS:
            file.seek(begin + header + 8)
            pairs = file.read(max(0, close - begin - header - 8))
            yield name, sum(count for count, _ in struct.iter_unpack(">II", pairs[: len(pairs) // 8 * 8]))
        begin += size
