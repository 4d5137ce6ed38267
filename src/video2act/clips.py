"""Which past frames make a clip: the one rule of training and running. `frames.py` gives them their size.

A clip ends at its newest frame and goes back `stride` control steps at a time. Before the beginning of the episode the
first frame is repeated, in training as on the robot: the scene was at rest.
"""

from collections import deque
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from video2act.config import FrameConfig, StreamConfig, camera_and_lag
from video2act.frames import FrameUse, Size, check_frame, fit_frames
from video2act.types import Clip, EncoderMemory, EpisodeFrames, Observation, Video


def clip_indices(newest: int, num_frames: int, *, stride: int) -> list[int]:
    """Frame numbers of a clip, oldest first, clamped to the start of the episode.

    Raises:
        ValueError: `newest` lies before the episode.
    """
    if newest < 0:
        raise ValueError(f"a clip cannot end before the first frame of its episode, got newest={newest}")
    return [max(0, newest - stride * (num_frames - 1 - i)) for i in range(num_frames)]


def stream_indices(newest: int, stream: StreamConfig) -> list[int]:
    """Frame numbers of a stream's clip, oldest first, when `newest` is the last frame there is.

    A stream looks every `every` control steps only. With `encoding="stream"` these are the frames from the beginning
    of the episode; a `FrameHistory` hands over the new ones only.

    Raises:
        ValueError: `newest` lies before the episode.
    """
    looked = newest - newest % stream.every
    if stream.encoding == "stream" and newest >= 0:
        return list(range(0, looked + 1, stream.stride))
    return clip_indices(looked, stream.num_frames, stride=0 if stream.is_still else stream.stride)


MAX_WAITING_FRAMES = 1024
"""of a stream whose encoder must see every frame, if System 2 does not keep up"""


def to_pixels(frames: UInt8[np.ndarray, "t h w 3"], fps: float) -> Video:
    """Frames of one camera -> a batch of one clip, `[1 3 t h w]` in [-1, 1]."""
    return Clip(frames, fps)


def to_frames(clip: Video) -> UInt8[np.ndarray, "t h w 3"]:
    """The exact inverse of `to_pixels` for a clip of frames."""
    if isinstance(clip, Clip):
        return clip.frames
    return np.rint((np.asarray(clip.grid)[0].transpose(1, 2, 3, 0) + 1) * 127.5).astype(np.uint8)


class FrameHistory:
    """The frames of the running episode that the streams' clips may still need.

    Streams that read the same camera at the same size share its frames, so that each frame is resized once. A stream
    whose encoder goes on (`encoding="stream"`) gets the frames since its last refresh, and the episode's encoder
    memory with them.
    """

    def __init__(self, streams: tuple[StreamConfig, ...]):
        self._streams = streams
        self._uses = [FrameUse(stream.name, *_source(stream)) for stream in streams]
        self._frames: dict[tuple[str, Size, FrameConfig], deque[np.ndarray]] = {}
        for stream in streams:
            shared = self._frames.get(_source(stream))
            length = max(_memory(stream), (shared.maxlen or 0) if shared is not None else 0)
            self._frames[_source(stream)] = deque(maxlen=length)
        self._times: deque[float] = deque(maxlen=max((stream.every for stream in streams), default=1))
        self.needs_every_frame = any(stream.encoding == "stream" for stream in streams)
        self.reset()

    @property
    def span(self) -> int:
        """Control steps that the longest clip goes back to, its newest frame included; at least 1."""
        return max((_memory(stream) for stream in self._streams), default=1)

    def reset(self) -> None:
        """A new episode begins."""
        for frames in self._frames.values():
            frames.clear()
        self._times.clear()
        self._waiting = {s.name: _Waiting() for s in self._streams if s.encoding == "stream"}
        self._num_seen = 0
        """control steps of the episode so far"""

    def check(self, observation: Observation) -> None:
        """Raises ValueError: a camera that a stream reads is missing, or its frame is none or too small."""
        for use in self._uses:
            use.read(observation.images)

    def append(self, observation: Observation, control_step: int | None = None) -> None:
        """Take in the frame of one control step.

        Args:
            control_step: number of the frame in its episode, where frames before it were skipped; None: the next one.
        Raises:
            ValueError: as `check`.
            RuntimeError: an encoder must see every frame, but frames were skipped, or too many wait for it.
        """
        now = self._num_seen if control_step is None else control_step
        self.check(observation)
        if self.needs_every_frame and now != self._num_seen:
            raise RuntimeError(
                f"control steps {self._num_seen} to {now - 1} are missing, but an encoder with "
                f"encoding='stream' must see every "
                "frame of an episode; begin a new episode (reset)"
            )
        self._num_seen = now + 1
        self._times.append(observation.time)
        for (camera, size, rule), frames in self._frames.items():
            # copied: an environment may draw its next frame into the same memory
            frames.append(fit_frames(observation.images[camera][None], size, rule=rule)[0].copy())
        for stream in self._streams:
            if stream.encoding == "stream" and now % stream.stride == 0:
                self._waiting[stream.name].append(self._frames[_source(stream)][-1])

    @property
    def lag_s(self) -> float:
        """Seconds from the oldest of the streams' newest frames to the newest frame there is: 0, unless one looks every
        few control steps only."""
        newest, oldest = self._num_seen - 1, len(self._times) - 1
        steps = max((newest % stream.every for stream in self._streams), default=0)
        return self._times[-1] - self._times[-1 - min(steps, oldest)]

    def clips(self, control_fps: float) -> dict[str, Video]:
        """The clip of each stream that ends at the newest frame, or at the last one that the stream looks at;
        `control_fps` is the rate at which frames were appended."""
        clips = {}
        for stream in self._streams:
            frames = list(self._frames[_source(stream)])
            if not frames:
                raise RuntimeError("no frame has been observed in this episode; call append first")
            fps = control_fps / stream.stride
            if stream.encoding == "stream":
                newest = self._num_seen - 1
                num_frames = (newest - newest % stream.every) // stream.stride + 1
                clips[stream.name] = self._waiting[stream.name].clip(num_frames, fps, like=frames[-1])
                continue
            # numbers count from the beginning of the episode; frames that are no longer remembered are not asked for
            forgotten = self._num_seen - len(frames)
            chosen = [max(0, i - forgotten) for i in stream_indices(self._num_seen - 1, stream)]
            clips[stream.name] = to_pixels(np.stack([frames[i] for i in chosen]), fps)
        return clips


