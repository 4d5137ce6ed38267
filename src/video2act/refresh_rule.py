"""When System 2 refreshes: one rule for all slow loops, wherever System 2 works.

The rule counts control steps. It has no clock and no thread.

- The first frame of an episode is due.
- A refresh on the frame of control step s makes the next one due at step s + refresh_every.
- A refresh that failed stays due. The next attempt follows after `pause_s` and uses the frame that is newest then.
- A frame with another instruction is due at once.
- A loop that has fallen behind refreshes once, on the newest frame. Refreshes that it missed are skipped.
"""

from dataclasses import dataclass
from math import gcd

from video2act.config import StreamConfig
from video2act.types import Observation

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


def check_refresh_every(refresh_every: int) -> None:
    if refresh_every < 1:
        raise ValueError(
            f"refresh_every counts control steps between two refreshes of System 2: at least 1, got {refresh_every}"
        )


def pause_s(failures: int) -> float:
    """Seconds before the next attempt after so many failures in a row: doubled each time, at most 5."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10)) if failures else 0.0


@dataclass(frozen=True)
class RefreshSpec:
    """What System 2 sees, and how often. Raises ValueError if `refresh_every` or `control_fps` is not positive."""

    streams: tuple[StreamConfig, ...]
    refresh_every: int
    """control steps, at least, between the starts of two refreshes"""
    control_fps: float
    """control steps per second"""

    def __post_init__(self) -> None:
        check_refresh_every(self.refresh_every)
        if self.control_fps <= 0:
            raise ValueError(f"control_fps must be positive, got {self.control_fps}")

    @property
    def oldest_s(self) -> float:
        """Age that the frames in a condition reach until the next refresh is due, even if refreshes take no time."""
        n = self.refresh_every
        # refreshes at steps 0, n, 2n, ... are up to this late for a stream that looks at steps 0, every, 2 every, ...
        lag = max((stream.every - gcd(stream.every, n) for stream in self.streams), default=0)
        return (n + lag) / self.control_fps


@dataclass(frozen=True)
class Frame:
    """The observation of one control step, numbered."""

    observation: Observation
    episode: int
    control_step: int

    @property
    def place(self) -> tuple[int, int]:
        return self.episode, self.control_step


@dataclass(frozen=True)
class RefreshRule:
    """Immutable: `after` returns the rule with a refresh taken into account."""

    refresh_every: int
    last: Frame | None = None
    """newest frame of the last refresh that succeeded"""

    def is_due(self, newest: Frame) -> bool:
        """Whether System 2 shall refresh on this frame, the newest there is."""
        last = self.last
        return (
            last is None
            or newest.episode != last.episode
            or newest.observation.instruction != last.observation.instruction
            or newest.control_step >= last.control_step + self.refresh_every
        )

    def after(self, refreshed: Frame) -> "RefreshRule":
        """After a refresh on this frame has succeeded. A failed refresh leaves the rule as it is."""
        return RefreshRule(self.refresh_every, refreshed)
