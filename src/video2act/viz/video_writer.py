"""Pictures -> a film for players and browsers: an mp4 with H.264, or WebM with VP9 inside a page. (Datasets are written
elsewhere.)"""

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.video
import numpy as np
from av.container import OutputContainer
from jaxtyping import UInt8

from video2act.files.atomic import replacing

H264 = ("libx264", {"crf": "20"})
VP9 = ("libvpx-vp9", {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "8", "threads": "1"})


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], *, fps: float) -> None:
    """Write frames of one size into an mp4, as they come; it appears whole or not at all.

    Raises:
        ValueError: there are none.
        OSError: the file cannot be written.
    """
    try:
        with (
            replacing(path) as temporary,
            av.open(temporary, "w", format="mp4", options={"movflags": "faststart"}) as container,
        ):
            _encode(container, frames, fps=fps, codec=H264, name=path.name)
    except av.FFmpegError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; choose a folder that can be written to") from error


def webm(frames: Iterable[UInt8[np.ndarray, "h w 3"]], *, fps: float) -> bytes:
    """Frames of one size as a WebM film. Raises ValueError if there are none."""
    content = io.BytesIO()
    with av.open(content, "w", format="webm") as container:
        _encode(container, frames, fps=fps, codec=VP9, name="the film")
    return content.getvalue()


def webm_of(path: Path) -> bytes:
    """A film in a file, as WebM. Raises ValueError: it cannot be read."""
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))
            return webm(frames, fps=float(stream.average_rate or 20))
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is not a film that can be read ({error}); remove it, or make it again") from error


def _encode(
    container: OutputContainer,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    *,
    fps: float,
    codec: tuple[str, dict[str, str]],
    name: str,
) -> None:
    stream: Any = None
    for frame in frames:
        # 4:2:0 stores colour for blocks of 2 x 2: an odd size is completed by repeating its last row or column
        h, w, _ = frame.shape
        even = np.pad(frame, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        if stream is None:
            stream = container.add_stream(codec[0], rate=Fraction(fps).limit_denominator(1000), options=codec[1])
            stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
    if stream is None:
        raise ValueError(f"cannot write {name}: a video needs at least one frame")
    container.mux(stream.encode(None))
