"""A long episode is reduced in pieces, so that memory holds what is kept and not what was recorded."""

import tracemalloc

import numpy as np
import pytest

from video2act.data import pictures
from video2act.data.pictures import decode_picture, encode_png, gather


def images(count, size=(64, 64)):
    for number in range(count):
        yield np.full((*size, 3), number % 251, np.uint8)


@pytest.mark.parametrize("count", [1, 7, 64, 65])
@pytest.mark.parametrize("reduce", [None, lambda part: part, lambda part: part[:, ::4, ::4]])
def test_pieces_make_the_whole(monkeypatch, count, reduce):
    monkeypatch.setattr(pictures, "PIECE_BYTES", 16 * 64 * 64 * 3)
    whole = np.stack(list(images(count)))
    expected = whole if reduce is None else reduce(whole)
    assert np.array_equal(gather(images(count), count, size=(64, 64), reduce=reduce), expected)


def test_memory_is_that_of_a_piece_and_of_what_is_kept(monkeypatch):
    monkeypatch.setattr(pictures, "PIECE_BYTES", 2**20)
    count, size = 1000, (128, 128)
    tracemalloc.start()
    kept = gather(images(count, size), count, size=size, reduce=lambda part: part[:, ::16, ::16])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20 + 2 * kept.nbytes < count * size[0] * size[1] * 3 / 10


def test_one_picture_larger_than_a_piece_is_a_piece(monkeypatch):
    monkeypatch.setattr(pictures, "PIECE_BYTES", 10)
    assert gather(images(3), 3, size=(64, 64), reduce=lambda part: part[:, :1, :1]).shape == (3, 1, 1, 3)


def test_a_picture_comes_back_exactly():
    frame = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(decode_picture(encode_png(frame), (5, 7)), frame)
