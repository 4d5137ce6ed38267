"""Cameras that are stored as PNG inside the data files, LeRobot's alternative to video: lossless, and many times
larger.

A cell is `{bytes, path}`, as `datasets` writes its images. LeRobot embeds the bytes when an episode is complete; a
cell that only names a path is not portable, and an error.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from video2act.data.lerobot_format import DatasetError

CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def encode_images(frames: UInt8[np.ndarray, "t h w 3"]) -> list[bytes]:
    """Each frame as PNG."""
    cells = []
    for frame in frames:
        file = BytesIO()
        Image.fromarray(frame).save(file, format="png", compress_level=1)
        cells.append(file.getvalue())
    return cells


def read_images(path: Path, key: str, *, first: int, count: int) -> UInt8[np.ndarray, "{count} _h _w 3"]:
    """Rows `first .. first + count - 1` of a data file, RGB.

    Raises:
        FileNotFoundError, DatasetError: no such file or column, too few rows, or an image that cannot be decoded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the dataset is incomplete: copy it again")
    try:
        with pq.ParquetFile(path) as file:
            if key not in file.schema_arrow.names:
                raise DatasetError(f"{path} lacks the column {key}, which meta/info.json declares")
            cells = _cells(file, key, first=first, count=count)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a readable parquet file ({error}); it is damaged: copy it again") from error
    if len(cells) != count:
        raise DatasetError(
            f"{path} holds {len(cells)} of the {count} images of {key} from row {first}; copy the dataset again"
        )
    images = [_decode(path, key, row=first + i, cell=cell) for i, cell in enumerate(cells)]
    other = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
    if other is not None:
        raise DatasetError(
            f"{path}, row {first + other}: {key} is {images[other].shape[:2]}, but {images[0].shape[:2]} in row "
            f"{first}; "
            "record at one size"
        )
    return np.stack(images)


def _cells(file: pq.ParquetFile, key: str, *, first: int, count: int) -> list[Any]:
    """Only the row groups that hold these rows are read; LeRobot's recorder and ours write one per episode."""
    ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)])
    begin, end = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, first + count - 1, side="right")
    groups = [i for i in range(int(begin), int(end) + 1) if i < len(ends)]
    offset = first - (int(ends[begin - 1]) if begin else 0)
    return file.read_row_groups(groups, columns=[key]).slice(offset, count)[key].to_pylist()


def _decode(path: Path, key: str, *, row: int, cell: Any) -> np.ndarray:
    if cell and not isinstance(cell, dict):
        raise DatasetError(
            f"{path}: {key} must hold images as {{bytes, path}}, found {type(cell).__name__}; record it again"
        )
    if not cell or not cell.get("bytes"):
        named = f" and only names {cell['path']}" if cell and cell.get("path") else ""
        raise DatasetError(f"{path}, row {row}: {key} holds no image{named}; let LeRobot embed the images")
    try:
        with Image.open(BytesIO(cell["bytes"])) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetError(
            f"{path}, row {row}: {key} is not a readable image ({error}); copy the file again"
        ) from error
