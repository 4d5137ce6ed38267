"""Frames of one camera <-> an mp4 file, through PyAV.

Written as H.264 with a constant rate that starts at exactly zero: no B-frames, so that decoding order is display order, and a key
frame every few frames, so that a frame is found by decoding at most `KEY_FRAME_EVERY` of them. Tuned for decoding, which happens
more often than encoding and is twice as fast for 7 % more bytes. One thread, because x264's output depends on the number of
threads and a recording must not.

Read by frame number, the n-th frame of the file in display order, never by comparing floating-point times: those drift in files
that were joined from many.
"""

from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from video2act.data.lerobot_format import DatasetError

CODEC = "h264"
PIXEL_FORMAT = "yuv420p"
KEY_FRAME_EVERY = 4
ENCODER_OPTIONS = {"preset": "veryfast", "crf": "18", "tune": "fastdecode", "bf": "0", "g": str(KEY_FRAME_EVERY)}


def encode(path: Path, frames: UInt8[np.ndarray, "t h w 3"], fps: int) -> None:
    """Write an mp4.

    Raises:
        ValueError: no frames, or an odd size, which 4:2:0 colour cannot store.
    """
    t, h, w, _ = frames.shape
    if t == 0:
        raise ValueError(f"cannot write {path.name}: a video needs at least one frame")
    if h % 2 or w % 2:
        raise ValueError(f"cannot write {path.name}: H.264 stores even sizes, got {h} x {w}; record with an even image size")
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=ENCODER_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = w, h, PIXEL_FORMAT
        stream.codec_context.thread_count = 1
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def decode(path: Path, first: int, count: int, fps: int) -> UInt8[np.ndarray, "{count} _h _w 3"]:
    """Frames `first .. first + count - 1` of the file.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: not a video, cut short, or at another rate.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the dataset lacks a video that its episodes refer to: copy it again")
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise DatasetError(f"{path} holds no video stream; copy the file again or record its episodes again")
            return _decode(path, container, first, count, fps)
    except av.FFmpegError as error:
        raise DatasetError(
            f"{path} cannot be decoded ({error}); it is damaged: copy it again or record its episodes again"
        ) from error


def _decode(path: Path, container: InputContainer, first: int, count: int, fps: int) -> np.ndarray:
    stream = container.streams.video[0]
    rate = stream.average_rate
    if rate is None or abs(float(rate) - fps) > 0.01 * fps:
        raise DatasetError(
            f"{path} plays at {'no known' if rate is None else f'{float(rate):g}'} fps, but the dataset says {fps} fps; "
            "encode it again at the dataset's rate or correct fps in meta/info.json"
        )
    times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None and not packet.is_discard)
    if len(times) < first + count:
        raise DatasetError(
            f"{path} holds {len(times)} frames, but frame {first + count - 1} was asked for: the file is cut short or "
            "the episodes' metadata is wrong; copy it again or record its episodes again"
        )
    wanted = times[first : first + count]
    container.seek(wanted[0], stream=stream, backward=True)
    frames: np.ndarray | None = None
    done = 0
    # one for all frames: the frame's own would prepare the conversion anew each time
    reformatter = VideoReformatter()
    for frame in container.decode(stream):
        if frame.pts is None or frame.pts < wanted[0]:
            continue
        if frame.pts != wanted[done]:
            raise DatasetError(f"{path}: frame {first + done} is missing; the file is damaged: copy it again")
        image = reformatter.reformat(frame, format="rgb24").to_ndarray()
        if frames is None:
            frames = np.empty((count, *image.shape), np.uint8)
        frames[done] = image
        done += 1
        if done == count:
            return frames
    raise DatasetError(f"{path}: frame {first + done} cannot be decoded; the file is damaged: copy it again")
