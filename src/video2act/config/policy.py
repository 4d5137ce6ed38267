"""A whole policy: both systems, and how they work together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from video2act.config.checks import (
    Between,
    Bound,
    CheckedConfig,
    NonNegative,
    Pixels,
    Positive,
    Width,
    check,
    check_once,
)
from video2act.config.frames import LETTERBOX, FrameConfig, Orientation
from video2act.config.paths import replaced
from video2act.config.system1 import System1Config
from video2act.config.system2 import System2Config


def camera_and_lag(name: str) -> tuple[str, int]:
    """`head@1` -> (`head`, 1): a camera, and how many control steps ago. `head` -> (`head`, 0)."""
    camera, _, lag = name.partition("@")
    check(
        "@" not in name or (lag.isdigit() and int(lag) > 0),
        f"a past image is written camera@steps, e.g. head@1, got {name!r}",
    )
    return camera, int(lag or 0)


@dataclass(frozen=True)
class PolicyConfig(CheckedConfig):
    """A whole policy. Saved as `config.json`; with the weights it rebuilds the policy."""

    state_dim: Width
    """numbers of the robot's state"""
    action_dim: Annotated[int, Between(0, 2**16)]
    """numbers of an action"""
    fps: Positive
    """control steps per second of the data and of the robot"""
    cameras: Annotated[tuple[str, ...], Bound("must be at most 64", lambda cameras: len(cameras) <= 64)]
    """System 1's cameras; empty: the policy sees nothing. `head@1` is camera `head` one control step ago"""
    image_px: Pixels
    """side of System 1's images"""
    horizon: Annotated[int, Between(1, 10**4)]
    """actions in a chunk"""
    execute_steps: int
    """actions executed before the next plan"""
    system1: System1Config
    system2: System2Config | None
    refresh_every: Annotated[int, Between(1, 10**5)] = 8
    """control steps between two updates of System 2"""
    max_staleness_steps: Annotated[int, Between(0, 10**5)] = 8
    """oldest condition in training, in control steps; staleness is drawn from 0..this"""
    image: FrameConfig = LETTERBOX
    """how the cameras' frames get that size"""
    normalize_state: Literal["mean_std", "min_max", "quantile", "identity"] = "mean_std"
    """quantile: as min_max, but between the 1st and the 99th percentile, so that outliers do not count; identity:
    physical units. A state far outside the training range is clipped and reported as an incident, but for identity"""
    normalize_action: Literal["mean_std", "min_max", "quantile", "identity"] = "min_max"
    """the same words as for the state"""
    normalize_floor: NonNegative = 0.01
    """smallest scale of a dimension, as a share of a typical one of its vector: a parked joint that trembles is not
    scaled up. 0: no floor"""
    orientation: Orientation = "upright"
    """of the pictures in the training data; an environment with another one is refused. lerobot: LIBERO's, mirrored"""
    relative_actions: tuple[str, ...] = ()
    """names of the actions that are changes or speeds, as the training data record them; the others are targets. To
    hold, a robot gets zeros of these, and its last others"""
    preset: str = ""
    """name of the preset that the policy started from; describes, and changes nothing"""

    def _check(self) -> None:
        steps, delay, width = self.execute_steps, self.system1.max_delay_steps, self.system1.hidden
        check(1 <= steps <= self.horizon, f"execute_steps must lie in 1..horizon ({self.horizon}), got {steps}")
        check(delay < self.horizon, f"max_delay_steps ({delay}) must be smaller than horizon ({self.horizon})")
        check_once(self.cameras, "camera", why="its images would be read twice")
        for camera in self.cameras:
            camera_and_lag(camera)
        check_once(self.relative_actions, "relative action", why="each action is relative or is not")
        if self.system2:
            self.system2.check_bands(self.fps)
        for stream in self.system2.streams if self.system2 else ():
            heads = stream.former.num_heads
            check(
                stream.former.kind != "resampler" or width % heads == 0,
                f"stream {stream.name!r}: its tokens are as wide as system1.hidden={width}, which is not divisible by "
                f"the former's num_heads={heads}",
            )

    def replace(self, changes: Mapping[str, Any] | None = None, **by_keyword: Any) -> "PolicyConfig":
        """The config with fields changed by their paths: `{"horizon": 16, "system2.streams.motion.stride": 4}`.

        Raises:
            TypeError: something else than one mapping.
            ValueError: an unknown path, with the nearest ones; a value of another type; values that contradict each
                other.
        """
        if by_keyword or not isinstance(changes, Mapping):
            given = ", ".join(f"{name}={value!r}" for name, value in by_keyword.items()) or repr(changes)
            raise TypeError(f'replace takes a dict of paths, such as replace({{"horizon": 16}}), got {given}')
        return replaced(self, changes)

    @property
    def all_cameras(self) -> tuple[str, ...]:
        """Every camera that either system needs, System 1's first."""
        streams = self.system2.streams if self.system2 else ()
        seen = (camera_and_lag(camera)[0] for camera in self.cameras)
        return tuple(dict.fromkeys((*seen, *(stream.camera for stream in streams))))
