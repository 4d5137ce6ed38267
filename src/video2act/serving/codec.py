"""Messages on the wire: msgpack, with numpy arrays written as openpi's clients write them
(`openpi_client.msgpack_numpy`).

An array is a map of four byte-string keys: its bytes, dtype, shape, and a mark. Only plain numbers are accepted: arrays
of objects need pickle, and unpickling runs code of the sender. Shape, dtype and length are compared before numpy sees
the bytes, and lists and maps are counted while they are read: a message cannot make the receiver reserve much more
memory than its own size, nor hold Python's lock for long.
"""

import itertools
import math
import re
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from video2act.config.checks import shown
from video2act.extras import extra

with extra("serve", "serving"):
    import msgpack

ARRAY, SCALAR, DATA, DTYPE, SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
NUMBER = re.compile("[<>|=]?[biuf][1248]")
"""dtypes that are read: numpy would parse a list of them, too, and a megabyte of it for seconds"""
MAX_AXES = 8
MAX_LENGTH, MAX_CONTAINERS = 1024, 1024
"""entries of a list or a map, and lists and maps in a message: many numbers are sent as an array"""


MAX_TEXT = 500
"""letters of an error"""


class MessageError(ValueError):
    """A message that cannot be used. The text is for the sender: what is wrong, and what was expected."""


def pack(message: Any) -> bytes:
    """A message of plain values and numpy arrays as bytes.

    Raises:
        TypeError: a value that msgpack cannot write.
        ValueError: an array that is not of booleans, integers or floats.
    """
    return msgpack.Packer(default=_encode).pack(message)


class Part(NamedTuple):
    """Some entries of a map, packed by themselves."""

    num_entries: int
    data: bytes


def pack_part(fields: dict[str, Any]) -> Part:
    """Entries of a map, for `joined`. Raises TypeError or ValueError as `pack`; the message names the field."""
    packed = []
    for name, value in fields.items():
        try:
            packed += [pack(name), pack(value)]
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name!r} cannot be sent: {error}") from error
    return Part(len(fields), b"".join(packed))


def joined(*parts: Part) -> bytes:
    """A message, a map with the entries of all parts."""
    head = msgpack.Packer().pack_map_header(sum(part.num_entries for part in parts))
    return b"".join([head, *(part.data for part in parts)])


def unpack(data: bytes) -> Any:
    """The inverse of `pack`. Arrays are copies: they may be written to.

    Raises:
        MessageError: the bytes are truncated or not msgpack, an array contradicts itself, or there are too many lists
            and maps.
    """
    containers = itertools.count(1)

    def counted(value: Any) -> Any:
        if next(containers) > MAX_CONTAINERS:
            raise MessageError(f"a message holds at most {MAX_CONTAINERS} lists and maps; send numbers as arrays")
        return _decode(value) if isinstance(value, dict) else value

    try:
        return msgpack.unpackb(
            data, object_hook=counted, list_hook=counted, max_array_len=MAX_LENGTH, max_map_len=MAX_LENGTH
        )
    except MessageError:
        raise
    except msgpack.ExtraData as error:
        raise MessageError(f"a message is one msgpack value, but {len(error.extra)} bytes follow the first") from error
    except msgpack.StackError as error:
        raise MessageError("the message is nested too deeply") from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise MessageError(f"{len(data)} bytes are not a complete msgpack message ({reason})") from error


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _check_dtype(value.dtype)
        return {ARRAY: True, DATA: value.tobytes(), DTYPE: value.dtype.str, SHAPE: value.shape}
    if isinstance(value, np.generic):
        _check_dtype(value.dtype)
        return {SCALAR: True, DATA: value.item(), DTYPE: value.dtype.str}
    raise TypeError(f"a message holds plain values and numpy arrays, got {type(value).__name__}")


def _decode(fields: dict[Any, Any]) -> Any:
    if ARRAY in fields:
        return _array(fields)
    if SCALAR in fields:
        return _scalar(fields)
    return fields


def _array(fields: dict[Any, Any]) -> np.ndarray:
    missing = [key.decode() for key in (DATA, DTYPE, SHAPE) if key not in fields]
    if missing:
        raise MessageError(f"an array in the message has no {', '.join(missing)}")
    dtype, shape, data = _dtype(fields[DTYPE]), fields[SHAPE], fields[DATA]
    if not isinstance(data, bytes):
        raise MessageError(f"an array's data must be bytes, got {type(data).__name__}")
    are_sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not are_sizes or len(shape) > MAX_AXES:
        raise MessageError(f"an array's shape must be at most {MAX_AXES} sizes, got {shown(shape)}")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise MessageError(f"an array of {shape} {dtype.name} takes {expected} bytes, got {len(data)}")
    # numpy computes the strides of the axes without the empty ones, and those may overflow
    if expected == 0 and max(shape, default=0) > 2**31:
        raise MessageError(f"an array's shape must be at most {MAX_AXES} sizes below 2**31, got {shown(shape)}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _scalar(fields: dict[Any, Any]) -> np.generic:
    if DATA not in fields or DTYPE not in fields:
        raise MessageError("a scalar in the message has no data or no dtype")
    dtype, value = _dtype(fields[DTYPE]), fields[DATA]
    if not isinstance(value, bool | int | float):
        raise MessageError(f"a scalar's data must be a number, got {type(value).__name__}")
    try:
        read = dtype.newbyteorder("=").type(value)
    except (OverflowError, ValueError) as error:  # too large, or NaN as an integer
        raise MessageError(f"the scalar {value} does not fit {dtype.name}") from error
    if dtype.kind != "f" and read != value:
        raise MessageError(f"the scalar {value} does not fit {dtype.name}")
    return read


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str):
        raise MessageError(f"a dtype is written as numpy does, e.g. '|u1' or '<f4', got {shown(name)}")
    with suppress(TypeError):  # "f1", "b8"
        if NUMBER.fullmatch(name):
            return np.dtype(name)
    kinds = "booleans, integers or floats ('|b1', '|u1', '<i8', '<f4', ...)"
    raise MessageError(f"arrays are of {kinds}, got {name[:80]!r}")


def _check_dtype(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"arrays of {dtype} are not sent; use booleans, integers or floats of at most 8 bytes")


def bounded(text: str) -> str:
    """A text for another machine, in at most `MAX_TEXT` letters: it may quote a message of megabytes."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."
