"""Short names for what is in files and tensors: they change with the contents, and gigabytes are not read whole."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

PIECE_BYTES = 2**12
NUM_PIECES = 64
"""of each file, beside both its ends, that are read: what differs in one layer differs in one of them"""
END_BYTES = 2**16
SAMPLES = 4096
"""values of a large tensor whose places count, too"""


def fingerprint(files: Iterable[Path], *more: object) -> str:
    """A short name for what is in files: of both ends of each, pieces in between, and of `more`; they are not read
    whole."""
    hasher = hashlib.sha256(repr(more).encode())
    for file in files:
        size = file.stat().st_size
        hasher.update(str(size).encode())
        with file.open("rb") as opened:
            hasher.update(opened.read(END_BYTES))
            for number in range(NUM_PIECES):
                opened.seek(number * size // NUM_PIECES)
                hasher.update(opened.read(PIECE_BYTES))
            opened.seek(max(0, size - END_BYTES))
            hasher.update(opened.read())
    return hasher.hexdigest()[:16]


def rounded_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """As `tensors_fingerprint`, and the same for weights that were rounded to bfloat16; one is copied at a time."""
    import torch

    def of(name: str) -> str:
        tensor = weights[name]
        return tensors_fingerprint({name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor})

    return hashlib.sha256(" ".join(map(of, sorted(weights))).encode()).hexdigest()[:16]


def tensors_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A short name for the values of tensors: it changes with any of them.

    Gigabytes are not hashed: of a large tensor the sum of all its bits, as numbers, and some of its values in their
    places.
    """
    import torch

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
