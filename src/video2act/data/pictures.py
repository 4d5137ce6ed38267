"""Pictures inside parquet and HDF5 files <-> arrays: PNG and JPEG, measured before they are decoded."""

from collections.abc import Callable, Iterable
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP")
"""other decoders of Pillow are not needed, and some start programs"""
MAX_PIXELS = 2**24
PIECE_BYTES = 2**26
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
