"""How System 2 keeps up with an episode. All loops follow `refresh_rule.py`.

- `InlineSlowLoop` lets the robot wait. It is deterministic: use it to score.
- `ThreadSlowLoop` (`thread_loop.py`) refreshes in a thread, which shares Python's lock and the cores with the control
  loop. Clients of a server share such a thread; for a System 2 on another machine, the thread waits for its answers.
- `ProcessSlowLoop` (`process_loop.py`) gives System 2 a process, and a device, of its own.
- `VirtualSlowLoop` (`virtual_clock.py`) computes inline and delivers late, on the simulator's clock.

Episodes are numbered, and so is everything made from their frames. What carries another number is refused, so a reset
has nothing to clear by hand. A policy without System 2 has no streams, and its `perceive({}, ...)` returns zero tokens.
"""

from collections import deque
from typing import Protocol, runtime_checkable

from video2act.clips import FrameHistory
from video2act.incidents import Incidents
from video2act.interfaces import Perceiver
from video2act.refresh_rule import Frame, RefreshRule, RefreshSpec
from video2act.runtime.refresh import TIMES_KEPT, perceive
from video2act.types import Observation, Video, VideoCondition


@runtime_checkable
class SlowLoop(Protocol):
    """Feeds System 2 with frames, and answers with its newest condition."""

    perceive_s: deque[float]
    """seconds that each refresh took, over all episodes; the newest"""
    incidents: Incidents
    """failures of System 2 that were noticed"""

    def reset(self, episode: int) -> None:
        """Episode number `episode` begins; conditions of earlier ones are refused from now on. Numbers count up."""
        ...

    def check(self, observation: Observation) -> None:
        """Raises ValueError for images that a stream cannot read. Changes nothing."""
        ...

    def observe(self, observation: Observation) -> None:
        """Called exactly once per control step: the history needs every frame, whether or not a refresh follows."""
        ...

    def condition(self) -> VideoCondition:
        """The newest condition of the running episode.

        A loop beside the control loop waits for the first condition of an episode, within bounds, and never again; when
        System 2 fails later, it keeps answering the last one.
        """
        ...

    def clips(self) -> tuple[dict[str, Video], float]:
        """The clips of the newest frame that was observed, and their `lag_s`."""
        ...

    def close(self) -> None: ...


class InlineSlowLoop:
    """System 2 runs in the control loop: without failures at control steps 0, n, 2n, ... of each episode.

    An error of System 2 is raised by `observe`, and so is a HoldError when others are at it for too long. The frame has
    been taken in then, and the refresh stays due at the next control step.
    """

    def __init__(self, system: Perceiver, spec: RefreshSpec):
        self.perceive_s: deque[float] = deque(maxlen=TIMES_KEPT)
        self.incidents = Incidents()
        self._system = system
        self._spec = spec
        self._history = FrameHistory(spec.streams)
        self._begin(-1)

    def reset(self, episode: int) -> None:
        self._history.reset()
        self._begin(episode)

    def _begin(self, episode: int) -> None:
        self._episode = episode
        self._rule = RefreshRule(self._spec.refresh_every)
        self._control_step = 0
        self._num_conditions = 0
        self._condition: VideoCondition | None = None

    def check(self, observation: Observation) -> None:
        self._history.check(observation)

    def observe(self, observation: Observation) -> None:
        self._history.append(observation)
        frame = Frame(observation, self._episode, self._control_step)
        self._control_step += 1
        if self._rule.is_due(frame):
            self._condition = self._refresh(frame)

    def _refresh(self, frame: Frame) -> VideoCondition:
        clips, lag_s = self.clips()
        refreshed = perceive(self._system, clips, newest=frame, lag_s=lag_s)
        self._rule = self._rule.after(frame)
        self.perceive_s.append(refreshed.duration_s)
        self._num_conditions += 1
        return refreshed.condition(self._num_conditions)

    def condition(self) -> VideoCondition:
        if self._condition is None:
            raise RuntimeError("System 2 has seen no frame of this episode; call observe before condition")
        return self._condition

    def clips(self) -> tuple[dict[str, Video], float]:
        return self._history.clips(self._spec.control_fps), self._history.lag_s

    def close(self) -> None:
        """Nothing to end."""
