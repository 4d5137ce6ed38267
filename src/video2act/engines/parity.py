"""The check of an export: both systems, on consecutive observations, by PyTorch and by the engine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from video2act.clips import FrameHistory, ImageHistory
from video2act.config import PolicyConfig
from video2act.engines.policy import EnginePolicy
from video2act.policy import Video2Act
from video2act.types import Observation, Tokens, VideoCondition

LIMIT = 1e-4
MOMENTS = 4
"""of an episode, at which both are asked"""
FAR = 10.0
"""scales that the last state is moved by"""


@dataclass(frozen=True)
class Parity:
    """Largest absolute differences from PyTorch."""

    actions: float
    """in normalised units, each plan made on the engine's own tokens"""
    tokens: float
    """of System 2; 0 without it"""

    def check(self, limit: float = LIMIT) -> None:
        """Raises ValueError beyond the limit, or for a number that is not finite."""
        if not max(self.actions, self.tokens) <= limit:
            raise ValueError(
                f"the engine differs from PyTorch by {self.actions:.2g} in normalised actions and by {self.tokens:.2g} "
                f"in System 2's tokens, allowed is {limit:g}; nothing was exported"
            )

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def compare(policy: Video2Act, exported: EnginePolicy, *, observations: Sequence[Observation]) -> Parity:
    """The largest differences at some moments of an episode. The condition is older each time, and the last state lies
    far outside the training data.

    Args:
        observations: of its consecutive control steps.
    """
    config = policy.config
    streams = config.system2.streams if config.system2 and exported.exported.has_system2 else ()
    history, images = FrameHistory(streams), ImageHistory(config.cameras)
    scale, state_scale = (each.scale.cpu().numpy() for each in (policy.normalize_action, policy.normalize_state))
    asked = set(np.linspace(0, len(observations) - 1, MOMENTS).astype(int).tolist())
    actions, tokens = [0.0], [0.0]
    for number, observation in enumerate(observations):
        history.append(observation)
        images.append(observation)
        if number not in asked:
            continue
        if streams:
            clips, said = history.clips(config.fps), [observation.instruction]
            theirs, ours = policy.perceive(clips, said), exported.perceive(clips, said)
            tokens.append(_difference(theirs.data.cpu().numpy(), np.asarray(ours.data)))
        else:  # any tokens will do for System 1 alone
            theirs = ours = _any_tokens(config, number)
        complete = images.complete(observation)
        if number == len(observations) - 1:
            complete = replace(complete, state=complete.state + FAR * state_scale)
        policy.seed(number)
        exported.seed(number)
        observed_at = observation.time - number / config.fps
        chunks = [
            system.act(complete, VideoCondition(seen, observed_at, 0)).actions / scale
            for system, seen in ((policy, theirs), (exported, ours))
        ]
        actions.append(_difference(*chunks))
    return Parity(max(actions), max(tokens))


def _any_tokens(config: PolicyConfig, seed: int) -> Tokens:
    shape = (1, 8 if config.system2 else 0, config.system1.hidden)
    return Tokens.all_visible(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Infinite where a number is not finite."""
    largest = float(np.abs(one.astype(np.float64) - other).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
