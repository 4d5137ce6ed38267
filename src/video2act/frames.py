"""How a camera's frame gets the size that a network reads: one function for training, caches, robot, server and views.

`FrameConfig` holds the rule. Sizes are (height, width); messages write cameras as WIDTHxHEIGHT, as cameras are sold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from video2act.config import FrameConfig, PolicyConfig, camera_and_lag

Size = tuple[int, int]
"""height and width, pixels"""

GREY = 127
"""of the bars, as SigLIP was shown them in RDT-1B's training"""

KERNELS = {
    "area": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def check_frame(frame: object, camera: str) -> UInt8[np.ndarray, "h w 3"]:
    """The frame itself, as a camera gave it. Raises ValueError for anything but RGB pixels: what a camera gives when it
    fails, numbers of 0 to 1 (which would turn black), channels before rows."""
    if not isinstance(frame, np.ndarray):
        found, remedy = type(frame).__name__, "for a camera that fails see docs/robot.md"
    elif frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        found, remedy = f"{frame.dtype} {list(frame.shape)}", _to_rgb(frame)
    else:
        return frame
    raise ValueError(f"camera {camera!r} must be uint8 [height width 3], got {found}; {remedy}")


def _to_rgb(frame: np.ndarray) -> str:
    """How to make RGB pixels of an array that is something else."""
    image, is_picture = "image", frame.ndim == 3 and bool(frame.size)
    if is_picture and frame.shape[2] not in (3, 4) and frame.shape[0] in (3, 4):
        image, frame = f"{image}.transpose(1, 2, 0)", frame.transpose(1, 2, 0)
    if not is_picture or frame.shape[2] not in (3, 4):
        return "for a camera that fails see docs/robot.md"
    if frame.shape[2] == 4:
        image += "[..., :3]"
    if np.issubdtype(frame.dtype, np.floating):
        return f"give (255 * {image}).round().astype('uint8'), if its numbers are from 0 to 1"
    return f"give {image}" if frame.dtype == np.uint8 else f"give {image}.astype('uint8'), if 255 is white"


def fit_frames(
    frames: UInt8[np.ndarray, "t _h _w 3"], size: Size, *, rule: FrameConfig
) -> UInt8[np.ndarray, "t {size[0]} {size[1]} 3"]:
    """Frames of one camera at the size (height, width) that a network reads.

    Raises:
        ValueError: the rule does not allow to enlarge them so much.
    """
    recorded: Size = (frames.shape[1], frames.shape[2])
    if problem := fit_problem(recorded, size, rule=rule):
        raise ValueError(f"{problem}; record larger frames, lower the size, or raise max_enlargement")
    frames = _with_shape(frames, _shape(recorded, size, fit=rule.fit))
    if frames.shape[1:3] == size:
        return frames
    is_reduced = size[0] <= frames.shape[1] and size[1] <= frames.shape[2]
    if rule.resample == "area" and is_reduced:
        return _average(frames, size)
    height, width = size
    resized = (Image.fromarray(frame).resize((width, height), KERNELS[rule.resample]) for frame in frames)
    return np.stack([np.asarray(image) for image in resized])


def fit_problem(recorded: Size, size: Size, *, rule: FrameConfig) -> str:
    """Why frames of the recorded size cannot be used; empty if they can."""
    factor = _enlargement(recorded, size, fit=rule.fit)
    if rule.max_enlargement == 0 or factor <= max(1.0, rule.max_enlargement) + 1e-6:
        return ""
    return (
        f"frames of {_text(recorded)} are too small for {_text(size)}: {rule.fit} would enlarge them {factor:.3g} "
        f"times, and max_enlargement is {rule.max_enlargement:g}"
    )


def describe_fit(recorded: Size, size: Size, *, rule: FrameConfig) -> str:
    """What is done to frames of the recorded size: `letterbox 640x480 -> 256x192 in 256x256`."""
    shape, factor = _shape(recorded, size, fit=rule.fit), _enlargement(recorded, size, fit=rule.fit)
    enlarged = f", enlarged {factor:.3g} times" if factor > 1 + 1e-6 else ""
    if recorded == size:
        return f"{_text(recorded)} as recorded"
    if rule.fit == "stretch" and recorded[0] * size[1] != recorded[1] * size[0]:
        return f"stretch {_text(recorded)} -> {_text(size)}{enlarged}"
    if shape == recorded:
        return f"{'enlarge' if enlarged else 'reduce'} {_text(recorded)} -> {_text(size)}{enlarged}"
    if rule.fit == "crop":
        return f"crop {_text(recorded)} -> {_text(shape)} -> {_text(size)}{enlarged}"
    inner = (round(recorded[0] * size[0] / shape[0]), round(recorded[1] * size[1] / shape[1]))
    return f"letterbox {_text(recorded)} -> {_text(inner)} in {_text(size)}{enlarged}"


@dataclass(frozen=True)
class FrameUse:
    """One place where a policy reads a camera."""

    stream: str
    """System 2's stream; empty for System 1's images"""
    camera: str
    size: Size
    rule: FrameConfig

    def read(self, images: Mapping[str, object]) -> UInt8[np.ndarray, "h w 3"]:
        """The camera's frame as it came, one of `images`. Raises ValueError: it is missing, no frame, or too small."""
        if self.camera not in images:
            raise ValueError(
                f"{self.reader} reads camera {self.camera!r}, but the observation has "
                f"{', '.join(sorted(images)) or 'no camera'}; for a camera that fails see docs/robot.md"
            )
        frame = check_frame(images[self.camera], self.camera)
        if problem := self.problem((frame.shape[0], frame.shape[1])):
            raise ValueError(problem)
        return frame

    def problem(self, recorded: Size) -> str:
        """Why it cannot read frames of the recorded size, and what to do; empty if it can."""
        problem = fit_problem(recorded, self.size, rule=self.rule)
        if not problem:
            return ""
        path, size_px = (f"system2.streams.{self.stream}.", "size-px") if self.stream else ("", "image-px")
        rule = f"{path}frame" if self.stream else "image"
        factor = np.ceil(100 * _enlargement(recorded, self.size, fit=self.rule.fit)) / 100
        return (
            f"camera {self.camera!r}, {self.reader}: {problem}. Record larger frames, lower --policy.{path}{size_px}, "
            f"or allow it with --policy.{rule}.max-enlargement {factor:g}"
        )

    @property
    def reader(self) -> str:
        return f"stream {self.stream!r}" if self.stream else "System 1"


def frame_uses(config: PolicyConfig) -> list[FrameUse]:
    """Where a policy reads its cameras: System 2's streams, then System 1's images, each camera once."""
    streams = config.system2.streams if config.system2 else ()
    uses = [FrameUse(stream.name, stream.camera, stream.frame_px, stream.frame) for stream in streams]
    size = (config.image_px, config.image_px)
    cameras = dict.fromkeys(camera_and_lag(camera)[0] for camera in config.cameras)
    return uses + [FrameUse("", camera, size, config.image) for camera in cameras]


def frame_problems(config: PolicyConfig, sizes: Mapping[str, Size]) -> list[str]:
    """Why a policy cannot read cameras of these sizes, and what to do; empty if it can."""
    uses = [use for use in frame_uses(config) if use.camera in sizes]
    return [problem for use in uses if (problem := use.problem(sizes[use.camera]))]


def check_frames(config: PolicyConfig, sizes: Mapping[str, Size]) -> None:
    """Raise ValueError where a policy cannot read cameras of these sizes (camera -> height, width)."""
    if problems := frame_problems(config, sizes):
        raise ValueError("\n  ".join(problems))


def _shape(recorded: Size, size: Size, *, fit: str) -> Size:
    """The frame with its bars, or its centre: what has the shape of `size`, to a pixel."""
    (h, w), (height, width) = recorded, size
    if fit == "letterbox":
        return max(h, -(-w * height // width)), max(w, -(-h * width // height))
    if fit == "crop":
        return max(1, min(h, w * height // width)), max(1, min(w, h * width // height))
    return recorded


def _enlargement(recorded: Size, size: Size, *, fit: str) -> float:
    shape = _shape(recorded, size, fit=fit)
    return max(size[0] / shape[0], size[1] / shape[1])


def _with_shape(frames: UInt8[np.ndarray, "t _h _w 3"], shape: Size) -> UInt8[np.ndarray, "t {shape[0]} {shape[1]} 3"]:
    """Grey bars around the frames, or their centre. An odd remainder goes below and to the right."""
    t, h, w, _ = frames.shape
    if (h, w) == shape:
        return frames
    if shape[0] <= h and shape[1] <= w:
        top, left = (h - shape[0]) // 2, (w - shape[1]) // 2
        return frames[:, top : top + shape[0], left : left + shape[1]]
    canvas = np.full((t, *shape, 3), GREY, np.uint8)
    top, left = (shape[0] - h) // 2, (shape[1] - w) // 2
    canvas[:, top : top + h, left : left + w] = frames
    return canvas


def _average(frames: UInt8[np.ndarray, "t _h _w 3"], size: Size) -> UInt8[np.ndarray, "t {size[0]} {size[1]} 3"]:
    """Average pixels down: antialiased, and the same for demonstrations and for live frames."""
    t, h, w, _ = frames.shape
    height, width = size
    if h % height == 0 and w % width == 0:
        # integer sums, a row and a column at a time: several times faster than a general resampling
        down, across = h // height, w // width
        blocks = frames.reshape(t, height, down, width, across, 3)
        rows = blocks[:, :, 0].astype(np.uint32)
        for i in range(1, down):
            rows += blocks[:, :, i]
        total = rows[:, :, :, 0].copy()
        for i in range(1, across):
            total += rows[:, :, :, i]
        return ((total + down * across // 2) // (down * across)).astype(np.uint8)
    rows, num_rows = _window_sums(frames, height, axis=1)
    total, num_columns = _window_sums(rows, width, axis=2)
    mean = total.astype(np.float32) / num_rows[:, None, None] / num_columns[:, None]
    return np.rint(mean).astype(np.uint8)


def _window_sums(frames: np.ndarray, size: int, *, axis: int) -> tuple[np.ndarray, Float[np.ndarray, "{size}"]]:
    """Sums over `size` windows that cover an axis, which may share a pixel, and the number of pixels in each."""
    length = frames.shape[axis]
    begin = np.arange(size) * length // size
    end = -(-(np.arange(size) + 1) * length // size)
    edges = np.stack([begin, end], axis=1).ravel()[:-1]  # the last window ends where the axis does
    sums = np.add.reduceat(frames, edges, axis=axis, dtype=np.uint32)
    return np.take(sums, np.arange(0, len(edges), 2), axis=axis), (end - begin).astype(np.float32)


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
