"""The map of state and action to normalised units and back. It lives in the policy's weights, as buffers."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from video2act.statistics import Statistics

Mode = Literal["mean_std", "min_max", "quantile", "identity"]

MAGNITUDE_FLOOR = 0.001
"""smallest scale of a dimension, as a share of its largest number: 0.3 rad, give or take 1e-5, is a parked joint"""


NO_SPREAD = 1e-12
"""below, a dimension never moves, whatever its unit is"""


class Normalizer(nn.Module):
    """An affine map per dimension: `normalised = (raw - shift) / scale`.

    A dimension that hardly moves (a parked joint, whose encoder trembles) is not scaled up to the size of the others:
    its scale is at least `floor` times that of a typical dimension of the vector, and `MAGNITUDE_FLOOR` times its own
    largest number. One that never moves is shifted, not scaled.

    Args:
        floor: smallest scale, as a share of the upper median over the dimensions that move.
    Raises:
        ValueError: `quantile`, but the statistics hold no quantiles.
    """

    shift: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, statistics: Statistics, mode: Mode, *, floor: float = 0.01):
        super().__init__()
        # numpy: the module may be built on torch's meta device, where nothing can be computed
        low, high = np.array(statistics.min, float), np.array(statistics.max, float)
        shift, spread = np.zeros_like(low), np.ones_like(low)
        if mode == "mean_std":
            shift, spread = np.array(statistics.mean, float), np.array(statistics.std, float)
        elif mode != "identity":
            shift, spread = (low + high) / 2, (high - low) / 2
        if mode == "quantile":
            if not statistics.q01:
                raise ValueError(
                    "quantile needs statistics with q01 and q99, which these lack; choose mean_std or min_max"
                )
            first, last = np.array(statistics.q01, float), np.array(statistics.q99, float)
            # a gripper that is closed in 99 % of all frames keeps its whole range
            is_rare = last - first <= 1e-4 * (high - low)
            shift = np.where(is_rare, shift, (first + last) / 2)
            spread = np.where(is_rare, spread, (last - first) / 2)
        magnitude = np.maximum(np.abs(low), np.abs(high))
        is_constant = spread < np.maximum(NO_SPREAD, 1e-6 * magnitude)
        moving = np.sort(spread[~is_constant])
        typical = moving[len(moving) // 2] if len(moving) else 0.0
        lowest = np.maximum(floor * typical, MAGNITUDE_FLOOR * magnitude * (floor > 0))
        scale = np.where(is_constant, 1.0, np.maximum(spread, lowest))
        margin = np.maximum((high - low) / 2, scale)
        if mode == "identity":
            scale, margin = np.ones_like(scale), np.full_like(scale, np.inf)
        self.statistics, self._spread = statistics, spread
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self._bounds = (low - margin).astype(np.float32), (high + margin).astype(np.float32)
        """low and high, where no GPU need be waited for"""
        for name, bound in zip(("low", "high"), self._bounds, strict=True):
            self.register_buffer(name, torch.tensor(bound), persistent=False)

    def normalize(self, raw: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return (raw - self.shift) / self.scale

    def restore(self, normalised: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The inverse of `normalize`."""
        return normalised * self.scale + self.shift

    def clip(self, raw: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Values far outside the training range are brought back: half the range is allowed on either side, and a
        whole scale for a dimension that hardly moved. `identity` passes everything."""
        return torch.maximum(torch.minimum(raw, self.high), self.low)

    def outside(self, raw: Float[np.ndarray, "d"]) -> str:
        """The values that `clip` changes, by name, with their training range; empty if there are none."""
        low, high = self._bounds
        return self.statistics.outside(raw, low, high=high)

    def parked(self) -> list[str]:
        """One line for each dimension that hardly moves, with its spread and the scale it gets instead."""
        center = np.abs(self.shift.cpu().numpy())
        is_raised = (self.scale.cpu().numpy() > 1.001 * self._spread) & (self._spread >= NO_SPREAD + 1e-9 * center)
        raised = np.flatnonzero(is_raised).tolist()
        return [
            f"{self.statistics.name(i)} hardly moves: it varies by {self._spread[i]:.2g} around {self.shift[i]:.4g}, "
            f"and is scaled by {self.scale[i]:.2g} instead"
            for i in raised
        ]

    def check_same(self, shift: Tensor, where: str) -> None:
        """Raise ValueError where the statistics say another `shift` than the weights that were loaded: the limits of
        this policy would be those of another."""
        other = np.flatnonzero(((self.shift - shift).abs() > 0.01 * self.scale).cpu().numpy())
        if len(other):
            i = int(other[0])
            found = f"{self.statistics.name(i)} lies around {shift[i]:.4g}, in the weights around {self.shift[i]:.4g}"
            raise ValueError(f"{where} is not that of these weights ({found}); copy the run folder whole")

    def of_dimensions(self, chosen: Sequence[int]) -> "Normalizer":
        """The same map of these dimensions only, in this order."""
        part = Normalizer(self.statistics.of_dimensions(chosen), "identity")
        for name in ("shift", "scale", "low", "high"):
            setattr(part, name, getattr(self, name)[list(chosen)])
        part._spread = self._spread[list(chosen)]
        part._bounds = part.low.cpu().numpy(), part.high.cpu().numpy()
        return part
