"""The noise that `torch.randn` draws on a CPU from a seed, without torch: a seed means the same for every engine.

Both are a Mersenne Twister and Box and Muller's transformation; the order in which torch uses the numbers is that of
its `DistributionTemplates.h` (`normal_fill` for 16 numbers and more). Values agree to 1e-6: torch's vectorised
logarithm and cosine round otherwise.
"""

import math

import numpy as np
from jaxtyping import Float32


class TorchNoise:
    """A `torch.Generator` on the CPU that draws normal numbers in float32."""

    def __init__(self, seed: int = 0):
        self.seed(seed)

    def seed(self, seed: int) -> None:
        self.initial_seed = seed
        self._twister = np.random.MT19937()
        self._twister._legacy_seeding(seed & 0xFFFFFFFF)
        self._next: float | None = None
        """torch draws single numbers in pairs and keeps the second"""

    def draw(self, *shape: int) -> Float32[np.ndarray, "..."]:
        """As `torch.randn(*shape, generator=...)`."""
        size = math.prod(shape)
        if size < 16:
            drawn = np.array([self._single() for _ in range(size)], np.float32)
        else:
            drawn = self._uniform(size)
            whole = size - size % 16
            drawn[:whole] = _box_muller(drawn[:whole])
            if whole < size:
                drawn[-16:] = _box_muller(self._uniform(16))
        return drawn.reshape(shape)

    def _uniform(self, size: int) -> Float32[np.ndarray, "size"]:
        bits = self._twister.random_raw(size).astype(np.uint32)
        return (bits & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)

    def _single(self) -> float:
        if self._next is not None:
            kept, self._next = self._next, None
            return kept
        high_low = self._twister.random_raw(4)
        first, second = (
            ((int(high) << 32 | int(low)) & (2**53 - 1)) * 2.0**-53 for high, low in high_low.reshape(2, 2)
        )
        radius, angle = math.sqrt(-2.0 * math.log1p(-second)), 2.0 * math.pi * first
        self._next = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller(uniform: Float32[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
    """Sixteen at a time: the first eight give radii, the others angles."""
    pairs = uniform.reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - pairs[:, 0]))
    angle = np.float32(2 * math.pi) * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
