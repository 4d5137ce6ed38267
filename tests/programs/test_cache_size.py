"""The size of a cache, as `video2act cache` prints it."""

from pathlib import Path

from video2act.programs.cache import Filled


def test_the_size_per_frame_is_printed():
    """Half of the sentence stood on a line of its own, outside the string."""
    filled = Filled(
        Path("cache"), num_bytes=2**21, num_frames=1024, num_clips=512, dtype="float16", raw_bytes=4 * 2**20
    )
    expected = (
        "cache: 2.0 MiB in float16, 2.0 KiB a frame, 0.5 times the raw frames' 4.0 MiB; 512 moments of 1024 frames"
    )
    assert str(filled) == expected
