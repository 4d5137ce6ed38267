"""Several datasets as one, for one policy of several tasks; episodes are numbered through, in the order of the folders."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np
from jaxtyping import UInt8

from video2act.data.lerobot_reader import EpisodeData, LeRobotDataset, statistics
from video2act.normalize import Statistics


class MergedDataset:
    """A `Dataset` made of others. Use `open_datasets`, which checks that they agree."""

    def __init__(self, parts: Sequence[LeRobotDataset]):
        self.parts = tuple(parts)
        first = self.parts[0]
        self.fps, self.robot, self.cameras, self.state_dim = first.fps, first.robot, first.cameras, first.state_dim
        self.action_dim = first.action_dim
        self.lengths = tuple(chain.from_iterable(part.lengths for part in self.parts))
        self.total_frames = sum(self.lengths)
        self.tasks = tuple(dict.fromkeys(chain.from_iterable(part.tasks for part in self.parts)))
        self._ends = list(accumulate(len(part) for part in self.parts))
        self.stats = self._statistics()

    def __len__(self) -> int:
        return self._ends[-1]

    def episode(self, i: int) -> EpisodeData:
        part, own = self._locate(i)
        return self.parts[part].episode(own)

    def sentences(self, i: int) -> tuple[str, ...]:
        part, own = self._locate(i)
        return self.parts[part].sentences(own)

    @property
    def fingerprint(self) -> str:
        return " ".join(part.fingerprint for part in self.parts)

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.parts[0].image_size(camera)

    def frames(
        self, i: int, camera: str, *, size_px: int | None = None, start: int = 0, stop: int | None = None
    ) -> UInt8[np.ndarray, "t _h _w 3"]:
        part, own = self._locate(i)
        return self.parts[part].frames(own, camera, size_px=size_px, start=start, stop=stop)

    def _statistics(self) -> dict[str, Statistics]:
        return statistics([self.episode(i) for i in range(len(self))])

    def _locate(self, i: int) -> tuple[int, int]:
        """Which dataset holds episode `i`, and its number there."""
        if not 0 <= i < len(self):
            raise IndexError(f"the {len(self.parts)} datasets have episodes 0..{len(self) - 1} together, asked for {i}")
        k = bisect_right(self._ends, i)
        return k, i - (self._ends[k - 1] if k else 0)
