"""What is written is what openpi's clients write; what is read is refused unless it is exactly that."""

import time
from typing import Any

import msgpack
import numpy as np
import pytest

from video2act.serving.codec import MessageError, pack, unpack


def array_fields(**changes: Any) -> bytes:
    fields = {"__ndarray__": True, "data": bytes(12), "dtype": "|u1", "shape": [2, 2, 3], **changes}
    packed = msgpack.packb({key.encode(): value for key, value in fields.items() if value is not ...})
    assert packed is not None
    return packed


VALUES = {
    "image": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    "state": np.array([1.5, -2.0], np.float32),
    "double": np.array(3.25),
    "flags": np.array([True, False]),
    "none": np.zeros((0, 3), np.int64),
    "scalar": np.float32(0.5),
    "count": np.int64(-7),
    "nested": {"list": [1, 2.5, "three", None, True]},
}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool(np.all(a == b))
    return a == b and type(a) is type(b)


def test_a_message_comes_back_as_it_was():
    assert equal(unpack(pack(VALUES)), VALUES)


def test_arrays_may_be_written_to():
    array = unpack(pack(VALUES))["image"]
    array[0, 0, 0] = 200
    assert array[0, 0, 0] == 200


def test_the_bytes_are_those_of_openpis_client():
    openpi = pytest.importorskip("openpi_client.msgpack_numpy", reason="make dev installs openpi-client")
    assert pack(VALUES) == openpi.packb(VALUES)
    assert equal(unpack(openpi.packb(VALUES)), VALUES)
    assert equal(openpi.unpackb(pack(VALUES)), VALUES)


def test_a_foreign_byte_order_is_read():
    array = unpack(pack(np.array([1.5, -2.0], ">f4")))
    assert array.tolist() == [1.5, -2.0]
    assert array.dtype == np.float32


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "u1", "<i8", "=f4", ">f4", "<f2"])
def test_a_dtype_may_name_its_byte_order_in_each_way(dtype: str):
    assert unpack(array_fields(dtype=dtype, shape=[0], data=b"")).dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("mark", ["__ndarray__", "__npgeneric__"])
def test_a_long_dtype_is_refused_before_numpy_reads_it(mark: str):
    """numpy took 3.6 s and 442 MB to parse a megabyte of dtypes, and held Python's lock."""
    fields = {mark.encode(): True, b"data": 1, b"dtype": ",".join(["i4"] * 350_000), b"shape": [1]}
    began = time.perf_counter()
    with pytest.raises(MessageError, match="arrays are of booleans, integers or floats"):
        unpack(msgpack.packb(fields))  # type: ignore[arg-type]
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array([1j]), np.array(["text"]), np.array([(1, 2)], "i4,i4")]
)
def test_only_numbers_are_written(value: np.ndarray):
    with pytest.raises(ValueError, match="are not sent; use booleans, integers or floats"):
        pack({"x": value})


def test_what_is_no_message_is_not_written():
    with pytest.raises(TypeError, match="plain values and numpy arrays, got object"):
        pack({"x": object()})


BAD = {
    "empty": (b"", "0 bytes are not a complete msgpack message"),
    "truncated": (pack(VALUES)[:-5], "are not a complete msgpack message"),
    "not msgpack": (b"\xc1", "not a complete msgpack message"),
    "two messages": (pack(1) + pack(2), "1 bytes follow the first"),
    "nested too deeply": (b"\x91" * 5000 + b"\xc0", "nested too deeply"),
    "a length that is not there": (b"\xdd\xff\xff\xff\xff", "not a complete msgpack message"),
    "a map as a key": (b"\x81\x80\x01", "not a complete msgpack message"),
    "no data": (array_fields(data=...), "an array in the message has no data"),
    "no dtype and shape": (array_fields(dtype=..., shape=...), "has no dtype, shape"),
    "data of another type": (array_fields(data="text"), "data must be bytes, got str"),
    "too little data": (array_fields(data=bytes(11)), r"an array of \[2, 2, 3\] uint8 takes 12 bytes, got 11"),
    "too much data": (array_fields(data=bytes(13)), "takes 12 bytes, got 13"),
    "objects": (array_fields(dtype="|O"), "arrays are of booleans, integers or floats"),
    "records": (array_fields(dtype="i4,i4"), "arrays are of booleans, integers or floats"),
    "complex": (array_fields(dtype="<c8"), "arrays are of booleans, integers or floats"),
    "no dtype there is": (array_fields(dtype="<q99"), "arrays are of booleans, integers or floats"),
    "code as a dtype": (array_fields(dtype="__import__('os')"), "arrays are of booleans, integers or floats"),
    "a float of one byte": (array_fields(dtype="<f1"), "arrays are of booleans, integers or floats"),
    "a dtype with a line after it": (array_fields(dtype="|u1\n"), "arrays are of booleans, integers or floats"),
    "a number as a dtype": (array_fields(dtype=3), "a dtype is written as numpy does"),
    "negative size": (array_fields(shape=[-2, -2, 3]), "shape must be at most 8 sizes"),
    "sizes that are not whole": (array_fields(shape=[2.0, 2, 3]), "shape must be at most 8 sizes"),
    "too many axes": (array_fields(shape=[1] * 40, data=bytes(1)), "shape must be at most 8 sizes"),
    "a shape that overflows": (array_fields(shape=[2**62, 2**62, 0], data=b""), "shape must be at most 8 sizes"),
    "a shape beyond memory": (array_fields(shape=[2**40, 3]), "takes 3298534883328 bytes, got 12"),
    "no shape": (array_fields(shape="square"), "shape must be at most 8 sizes, got 'square'"),
    "scalar without a value": (msgpack.packb({b"__npgeneric__": True}), "a scalar in the message has no data"),
    "scalar of text": (
        msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}),
        "must be a number, got str",
    ),
    "scalar too large": (
        msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}),
        "300 does not fit uint8",
    ),
    "scalar that is no number, as an integer": (
        msgpack.packb({b"__npgeneric__": True, b"data": float("nan"), b"dtype": "<i4"}),
        "the scalar nan does not fit int32",
    ),
    "scalar of a fraction, as an integer": (
        msgpack.packb({b"__npgeneric__": True, b"data": 1.5, b"dtype": "<i4"}),
        r"the scalar 1\.5 does not fit int32",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str):
    data, fault = BAD[name]
    with pytest.raises(MessageError, match=fault):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd" + (10**6).to_bytes(4, "big") + b"\x90" * 10**6,
        b"\xdd" + (10**6).to_bytes(4, "big") + b"\x80" * 10**6,
        b"\xdc\x04\x00" + (b"\xdc\x04\x00" + b"\xc0" * 1024) * 1024,
        b"\xdc\x04\x00" + b"\x90" * 1024,
    ],
    ids=["lists", "maps", "nested", "empty"],
)
def test_a_message_of_many_small_things_is_refused_while_it_is_read(data: bytes):
    """Fifteen million empty lists held Python's lock for 17 seconds, and took a gigabyte."""
    with pytest.raises(MessageError, match=r"exceeds max_array_len|at most 1024 lists and maps"):
        unpack(data)
