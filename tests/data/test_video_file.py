import os
from fractions import Fraction

import av
import numpy as np
import pytest
from recordings import decode, numbered_frames, read_numbers

from video2act.data import DatasetError
from video2act.data.video_file import KEY_FRAME_EVERY, encode


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    encode(path, numbered_frames(0, 30), fps=20)
    return path


def test_every_frame_comes_back_in_its_place_and_nearly_as_it_was(video):
    frames, original = decode(video, 0, count=30, fps=20), numbered_frames(0, 30)
    assert read_numbers(frames) == list(range(30))
    error = ((frames.astype(float) - original) ** 2).mean(axis=(1, 2, 3))
    assert (10 * np.log10(255**2 / error)).min() > 30


@pytest.mark.parametrize(("first", "count"), [(0, 1), (3, 6), (29, 1), (8, 4)])
def test_a_part_equals_that_part_of_the_whole(video, first, count):
    whole = decode(video, 0, count=30, fps=20)
    assert np.array_equal(decode(video, first, count=count, fps=20), whole[first : first + count])


def test_time_starts_at_zero_and_runs_at_a_constant_rate(video):
    with av.open(str(video), mode="r") as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert [(packet.pts or 0) * stream.time_base for packet in packets] == [Fraction(k, 20) for k in range(30)]
        assert [packet.is_keyframe for packet in packets[: 2 * KEY_FRAME_EVERY]] == [True, False, False, False] * 2
        assert (stream.duration or 0) * stream.time_base == Fraction(30, 20)


def test_encoding_is_reproducible(tmp_path, video):
    encode(tmp_path / "b.mp4", numbered_frames(0, 30), fps=20)
    assert (tmp_path / "b.mp4").read_bytes() == video.read_bytes()


def test_what_memory_held_before_does_not_alter_a_video(tmp_path):
    """x264's macroblock tree gave other bytes in a few of a hundred files of this size, on CPUs with AVX-512."""
    frames = np.full((5, 32, 48, 3), (220, 30, 40), np.uint8)
    for number, frame in enumerate(frames):
        frame[:8, : 8 * number] = 255
    random, held, files = np.random.default_rng(0), [], set()
    for _ in range(150):
        encode(tmp_path / "a.mp4", frames, fps=25)
        files.add((tmp_path / "a.mp4").read_bytes())
        held = held[-30:] + [random.integers(0, 255, random.integers(100, 20_000), np.uint8) for _ in range(3)]
    assert len(files) == 1


@pytest.mark.parametrize("codec", ["libsvtav1", "libx265", "libx264"])
def test_foreign_codecs_with_reordered_frames_are_read_by_number(tmp_path, codec):
    path = tmp_path / "foreign.mp4"
    options = {"libsvtav1": {"preset": "12", "svtav1-params": "keyint=8"}}.get(
        codec, {"bf": "3", "preset": "ultrafast"}
    )
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in numbered_frames(0, 24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    # SVT-AV1 gives a thread of root real-time priority, and later tests of this process starved the machine
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert read_numbers(decode(path, 5, count=12, fps=20)) == list(range(5, 17))


def test_a_file_that_was_cut_short_is_named(video):
    video.write_bytes(video.read_bytes()[:-400])
    with pytest.raises(DatasetError, match=r"a\.mp4 cannot be decoded .* record its episodes again"):
        decode(video, 0, count=30, fps=20)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DatasetError, match=r"text\.mp4 cannot be decoded"):
        decode(tmp_path / "text.mp4", 0, count=1, fps=20)


def test_more_frames_than_there_are(video):
    with pytest.raises(DatasetError, match=r"holds 30 frames, but frame 30 was asked for"):
        decode(video, 25, count=6, fps=20)


def test_another_rate(video):
    with pytest.raises(DatasetError, match=r"plays at 20 fps, but the dataset says 30 fps"):
        decode(video, 0, count=30, fps=30)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4 does not exist"):
        decode(tmp_path / "none.mp4", 0, count=1, fps=20)


def test_what_cannot_be_encoded(tmp_path):
    with pytest.raises(ValueError, match="even sizes, got 63 x 64"):
        encode(tmp_path / "a.mp4", numbered_frames(0, 2)[:, :63], fps=20)
    with pytest.raises(ValueError, match="at least one frame"):
        encode(tmp_path / "a.mp4", numbered_frames(0, 2)[:0], fps=20)
