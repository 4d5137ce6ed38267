"""Frames of one camera <-> an mp4 file, through PyAV.

Written as H.264 with a constant rate that starts at exactly zero: no B-frames, so that decoding order is display
order, and a key frame every few frames, so that a frame is found by decoding at most `KEY_FRAME_EVERY` of them. Tuned
for decoding, which happens more often than encoding and is twice as fast for 7 % more bytes. One thread, because
x264's output depends on the number of threads and a recording must not; no macroblock tree, because x264's AVX-512
code for it reads memory that nobody wrote, so that the same frames give other bytes once in a hundred files.

Read by frame number, the n-th frame of the file in display order, never by comparing floating-point times: those drift
in files that were joined from many. Frames are asked for in ascending order and decoded in one pass, which seeks over
key frames that are not needed. Opening a file and listing its frames takes longer than decoding a clip, so a few files
stay open, and the lists of many more stay in memory.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from video2act.data.dataset_files import RECORD, DatasetError, check_exists
from video2act.data.pictures import Reduce, gather
from video2act.data.video_boxes import FORMATS, check_claims

CODEC = "h264"
PIXEL_FORMAT = "yuv420p"
KEY_FRAME_EVERY = 4
DAMAGED = "the file is damaged: copy it again"
MAX_OPEN = 32
"""files that stay open"""
# PyAV 17 converts with a thread for each core: starting them takes longer than decoding a frame
ONE_THREAD: dict[str, int] = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
MAX_LISTED = 2**16
"""files whose frames stay listed"""
ENCODER_OPTIONS = {
    "preset": "veryfast",
    "crf": "18",
    "tune": "fastdecode",
    "bf": "0",
    "g": str(KEY_FRAME_EVERY),
    "mbtree": "0",
}


def encode(path: Path, frames: UInt8[np.ndarray, "t h w 3"], *, fps: int) -> None:
    """Write an mp4. Raises ValueError: no frames, or an odd size, which 4:2:0 colour cannot store."""
    t, h, w, _ = frames.shape
    if t == 0:
        raise ValueError(f"cannot write {path.name}: a video needs at least one frame")
    if h % 2 or w % 2:
        problem = f"H.264 stores even sizes, got {h} x {w}"
        raise ValueError(f"cannot write {path.name}: {problem}; record with an even image size")
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = w, h, PIXEL_FORMAT
        stream.codec_context.thread_count = 1
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class FrameList:
    """The frames of a file in display order."""

    times: np.ndarray
    """in units of the stream"""
    group: np.ndarray
    """for each frame the number of the key frame that decoding it begins with"""


class VideoReader:
    """One open mp4. Frames are asked for by number, from any thread.

    Args:
        listed: the file's frames, if they are listed already.
        is_strict: refuse what the decoder would otherwise conceal with what it guesses.
    Raises:
        FileNotFoundError, DatasetError: no such file; not a video, or cut short.
    """

    def __init__(self, path: Path, listed: FrameList | None = None, *, is_strict: bool = False):
        self.path = path
        check_exists(path)
        if listed is None:
            check_claims(path)
        self._lock = Lock()
        # one for all frames: a frame's own would prepare the conversion anew each time
        self._reformatter = VideoReformatter()
        try:
            self._container: InputContainer = av.open(path, options={"format_whitelist": FORMATS})
            if not self._container.streams.video:
                raise DatasetError(f"{path} holds no video stream", RECORD)
            self._stream = self._container.streams.video[0]
            # frames of a policy are small: handing them to other threads takes longer than decoding them
            self._stream.codec_context.thread_count = 1
            if is_strict:
                self._stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
            self.listed = listed or self._list()
        except av.FFmpegError as error:
            raise _damaged(path, error) from error
        rate = self._stream.average_rate
        self.fps = None if rate is None else float(rate)
        self.size = (self._stream.codec_context.height, self._stream.codec_context.width)
        """height and width"""

    @property
    def num_frames(self) -> int:
        return len(self.listed.times)

    @property
    def is_even(self) -> bool:
        """Whether frames follow each other at one rate, to half a frame."""
        gaps = np.diff(self.listed.times)
        return not len(gaps) or bool(np.ptp(gaps) <= 0.5 * np.median(gaps))

    def check_rate(self, fps: int) -> None:
        """Raise DatasetError if the file plays at another rate."""
        if self.fps is None or abs(self.fps - fps) > 0.01 * fps:
            found = "no known" if self.fps is None else f"{self.fps:g}"
            remedy = "encode it again at the dataset's rate or correct fps in meta/info.json"
            raise DatasetError(f"{self.path} plays at {found} fps, but the dataset says {fps} fps", remedy)

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise DatasetError if the frames have another height and width."""
        if self.size != size:
            found, expected = (f"{h} x {w}" for h, w in (self.size, size))
            raise DatasetError(f"{self.path} has frames of {found}, meta/info.json says {expected}", RECORD)

    def frames(self, numbers: Sequence[int], *, reduce: Reduce | None = None) -> UInt8[np.ndarray, "_t _h _w 3"]:
        """The frames of these numbers, RGB.

        Args:
            numbers: ascending, each once.
            reduce: makes the frames smaller, piece by piece.
        Raises:
            DatasetError: there are fewer, or one cannot be decoded.
        """
        if numbers and not 0 <= numbers[0] <= numbers[-1] < self.num_frames:
            problem = f"holds {self.num_frames} frames, but frame {numbers[-1]} was asked for"
            raise DatasetError(f"{self.path} {problem}: the file is cut short or its metadata are wrong", RECORD)
        with self._lock:
            try:
                return gather(self._decode(numbers), len(numbers), size=self.size, reduce=reduce)
            except av.FFmpegError as error:
                raise _damaged(self.path, error) from error

    def close(self) -> None:
        with self._lock:
            self._container.close()

    def _list(self) -> FrameList:
        packets = self._container.demux(self._stream)
        found = sorted((p.pts, p.is_keyframe) for p in packets if p.pts is not None and not p.is_discard)
        numbers = np.arange(len(found))
        keys = np.array([is_key for _, is_key in found], dtype=bool)
        times = np.array([time for time, _ in found], dtype=np.int64)
        return FrameList(times, np.maximum.accumulate(np.where(keys, numbers, 0)).astype(np.int32))

    def _decode(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        times, group = self.listed.times, self.listed.group
        begin = 0
        while begin < len(numbers):
            end = begin + 1
            # one run, until a key frame allows to leave frames out
            while end < len(numbers) and group[numbers[end]] <= numbers[end - 1] + 1:
                end += 1
            run = numbers[begin:end]
            yield from self._decode_run(run, times[list(run)].tolist())
            begin = end

    def _decode_run(self, numbers: Sequence[int], wanted: list[int]) -> Iterator[np.ndarray]:
        """Frames of these numbers and times, decoded from the key frame before the first to the last."""
        self._container.seek(wanted[0], stream=self._stream, backward=True)
        done = 0
        for frame in self._container.decode(self._stream):
            if frame.pts is None or frame.pts < wanted[done]:
                continue
            if frame.pts != wanted[done]:
                raise DatasetError(f"{self.path}: frame {numbers[done]} is missing", DAMAGED)
            if (frame.height, frame.width) != self.size:
                sizes = f"{frame.height} x {frame.width} px, the first {self.size[0]} x {self.size[1]}"
                raise DatasetError(f"{self.path}: frame {numbers[done]} has {sizes}", "record at one size")
            yield self._reformatter.reformat(frame, format="rgb24", **ONE_THREAD).to_ndarray()
            done += 1
            if done == len(wanted):
                return
        raise DatasetError(f"{self.path}: frame {numbers[done]} cannot be decoded", DAMAGED)


@lru_cache(maxsize=MAX_LISTED)
def _listed(path: Path, *_version: int) -> FrameList:
    reader = VideoReader(path)
    reader.close()
    return reader.listed


def _open(path: Path, *version: int) -> VideoReader:
    return VideoReader(path, _listed(path, *version))  # closed when it left the cache and its last user is done


_reader = lru_cache(maxsize=MAX_OPEN)(_open)
_inherited: list[object] = []
"""readers of the parent process"""


def _begin_anew() -> None:
    """A child process shares its parent's places in open files, so it opens its own. It cannot close the parent's:
    threads of FFmpeg, which closing would wait for, do not exist in the child."""
    global _reader
    _inherited.append(_reader)
    _reader = lru_cache(maxsize=MAX_OPEN)(_open)


os.register_at_fork(after_in_child=_begin_anew)


def open_video(path: Path) -> VideoReader:
    """The reader of a file, which stays open for the next caller."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return VideoReader(path)  # raises the error that names what is missing
    return _reader(path, stat.st_mtime_ns, stat.st_size)  # a replaced file needs another reader


def _damaged(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path} cannot be decoded ({error}): it is damaged", RECORD)
