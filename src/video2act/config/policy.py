"""A whole policy: both systems, and how they work together."""

from dataclasses import dataclass
from typing import Literal

from video2act.config.files import check
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
class PolicyConfig:
    """A whole policy. Saved as `config.json`; with the weights it rebuilds the policy."""

    state_dim: int
    action_dim: int
    fps: float
    """control steps per second of the data and of the robot"""
    cameras: tuple[str, ...]
    """what System 1 looks at; empty for a policy that sees nothing. `head@1` is what camera `head` saw one control step ago"""
    image_px: int
    """side of System 1's images"""
    horizon: int
    """actions in a chunk"""
    execute_steps: int
    """actions executed before the next plan"""
    system1: System1Config
    system2: System2Config | None
    refresh_every: int = 8
    """control steps between two updates of System 2"""
    max_staleness_steps: int = 8
    """oldest condition seen in training, in control steps; staleness is drawn from 0..this"""
    image_fit: Literal["area", "pad"] = "area"
    """area: averages pixels down; pad: bicubic, may enlarge (SigLIP as in RDT-1B). What is not square gets grey bars"""
    normalize_state: Literal["mean_std", "min_max", "identity"] = "mean_std"
    normalize_action: Literal["mean_std", "min_max", "identity"] = "min_max"

    def __post_init__(self) -> None:
        check(
            1 <= self.execute_steps <= self.horizon,
            f"execute_steps must lie in 1..horizon ({self.horizon}), got {self.execute_steps}",
        )
        check(
            self.system1.max_delay_steps < self.horizon,
            f"max_delay_steps ({self.system1.max_delay_steps}) must be smaller than horizon ({self.horizon})",
        )
        check(self.refresh_every >= 1, f"refresh_every must be at least 1, got {self.refresh_every}")
        check(
            self.max_staleness_steps >= 0, f"max_staleness_steps must not be negative, got {self.max_staleness_steps}"
        )
        check(self.image_px > 0, f"image_px must be positive, got {self.image_px}")
        check(self.image_fit in ("area", "pad"), f"image_fit must be 'area' or 'pad', got {self.image_fit!r}")
        check(self.fps > 0, f"fps must be positive, got {self.fps}")
        for camera in self.cameras:
            camera_and_lag(camera)
        if self.system2 is not None:
            check(
                self.system2.token_dim == self.system1.hidden,
                f"System 2's token_dim ({self.system2.token_dim}) must equal System 1's hidden ({self.system1.hidden})",
            )

    @property
    def all_cameras(self) -> tuple[str, ...]:
        """Every camera that either system needs, System 1's first."""
        streams = self.system2.streams if self.system2 else ()
        seen = (camera_and_lag(camera)[0] for camera in self.cameras)
        return tuple(dict.fromkeys((*seen, *(stream.camera for stream in streams))))