class _Waiting:
    """The frames of a stream that its encoder has not seen yet."""

    def __init__(self) -> None:
        self._memory = EncoderMemory()
        self._frames: deque[np.ndarray] = deque()
        self._first = 0
        """number of the oldest of them"""

    def append(self, frame: np.ndarray) -> None:
        while self._frames and self._first < self._memory.num_frames:
            self._frames.popleft()
            self._first += 1
        if len(self._frames) >= MAX_WAITING_FRAMES:
            raise RuntimeError(
                f"System 2 is {len(self._frames)} frames behind, but its encoder (encoding='stream') must "
                f"see all of an episode: "
                "reset the policy, refresh more often, or train with encoding='window'"
            )
        self._frames.append(frame)

    def clip(self, num_frames: int, fps: float, *, like: np.ndarray) -> EpisodeFrames:
        """Those of the first `num_frames` of the episode."""
        chosen = list(self._frames)[: num_frames - self._first]
        pixels = to_pixels(np.stack(chosen) if chosen else np.empty((0, *like.shape), np.uint8), fps)
        return EpisodeFrames(pixels.grid, fps, self._memory, self._first)


def _source(stream: StreamConfig) -> tuple[str, Size, FrameConfig]:
    """Streams with the same source read the same frames."""
    return stream.camera, stream.frame_px, stream.frame


def _memory(stream: StreamConfig) -> int:
    """Frames that a stream's window may still need."""
    if stream.encoding == "stream":
        return 1
    return (0 if stream.is_still else stream.stride) * (stream.num_frames - 1) + stream.every


class ImageHistory:
    """The past images that a policy's cameras named `camera@steps` ask for."""

    def __init__(self, cameras: tuple[str, ...]):
        split = {name: camera_and_lag(name) for name in cameras}
        self._past = {name: (camera, lag) for name, (camera, lag) in split.items() if lag > 0}
        longest: dict[str, int] = {}
        for camera, lag in self._past.values():
            longest[camera] = max(lag, longest.get(camera, 0))
        self._images: dict[str, deque[np.ndarray]] = {camera: deque(maxlen=lag + 1) for camera, lag in longest.items()}

    def reset(self) -> None:
        """A new episode begins."""
        for images in self._images.values():
            images.clear()

    def append(self, observation: Observation) -> None:
        """Take in the images of one control step; a camera that is not there is missed when a policy asks for it."""
        for camera, images in self._images.items():
            if camera in observation.images:
                images.append(check_frame(observation.images[camera], camera).copy())

    def complete(self, observation: Observation) -> Observation:
        """The observation with its past images beside it. Before the episode, the first frame is repeated, as in
        clips."""
        past = {}
        for name, (camera, lag) in self._past.items():
            images = self._images[camera]
            if images:
                past[name] = images[max(0, len(images) - 1 - lag)]
        return replace(observation, images=observation.images | past) if past else observation
