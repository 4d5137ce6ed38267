"""Noise levels and error weights of the families of video models: the values of an `Objective`.

A clip at noise level `l` is the mixture `(1 - l) * latents + l * noise`; its flow is `noise - latents`. If a model
predicts something else, its error is the flow's times a factor, and the square of that is the weight here.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Levels = Callable[[Float[Tensor, "b"], int], Float[Tensor, "b"]]


def shifted_uniform(shift: float) -> Levels:
    """Uniform levels, pushed towards noise: `s u / (1 + (s - 1) u)` (arXiv 2403.03206)."""

    def levels(uniform: Float[Tensor, "b"], num_frames: int) -> Float[Tensor, "b"]:
        return shift * uniform / (1 + (shift - 1) * uniform)

    return levels


def logit_normal(shift: float = 1.0, grows_with_frames: bool = False) -> Levels:
    """Levels whose log odds are normal around the logarithm of the shift (arXiv 2403.03206).

    Args:
        grows_with_frames: the odds also grow with the square root of the number of latent frames, as in
            Cosmos-Predict2.
    """

    def levels(uniform: Float[Tensor, "b"], num_frames: int) -> Float[Tensor, "b"]:
        centre = math.log(shift) + (0.5 * math.log(num_frames) if grows_with_frames else 0.0)
        return torch.sigmoid(centre + torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6))).float()

    return levels


def each_of(table: Float[Tensor, "n"]) -> Levels:
    """Every level of a table equally often: models with a fixed number of timesteps."""

    def levels(uniform: Float[Tensor, "b"], num_frames: int) -> Float[Tensor, "b"]:
        return table[(uniform * len(table)).long().clamp(max=len(table) - 1)]

    return levels


def flow_error(level: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The error of the flow itself."""
    return torch.ones_like(level)


def latents_error(level: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The error of the clean latents that the flow implies: large where they must be imagined."""
    return level**2


def circle_error(level: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The error of the velocity on the unit circle (arXiv 2202.00512), `(1 - l) * noise - l * latents` over its scale:
    CogVideoX. It equals that of the clean latents under EDM's weights (arXiv 2206.00364): Cosmos.
    """
    return level**2 + (1 - level) ** 2


def is_one_level(noise_level: Float[Tensor, "b t"]) -> bool:
    """Whether all frames of each clip have one noise level."""
    return bool((noise_level == noise_level[:, :1]).all())


def one_level(noise_level: Float[Tensor, "b t"], model: str) -> Float[Tensor, "b"]:
    """The level of each clip, for a model that takes one per clip.

    Raises:
        ValueError: frames of a clip differ: the model cannot be trained to continue a clean past.
    """
    if not is_one_level(noise_level):
        low, high = float(noise_level.min()), float(noise_level.max())
        raise ValueError(
            f"{model} knows one noise level per clip, got levels from {low:.1f} to {high:.1f} within one; it can be "
            "trained on whole noisy clips, not to continue a clean past: for that choose wan22, ltx or cosmos"
        )
    return noise_level[:, 0]
