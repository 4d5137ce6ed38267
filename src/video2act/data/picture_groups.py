"""Columns of encoded pictures, row group by row group, which is the least that can be read of a parquet file.

LeRobot's recorder and ours write a group per episode. Its converter writes one group for a whole file of many episodes:
to read that again for every frame would take a hundred times longer than decoding it. Therefore the groups that were
read last stay in memory, as they are encoded.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from video2act.data.dataset_files import DatasetError, open_parquet, read_groups, unreadable

KEPT_BYTES = 2**28
"""of groups that stay in memory, together; the last one stays however large it is"""


class GroupCache:
    """The columns of row groups that were asked for last, by any key. A second thread that asks for the same one waits
    for the first."""

    def __init__(self, max_bytes: int = KEPT_BYTES):
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Any, _Kept] = OrderedDict()
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        with self._lock:
            return sum(kept.num_bytes for kept in self._kept.values())

    def column(self, key: Any, read: Callable[[], pa.ChunkedArray]) -> pa.ChunkedArray:
        """What `read` returned for this key; errors of `read` are passed on, and it is called again the next time."""
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
        with kept.lock:
            column = kept.column = read() if kept.column is None else kept.column
        with self._lock:
            while len(self._kept) > 1 and sum(kept.num_bytes for kept in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)
        return column


class _Kept:
    def __init__(self):
        self.lock = Lock()
        self.column: pa.ChunkedArray | None = None

    @property
    def num_bytes(self) -> int:
        return 0 if self.column is None else self.column.nbytes


_groups = GroupCache()


def _begin_anew() -> None:
    """A child process may have been forked while another thread held a lock."""
    global _groups
    _groups = GroupCache()


os.register_at_fork(after_in_child=_begin_anew)


def picture_cells(path: Path, key: str, *, rows: Sequence[int]) -> list[Any]:
    """The cells of these rows, ascending; fewer, if the file ends before. Errors as for `every_picture_cell`."""
    try:
        with _opened(path, key) as file:
            stat = path.stat()
            ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
            group_of, cells = np.searchsorted(ends, rows, side="right"), []
            for group in np.unique(group_of[group_of < len(ends)]).tolist():
                column = _groups.column(
                    # a replaced file is another one
                    (path, stat.st_mtime_ns, stat.st_size, key, group),
                    lambda group=group: read_groups(path, file, [key], groups=[group], use_threads=True)[key],
                )
                begin = int(ends[group - 1]) if group else 0
                cells += column.take(pa.array(np.asarray(rows)[group_of == group] - begin)).to_pylist()
            return cells
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def every_picture_cell(path: Path, key: str) -> Iterator[Any]:
    """All cells of a file, one after another; each group is read once and is not kept.

    Raises:
        FileNotFoundError, DatasetError: no such file or column, or a file that cannot be read.
    """
    try:
        with _opened(path, key) as file:
            for group in range(file.metadata.num_row_groups):
                for cell in read_groups(path, file, [key], groups=[group], use_threads=False)[key]:
                    yield cell.as_py()
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _opened(path: Path, key: str) -> pq.ParquetFile:
    file = open_parquet(path, (key,))
    if key not in file.schema_arrow.names:
        file.close()
        raise DatasetError(f"{path} lacks the column {key}, which meta/info.json declares")
    return file
