"""Pictures inside parquet and HDF5 files <-> arrays: PNG and JPEG, measured before they are decoded.

A camera can be stored as PNG in the data files, LeRobot's alternative to video: lossless, and many times larger. A cell
is `{bytes, path}`, as `datasets` writes images. LeRobot embeds the bytes when an episode is complete; a cell that only
names a path is an error, since it is not portable.
"""

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8
from PIL import Image

from video2act.data.dataset_files import COPY, DatasetError
from video2act.data.picture_groups import picture_cells

CELL = pa.struct({"bytes": pa.binary(), "path": pa.string()})

FORMATS = ("PNG", "JPEG", "WEBP")
"""other decoders of Pillow are not needed, and some start programs"""
MAX_PIXELS = 2**24
PIECE_BYTES = 2**24
"""of frames that are reduced at a time"""


def encode_png(frame: UInt8[np.ndarray, "h w 3"]) -> bytes:
    file = BytesIO()
    Image.fromarray(frame).save(file, format="png", compress_level=1)
    return file.getvalue()


def decode_picture(data: bytes, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "_h _w 3"]:
    """RGB.

    Args:
        size: height and width that it must have; None: any of up to `MAX_PIXELS`.
    Raises:
        ValueError: it is no picture, of another size, damaged, or holds depth: the reason, to be put behind a place.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if size is not None and image.size != size[::-1]:
                raise ValueError(f"it has {image.size[1]} x {image.size[0]} px, expected {size[0]} x {size[1]}")
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.size[1]} x {image.size[0]} px, more than any camera here")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it holds numbers of mode {image.mode}, as depth does, and no colours")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        is_unknown = isinstance(error, Image.UnidentifiedImageError)
        raise ValueError("it is no PNG, JPEG or WebP" if is_unknown else f"it cannot be decoded ({error})") from error


Reduce = Callable[[np.ndarray], np.ndarray]
"""frames [t h w 3] -> the same at another size"""


def gather(
    images: Iterable[np.ndarray], count: int, *, size: tuple[int, int], reduce: Reduce | None = None
) -> UInt8[np.ndarray, "{count} _h _w 3"]:
    """`count` images of a size as one array; reduced in pieces, so that a long episode is never whole in memory."""
    length = count if reduce is None else min(count, max(1, PIECE_BYTES // (3 * size[0] * size[1])))
    piece, whole = np.empty((length, *size, 3), np.uint8), None
    for number, image in enumerate(images):
        filled = number % length + 1
        piece[filled - 1] = image
        if reduce is not None and (filled == length or number == count - 1):
            part = reduce(piece[:filled])
            whole = np.empty((count, *part.shape[1:]), np.uint8) if whole is None else whole
            whole[number + 1 - filled : number + 1] = part
    return piece if whole is None else whole


def read_images(
    path: Path, key: str, *, rows: Sequence[int], size: tuple[int, int], reduce: Reduce | None = None
) -> UInt8[np.ndarray, "_t _h _w 3"]:
    """Chosen rows of a data file, RGB.

    Args:
        rows: ascending, each once.
        size: height and width, as declared.
        reduce: makes the frames smaller, piece by piece.
    Raises:
        FileNotFoundError, DatasetError: no such file or column, too few rows, or an image of another size, or one
            that cannot be decoded.
    """
    cells = picture_cells(path, key, rows=rows)
    if len(cells) != len(rows):
        problem = f"holds {len(cells)} of {len(rows)} images of {key} from row {rows[0]}"
        raise DatasetError(f"{path} {problem}", COPY)
    images = (decode_cell(path, key, row=row, cell=cell, size=size) for row, cell in zip(rows, cells, strict=True))
    return gather(images, len(rows), size=size, reduce=reduce)


def decode_cell(path: Path, key: str, *, row: int, cell: Any, size: tuple[int, int]) -> UInt8[np.ndarray, "_h _w 3"]:
    """RGB. Raises DatasetError, with file and row: the cell holds no image of this size that can be decoded."""
    if cell and not isinstance(cell, dict):
        problem = f"{path}: {key} must hold images as {{bytes, path}}, found {type(cell).__name__}"
        raise DatasetError(problem, "record it again")
    data = cell.get("bytes") if cell else None
    if data and not isinstance(data, bytes):
        problem = f"{path}, row {row}: {key} holds an image as {type(data).__name__}, expected bytes"
        raise DatasetError(problem, "record it again")
    if not data:
        named = f" and only names {str(cell['path'])[:60]}" if cell and cell.get("path") else ""
        raise DatasetError(f"{path}, row {row}: {key} holds no image{named}; let LeRobot embed the images")
    try:
        return decode_picture(data, size)
    except ValueError as error:
        raise DatasetError(f"{path}, row {row}: {key} is not a readable image: {error}; copy it again") from error
