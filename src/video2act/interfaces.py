"""The sockets: what a part must offer to be plugged in. Tests in `tests/contracts` run every implementation.

`VideoBackbone` and its `Objective` live in `video_backbone.py`: they need torch, which the other sockets do not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from video2act.config import Orientation, PolicyConfig
from video2act.incidents import Incident
from video2act.types import ActionChunk, Committed, Observation, Plan, Step, Tokens, Video, VideoCondition


@runtime_checkable
class Perceiver(Protocol):
    """System 2 alone, as a process or a machine of its own holds it."""

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Slow: pixel clips, one per stream -> tokens."""
        ...


@runtime_checkable
class DualSystem(Perceiver, Protocol):
    """The two systems of one policy."""

    def act(self, observation: Observation, condition: VideoCondition) -> ActionChunk:
        """Fast: one observation and System 2's newest condition -> a chunk of actions in raw units."""
        ...


@runtime_checkable
class ConfiguredSystem(DualSystem, Protocol):
    """A dual system with a config; `Video2Act` is one."""

    config: PolicyConfig


@runtime_checkable
class LoadsSystem2(Protocol):
    """A system whose System 2 can be loaded again, in another process."""

    def system2_loader(self, device: str) -> Callable[[], Perceiver]:
        """A function that can be pickled. Empty device: the policy's own. Raises ValueError without a run folder."""
        ...

    def trained_instruction(self) -> str:
        """An instruction of the training, for a first run; empty if none is recorded."""
        ...


@runtime_checkable
class KnowsSystem2(ConfiguredSystem, Protocol):
    """A system that can tell its own System 2 from another one elsewhere."""

    def system2_fingerprint(self) -> str:
        """A short name for the weights of its System 2; empty: not known."""
        ...


@runtime_checkable
class Continuing(Protocol):
    """A system whose plans can continue the one in execution (real-time chunking)."""

    def continue_plan(
        self, observation: Observation, condition: VideoCondition, *, committed: Committed, guidance: float | None
    ) -> ActionChunk:
        """As `act`, but the chunk begins with the frozen committed actions and continues the others smoothly.

        Args:
            guidance: largest weight of guided denoising; None: for networks trained on committed actions.
        """
        ...


@runtime_checkable
class BeginsEpisodes(Protocol):
    """A system with something of its own in each episode."""

    def begin_episode(self) -> None:
        """Called before the first frame of an episode."""
        ...


@runtime_checkable
class Observes(Protocol):
    """A system that wants to see every frame itself."""

    def observe(self, observation: Observation) -> None:
        """Called at every control step."""
        ...


@runtime_checkable
class ChecksState(Protocol):
    """A system that knows the range of its training states."""

    def state_problem(self, observation: Observation) -> str:
        """The numbers of the state that are clipped, being far outside the training data; empty: none."""
        ...


@runtime_checkable
class ChecksInstruction(Protocol):
    """A system that knows which instructions it can read."""

    def check_instruction(self, instruction: str) -> None:
        """Raises ValueError or FileNotFoundError for one that a text encoder cannot read."""
        ...


class System2Error(RuntimeError):
    """System 2 cannot be started, or gives no condition. The message names its place and what happened."""


class HoldError(RuntimeError):
    """There is no fresh or sound condition to plan on: the robot keeps its last target. The message says why.

    Args:
        kind: of the incident; see `incidents.py`.
    """

    def __init__(self, message: str, kind: str = "hold"):
        super().__init__(message)
        self.kind = kind


class NoPlanError(HoldError, TimeoutError):
    """No plan came in time: the robot keeps its last target, and a plan is asked for again at the next step."""


@runtime_checkable
class Policy(Protocol):
    """Anything that drives a robot: local, threaded or remote."""

    def reset(self) -> None:
        """Begin an episode; earlier observations must not affect it."""
        ...

    def observe(self, observation: Observation) -> None:
        """Called at every control step: System 2's clips need the frames between two plans."""
        ...

    def infer(self, observation: Observation) -> ActionChunk:
        """Called when a new plan is due.

        Raises:
            HoldError: there is nothing fresh to plan on; the robot keeps its last target.
        """
        ...


@dataclass(frozen=True)
class EnvironmentSpec:
    """The fixed properties of an environment."""

    name: str
    """how `make_environment` finds it, e.g. `metaworld:push-v3`"""
    robot: str
    """robot type, as written into datasets"""
    instruction: str
    cameras: tuple[str, ...]
    image_size: int | tuple[int, int] | Mapping[str, tuple[int, int]]
    """pixels a side, or height and width; or height and width by camera"""
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    fps: float
    """control steps per second"""
    max_steps: int
    """control steps after which an episode is over"""
    relative_actions: tuple[str, ...] = ()
    """those of `action_names` that are changes or speeds: a robot holds still with zeros here, and its last others"""
    orientation: Orientation = "upright"
    """of the pictures: `upright`, or `lerobot`, LIBERO's mirrored form"""

    @property
    def frame_sizes(self) -> dict[str, tuple[int, int]]:
        """Height and width of each camera's images."""
        size = self.image_size
        if isinstance(size, Mapping):
            return {camera: size[camera] for camera in self.cameras}
        return dict.fromkeys(self.cameras, (size, size) if isinstance(size, int) else size)


@runtime_checkable
class Environment(Protocol):
    """A simulator or a robot."""

    spec: EnvironmentSpec

    def reset(self, seed: int) -> Observation:
        """Start an episode. The same seed gives the same episode, to the pixel."""
        ...

    def step(self, action: Float[np.ndarray, "a"]) -> Step:
        """Apply one action in raw units. A simulator goes on by `1 / fps` seconds and returns what follows; for a robot
        see `RealTimeEnvironment`."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class RealTimeEnvironment(Environment, Protocol):
    """A robot, or whatever else goes on in its own time. `step` sends the action and returns at once: the control loop
    waits until the next control step is due, and then asks `observe`. The observation in the `Step` is not used; it may
    be the last one."""

    def observe(self) -> Observation:
        """Cameras and state, read now; `Observation.time` is the moment of this reading."""
        ...


@runtime_checkable
class Expert(Protocol):
    """A scripted demonstrator. It may read the simulator's privileged state; a policy may not."""

    def reset(self) -> None:
        """Called after the environment's reset."""
        ...

    def act(self) -> Float[np.ndarray, "a"]:
        """The next action, without noise."""
        ...


@dataclass(frozen=True)
class Decision:
    """What is sent to the robot at one control step, and why."""

    action: Float[np.ndarray, "a"]
    plan: Plan
    """the newest one; where a person has acted before the first, the action that is held, as a plan of one"""
    is_new_plan: bool
    is_held: bool
    is_clamped: bool
    incidents: tuple[Incident, ...] = ()
    """those since the step before"""


@runtime_checkable
class Watcher(Protocol):
    """Gets every step of the control loop: recorder, logger, dashboard."""

    def on_reset(self, observation: Observation) -> None:
        """An episode begins with this observation; `on_step` gets it too."""
        ...

    def on_step(self, observation: Observation, decision: Decision) -> None: ...
