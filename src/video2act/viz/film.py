"""One episode as a film: its cameras, beside them what each stream's filter kept, and below them who ran when.

The maps are computed here, after the episode, from the recorded frames and by the same clip rule as on the robot, so
that looking costs the control loop nothing. Cameras run at every frame; a map changes when System 2 refreshed, as it
did for the policy.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from video2act.clips import FrameHistory
from video2act.config import FrameConfig, StreamConfig
from video2act.frames import fit_frames
from video2act.types import Observation, Video
from video2act.viz.pictures import caption, enlarge, magnitude, overlay, rescale, robust_range, tick_strip

Explain = Callable[[dict[str, Video], list[str]], dict[str, Video]]
"""clips of one moment (stream -> pixels), instruction -> stream -> what its filter kept"""

PANEL_PX = 256
PANEL = (PANEL_PX, PANEL_PX)
AS_SEEN = FrameConfig(resample="bicubic", max_enlargement=0.0)
"""of a camera's own panel"""

MAX_PLAYBACK_FPS = 20.0
"""faster control loops are shown in slow motion: at 80 Hz an episode is over before one has looked"""


@dataclass(frozen=True)
class Recording:
    """What is left of an episode once it is over."""

    frames: dict[str, UInt8[np.ndarray, "t _h _w 3"]]
    """camera -> every frame"""
    instruction: str
    fps: float
    """control steps per second"""
    plan_steps: tuple[int, ...]
    """control steps at which System 1 planned"""
    condition_steps: tuple[int, ...]
    """for each control step, the step of the newest frame in the condition that was used"""

    @property
    def num_steps(self) -> int:
        return len(self.condition_steps)

    @property
    def playback_fps(self) -> float:
        return min(self.fps, MAX_PLAYBACK_FPS)


def film(
    recording: Recording, streams: Sequence[StreamConfig], *, explain: Explain
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures of the film, one per control step."""
    refresh_steps = sorted(set(recording.condition_steps))
    maps: dict[str, dict[int, np.ndarray]] = {stream.name: {} for stream in streams}
    history = FrameHistory(tuple(streams))
    for step in range(recording.num_steps if streams else 0):
        images = {camera: frames[step] for camera, frames in recording.frames.items()}
        history.append(Observation(images, np.zeros(0, np.float32), recording.instruction, step / recording.fps))
        if step in refresh_steps:
            kept = explain(history.clips(recording.fps), [recording.instruction])
            for stream in streams:
                maps[stream.name][step] = magnitude(kept[stream.name])
    ranges = {stream.name: robust_range(list(maps[stream.name].values())) for stream in streams}
    staleness = [step - seen for step, seen in enumerate(recording.condition_steps)]
    for step, seen in enumerate(recording.condition_steps):
        shown = {name: fit_frames(frames[[step]], PANEL, rule=AS_SEEN)[0] for name, frames in recording.frames.items()}
        panels = [caption(picture, name) for name, picture in shown.items()]
        for stream in streams:
            strength = rescale(maps[stream.name][seen], ranges[stream.name])
            own = fit_frames(recording.frames[stream.camera][[seen]], stream.frame_px, rule=stream.frame)[0]
            frame = enlarge(own, PANEL_PX)
            panels.append(caption(overlay(frame, strength), f"{stream.name}: {stream.filter.name} of {stream.camera}"))
        row = np.concatenate(panels, axis=1)
        strip = tick_strip(
            row.shape[1],
            recording.plan_steps,
            refresh_steps=refresh_steps if streams else (),
            staleness=staleness,
            now=step,
        )
        yield caption(np.concatenate([row, strip]), title(recording, step))


def title(recording: Recording, step: int) -> str:
    speed = recording.playback_fps / recording.fps
    slow_motion = "" if speed == 1 else f", {speed:.2g}x speed"
    return f'"{recording.instruction}"  {step / recording.fps:.2f} s{slow_motion}'
