"""What is done to a camera's frame so that it has the size that a network reads."""

from dataclasses import dataclass
from typing import Literal

from video2act.config.checks import CheckedConfig, NonNegative

Fit = Literal["letterbox", "crop", "stretch"]
Orientation = Literal["upright", "lerobot"]
"""lerobot: mirrored left-right, as LeRobot, openpi and published checkpoints have LIBERO's pictures"""
VisualShiftName = Literal["colours", "light", "camera", "distractor", "mixed"]
"""how scenes look otherwise than in training: `envs/visual_shift.py`"""


@dataclass(frozen=True)
class FrameConfig(CheckedConfig):
    """How a frame gets its size (`frames.fit_frames`): the same in training, caches, on the robot and in the server."""

    fit: Fit = "letterbox"
    """where frame and size differ in shape. letterbox: grey bars (127 of 255), nothing is lost; crop: the centre is
    kept; stretch: the frame is distorted"""
    resample: Literal["area", "bicubic", "lanczos"] = "area"
    """area: averages pixels down, bilinear where it enlarges; bicubic: as SigLIP's processor; lanczos: as the released
    code"""
    max_enlargement: NonNegative = 1.0
    """largest factor by which a frame is enlarged; a smaller frame is refused. 1: never enlarged; 0: no limit"""


LETTERBOX = FrameConfig()
