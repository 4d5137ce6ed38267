"""One episode as a film: its cameras, the map of each stream's filter, and a timeline of both systems.

Beside each map is the one of the pixels: their Sobel gradients, or, for a filter over time, their change within the
clip. The correlation of the two is written above the stream's map. Where a stream looks ahead, the map of the imagined
frames follows, and the last of them beside the frame that really came. A stream that keeps the imagined frames
alone has no map of the past.

The maps are computed after the episode, from the recorded frames and by the robot's clip rule, so that they cost the
control loop nothing. A map changes when System 2 refreshed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from video2act.clips import FrameHistory
from video2act.config import StreamConfig
from video2act.types import Observation, Video
from video2act.viz.pictures import (
    TEMPORAL,
    arrange,
    caption,
    correlation,
    enlarge,
    magnitude,
    overlay,
    pixel_map,
    rescale,
    robust_range,
    scale_bar,
    tick_strip,
)

Explain = Callable[[dict[str, Video], list[str]], dict[str, Video]]
"""clips of one moment (stream -> pixels), instruction -> stream -> what its filter kept"""

Foresee = Callable[[dict[str, Video], list[str]], dict[str, Video]]
"""the same -> stream -> the frames that it imagines, as pixels"""


def imagines_nothing(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
    return {}


PANEL_PX = 256

STILL = 0.002
"""change of grey values in [-1, 1] below which nothing moves: a quarter of an 8-bit step"""
MAX_PLAYBACK_FPS = 20.0
"""faster control loops are shown in slow motion"""


@dataclass(frozen=True)
class Recording:
    """An episode that is over."""

    frames: dict[str, UInt8[np.ndarray, "t _h _w 3"]]
    """camera -> every frame"""
    instructions: tuple[str, ...]
    """of each control step"""
    fps: float
    """control steps per second"""
    plan_steps: tuple[int, ...]
    """control steps at which System 1 planned"""
    condition_steps: tuple[int, ...]
    """for each control step, the step of the newest frame in the condition that was used"""

    outcome: str = ""
    """how the episode ended, in a word or two"""

    @property
    def num_steps(self) -> int:
        return len(self.condition_steps)

    @property
    def playback_fps(self) -> float:
        return min(self.fps, MAX_PLAYBACK_FPS)


def film(
    recording: Recording,
    streams: Sequence[StreamConfig],
    *,
    explain: Explain,
    foresee: Foresee = imagines_nothing,
    columns: int | None = None,
    shows_cameras: bool = True,
    shows_maps: bool = True,
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures of the film, one per control step.

    Args:
        columns: panels beside one another; None: all in one row.
        shows_cameras: begin with the cameras' own pictures.
        shows_maps: follow with the maps of the streams; without, the streams only say that there are refreshes.
    """
    refresh_steps = sorted(set(recording.condition_steps))
    views = stream_views(recording, streams if shows_maps else (), explain=explain, foresee=foresee)
    staleness = [step - seen for step, seen in enumerate(recording.condition_steps)]
    for step, seen in enumerate(recording.condition_steps):
        cameras = recording.frames.items() if shows_cameras else ()
        panels = [caption(enlarge(frames[step], PANEL_PX), name) for name, frames in cameras]
        for view in views.values():
            frames = recording.frames[view.stream.camera]
            panels += view.panels(seen, enlarge(frames[seen], PANEL_PX)).values()
            panels += view.future(seen, frames, control_fps=recording.fps).values()
        row = arrange(panels, columns or len(panels))
        strip = tick_strip(
            row.shape[1],
            recording.plan_steps,
            refresh_steps=refresh_steps if streams else (),
            staleness=staleness,
            now=step,
        )
        yield caption(np.concatenate([row, strip]), title(recording, step))


def stream_views(
    recording: Recording, streams: Sequence[StreamConfig], *, explain: Explain, foresee: Foresee = imagines_nothing
) -> dict[str, "StreamView"]:
    """Stream -> its maps, of each control step whose frame a condition has seen."""
    views = {stream.name: StreamView(stream) for stream in streams}
    history, refresh_steps = FrameHistory(tuple(streams)), set(recording.condition_steps)
    for step in range(recording.num_steps if streams else 0):
        images = {camera: frames[step] for camera, frames in recording.frames.items()}
        said = recording.instructions[step]
        history.append(Observation(images, np.zeros(0, np.float32), said, step / recording.fps))
        if step in refresh_steps:
            clips = history.clips(recording.fps)
            kept = explain(clips, [said])
            imagined = foresee(clips, [said])
            for name, view in views.items():
                view.add(step, clips[name], kept=kept[name], imagined=imagined.get(name))
    return views


