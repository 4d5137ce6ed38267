"""Where an evaluation gets its policy: a run folder, or a policy in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from video2act.config import PolicyConfig
from video2act.engines.choice import load_policy
from video2act.engines.policy import EnginePolicy
from video2act.files.run_folder import (
    STATISTICS_FILE,
    FrameSizes,
    load_config,
    load_frame_sizes,
    load_instructions,
    load_training_seeds,
)
from video2act.interfaces import DualSystem
from video2act.statistics import Statistics, load_statistics, names_of
from video2act.types import Video

if TYPE_CHECKING:
    from video2act.policy import Video2Act
else:
    Video2Act = Any


@runtime_checkable
class EvaluatedPolicy(DualSystem, Protocol):
    """What an evaluation needs of a policy; `Video2Act` has it."""

    config: PolicyConfig

    def seed(self, seed: int) -> None: ...
    def blinded(self) -> "EvaluatedPolicy": ...
    def explain(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]: ...
    def foresee(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]: ...


@runtime_checkable
class PolicySource(Protocol):
    """Read in the main process and in every worker; travels to workers by pickle if it is not loaded."""

    @property
    def path(self) -> Path | None:
        """The run folder; None for a policy in memory or elsewhere, which is evaluated from this process."""
        ...

    @property
    def name(self) -> str | None:
        """Where the policy is: its folder or its address; None for one in memory."""
        ...

    def config(self) -> PolicyConfig: ...
    def action_statistics(self) -> Statistics: ...
    def names(self) -> dict[str, tuple[str, ...]]:
        """Names of the numbers of `state` and `action` in the training data, where they are recorded."""
        ...

    def training_seeds(self, env: str) -> list[int]:
        """Seeds of this environment in the training data; empty if they are not recorded."""
        ...

    def instructions(self) -> tuple[str, ...]:
        """Those of the training data; empty if they are not recorded."""
        ...

    def frame_sizes(self) -> FrameSizes:
        """Height and width of each camera's frames in the training data; empty if they are not recorded."""
        ...

    def load(self, device: str) -> EvaluatedPolicy: ...


@dataclass(frozen=True)
class RunFolder:
    """A policy on disk. Raises FileNotFoundError or ValueError as `Video2Act.load` does."""

    path: Path
    engine: str = "torch"

    @property
    def name(self) -> str:
        return str(self.path)

    def config(self) -> PolicyConfig:
        return load_config(self.path)

    def action_statistics(self) -> Statistics:
        return load_statistics(self.path / STATISTICS_FILE)["action"]

    def names(self) -> dict[str, tuple[str, ...]]:
        return names_of(load_statistics(self.path / STATISTICS_FILE))

    def training_seeds(self, env: str) -> list[int]:
        return load_training_seeds(self.path, env)

    def instructions(self) -> tuple[str, ...]:
        return load_instructions(self.path)

    def frame_sizes(self) -> FrameSizes:
        return load_frame_sizes(self.path)

    def load(self, device: str) -> EvaluatedPolicy:
        return load_policy(self.path, self.engine, device=device)


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy in memory. It is used as it is: on its device, with its weights."""

    policy: Video2Act | EnginePolicy
    path: None = None
    name: None = None

    def config(self) -> PolicyConfig:
        return self.policy.config

    def action_statistics(self) -> Statistics:
        return self.policy.statistics["action"]

    def names(self) -> dict[str, tuple[str, ...]]:
        return names_of(self.policy.statistics)

    def training_seeds(self, env: str) -> list[int]:
        return [] if self.policy.folder is None else load_training_seeds(self.policy.folder, env)

    def instructions(self) -> tuple[str, ...]:
        return () if self.policy.folder is None else load_instructions(self.policy.folder)

    def frame_sizes(self) -> FrameSizes:
        return {} if self.policy.folder is None else load_frame_sizes(self.policy.folder)

    def load(self, device: str) -> EvaluatedPolicy:
        return self.policy


def rendered_size(recorded: FrameSizes, chosen: int | None) -> tuple[int, int] | None:
    """Height and width that a simulator renders for a policy: those chosen, or recorded; None where neither is there.

    Raises:
        ValueError: the cameras were recorded at several sizes, and none is chosen.
    """
    if chosen is not None:
        return chosen, chosen
    if len(set(recorded.values())) > 1:
        listed = ", ".join(f"{camera} {height} x {width}" for camera, (height, width) in recorded.items())
        raise ValueError(
            f"the training data's cameras differ in height and width ({listed}), and a simulator renders all of them "
            "at one size; choose it: --image-size"
        )
    return next(iter(recorded.values()), None)
