"""Cameras that are stored as PNG inside the data files, LeRobot's alternative to video: lossless, and many times
larger.

A cell is `{bytes, path}`, as `datasets` writes its images. LeRobot embeds the bytes when an episode is complete; a
cell that only names a path is not portable, and an error.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from video2act.data.dataset_files import COPY, DatasetError, open_parquet, unreadable
from video2act.data.pictures import Reduce, decode_picture, gather

CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def read_images(
    path: Path, key: str, *, first: int, count: int, size: tuple[int, int], reduce: Reduce | None = None
) -> UInt8[np.ndarray, "{count} _h _w 3"]:
    """Rows `first .. first + count - 1` of a data file, RGB.

    Args:
        size: height and width, as declared.
        reduce: makes the frames smaller, piece by piece.
    Raises:
        FileNotFoundError, DatasetError: no such file or column, too few rows, or an image of another size, or one
            that cannot be decoded.
    """
    try:
        with open_parquet(path, ()) as file:
            if key not in file.schema_arrow.names:
                raise DatasetError(f"{path} lacks the column {key}, which meta/info.json declares")
            cells = _cells(file, key, first=first, count=count)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    if len(cells) != count:
        raise DatasetError(f"{path} holds {len(cells)} of the {count} images of {key} from row {first}", COPY)
    return gather(_decoded(path, key, first=first, cells=cells, size=size), count, size=size, reduce=reduce)


def _cells(file: pq.ParquetFile, key: str, *, first: int, count: int) -> list[Any]:
    """Only the row groups that hold these rows are read; LeRobot's recorder and ours write one per episode."""
    ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
    begin, end = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, first + count - 1, side="right")
    groups = [i for i in range(int(begin), int(end) + 1) if i < len(ends)]
    offset = first - (int(ends[begin - 1]) if begin else 0)
    return file.read_row_groups(groups, columns=[key]).slice(offset, count)[key].to_pylist()


def _decoded(path: Path, key: str, *, first: int, cells: list[Any], size: tuple[int, int]) -> Iterator[np.ndarray]:
    for row, cell in enumerate(cells, first):
        if cell and not isinstance(cell, dict):
            problem = f"{path}: {key} must hold images as {{bytes, path}}, found {type(cell).__name__}"
            raise DatasetError(problem, "record it again")
        if not cell or not cell.get("bytes"):
            named = f" and only names {str(cell['path'])[:60]}" if cell and cell.get("path") else ""
            raise DatasetError(f"{path}, row {row}: {key} holds no image{named}; let LeRobot embed the images")
        try:
            yield decode_picture(cell["bytes"], size)
        except ValueError as error:
            raise DatasetError(f"{path}, row {row}: {key} is not a readable image: {error}; copy it again") from error
