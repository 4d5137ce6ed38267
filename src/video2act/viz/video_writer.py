"""Pictures -> an mp4 for players and browsers: H.264, 4:2:0, index at the front. (Datasets are written elsewhere.)"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.video
import numpy as np
from jaxtyping import UInt8


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], *, fps: float) -> None:
    """Write frames of one size, as they come. Raises ValueError if there are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: av.video.VideoStream | None = None
        for frame in frames:
            # 4:2:0 stores colour for blocks of 2 x 2: an odd size is completed by repeating its last row or column
            h, w, _ = frame.shape
            even = np.pad(frame, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "20"}
                )
                stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is None:
            raise ValueError(f"cannot write {path.name}: a video needs at least one frame")
        container.mux(stream.encode(None))
