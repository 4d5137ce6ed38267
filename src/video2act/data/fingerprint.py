"""Whether two datasets are the same data: training would read the same from both.

That is: rate, cameras and their sizes, states and actions, sentences, and the files of pictures, also through links.
What training does not read changes nothing: names and places of files, other columns, `stats.json`, what a file
browser leaves behind.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

WHOLE_BYTES = 2**22
"""pictures of one file, or one column of a row group, that are read whole"""
END_BYTES, BLOCK_BYTES, NUM_BLOCKS = 2**16, 2**12, 32
"""bytes of larger ones that are read: both ends and some blocks"""


class Fingerprinted:
    """A dataset whose fingerprint is made of those of its episodes, once."""

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self: Any) -> str:
        sizes = sorted((camera, self.image_size(camera)) for camera in self.cameras)
        episodes = [self.episode_fingerprint(i) for i in range(len(self))]
        return sha256(json.dumps([self.fps, sizes, episodes]).encode()).hexdigest()


def of_datasets(datasets: Iterable[Any]) -> str:
    """Those of several datasets, in their order, as the record of a training names them."""
    return " ".join(dataset.fingerprint for dataset in datasets)


def of_episode(vectors: Iterable[np.ndarray | None], texts: Iterable[Iterable[str]]) -> str:
    """Args: vectors: state and action. texts: sentences, and fingerprints of pictures."""
    hasher = sha256(json.dumps([list(part) for part in texts]).encode())
    for values in vectors:
        shape = None if values is None else values.shape
        hasher.update(f"{shape}".encode() + (b"" if values is None else np.ascontiguousarray(values).tobytes()))
    return hasher.hexdigest()


def of_file(path: Path) -> str:
    """Fingerprint of a file of pictures; of a large one samples are read, since all would take as long as decoding."""
    return _samples(path, 0, path.stat().st_size)


def of_column(path: Path, key: str) -> str:
    """Fingerprint of a column of pictures in a parquet file."""
    metadata, names = pq.read_metadata(path), []
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            if chunk.path_in_schema.startswith(f"{key}."):
                begin = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                names.append(_samples(path, begin, chunk.total_compressed_size))
    return " ".join(names)


def _samples(path: Path, begin: int, size: int) -> str:
    hasher = sha256(str(size).encode())
    with path.open("rb") as file:
        file.seek(begin)
        if size <= WHOLE_BYTES:
            hasher.update(file.read(size))
            return hasher.hexdigest()
        hasher.update(file.read(END_BYTES))
        for i in range(NUM_BLOCKS):
            file.seek(begin + END_BYTES + (size - 2 * END_BYTES) * i // NUM_BLOCKS)
            hasher.update(file.read(BLOCK_BYTES))
        file.seek(begin + size - END_BYTES)
        hasher.update(file.read(END_BYTES))
    return hasher.hexdigest()