class StreamView:
    """A stream's maps over an episode and those of the pixels; each of the two has one scale.

    Normalised features without a filter are equally large everywhere. Then the maps show what differs: over the clip,
    and, of the imagined frames, from the newest one.
    """

    def __init__(self, stream: StreamConfig):
        self.stream = stream
        self._is_plain = stream.filter.name == "none"
        self._is_over_time = stream.filter.name in TEMPORAL or (self._is_plain and stream.num_frames > 1)
        self._maps: dict[int, np.ndarray] = {}
        self._pixels: dict[int, np.ndarray] = {}
        self._future_maps: dict[int, np.ndarray] = {}
        self._imagined: dict[int, np.ndarray] = {}

    def add(self, step: int, clip: Video, *, kept: Video, imagined: Video | None) -> None:
        num_past = self._num_past(kept.grid.shape[2])
        past, future = Video(kept.grid[:, :, :num_past], kept.fps), Video(kept.grid[:, :, num_past:], kept.fps)
        if num_past:
            self._maps[step] = magnitude(_change(past) if self._is_plain else past)
        if num_past and self._is_plain:
            future = replace(future, grid=future.grid - past.grid[:, :, -1:])
        elif self._is_plain:
            future = _change(future)
        if future.grid.shape[2]:
            self._future_maps[step] = magnitude(future)
        if imagined is not None:
            last = imagined.grid[0, :, -1].detach().float().cpu().numpy()
            self._imagined[step] = np.rint((last.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        h, w = kept.grid.shape[3:]
        self._pixels[step] = pixel_map(clip, TEMPORAL[0] if self._is_over_time else "sobel", size=(h, w))

    def _num_past(self, t: int) -> int:
        """How many of t kept positions are of the past."""
        look, num_frames = self.stream.imagine, self.stream.num_frames
        if not look.num_frames or look.keep == "past":
            return t
        if look.keep == "future":
            return 0
        # t is 1 + (frames after the first) / group
        return t - look.num_frames * (t - 1) // (num_frames - 1 + look.num_frames)

    def panels(self, step: int, frame: UInt8[np.ndarray, "size size 3"]) -> dict[str, UInt8[np.ndarray, "_h _w 3"]]:
        """The pixels' own map (`pixels`) and the stream's (`kept`), each with its scale, over the frame of a control
        step. A stream that keeps the future alone has none of the past."""
        name = "change of features" if self._is_plain else self.stream.filter.name
        own = "change of pixels" if self._is_over_time else "sobel of pixels"
        drawn = {"pixels": self._drawn(frame, self._pixels, step=step, text=f"{own}, {self.stream.camera}")}
        if step in self._maps:
            if self._is_over_time and self._pixels[step].max() < STILL:
                found = "no motion yet" if step == min(self._maps) else "no motion in this clip"
            else:
                found = f"r = {correlation(self._maps[step], self._pixels[step]):+.2f}"
            text = f"{self.stream.name}: {name}, {found}"
            drawn["kept"] = self._drawn(frame, self._maps, step=step, text=text)
        return drawn

    def future(
        self, step: int, frames: UInt8[np.ndarray, "t _h _w 3"], *, control_fps: float
    ) -> dict[str, UInt8[np.ndarray, "_h2 _w2 3"]]:
        """What a control step's clip imagines: the map of it (`expected`), its last frame (`imagined`), and the frame
        that really came (`came`)."""
        steps = self.stream.imagine.num_frames * self.stream.stride
        ahead, drawn = f"{steps / control_fps:.2g} s ahead", {}
        if step in self._future_maps:
            found = "expected change" if self._is_plain else f"{self.stream.filter.name} of the imagined"
            text, frame = f"{self.stream.name}: {found}", enlarge(frames[step], PANEL_PX)
            drawn["expected"] = self._drawn(frame, self._future_maps, step=step, text=text)
        if step in self._imagined:
            drawn["imagined"] = caption(enlarge(self._imagined[step], PANEL_PX), f"imagined, {ahead}")
            came = min(step + steps, len(frames) - 1)
            text = f"what came, {ahead}" if came == step + steps else "the episode's last frame"
            drawn["came"] = caption(enlarge(frames[came], PANEL_PX), text)
        return drawn

    def _drawn(
        self, frame: UInt8[np.ndarray, "size size 3"], maps: dict[int, np.ndarray], *, step: int, text: str
    ) -> UInt8[np.ndarray, "_h _w 3"]:
        """The map of a control step over its frame, with the scale that all maps of the episode have."""
        value_range = robust_range(list(maps.values()))
        picture = overlay(frame, rescale(maps[step], value_range))
        return caption(np.concatenate([picture, scale_bar(PANEL_PX, value_range)], axis=1), text)


def _change(video: Video) -> Video:
    """What differs over the clip; of a single frame, over its places."""
    axes = 2 if video.grid.shape[2] > 1 else (3, 4)
    return replace(video, grid=video.grid - video.grid.mean(dim=axes, keepdim=True))


def title(recording: Recording, step: int) -> str:
    speed = recording.playback_fps / recording.fps
    slow_motion = "" if speed == 1 else f", {speed:.2g}x speed"
    outcome = f"  {recording.outcome}" if recording.outcome else ""
    return f'"{recording.instructions[step]}"  {step / recording.fps:.2f} s{slow_motion}{outcome}'
