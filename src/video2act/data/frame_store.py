"""Keeps decoded frames in memory: decoding takes as long as training does, and training reads every episode many times.

An episode of one camera at one size is decoded once, for all threads, and kept within a budget; the least recently
used episode is dropped first. Returned arrays are shared, hence read-only.
"""

from collections import OrderedDict
from functools import partial
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from video2act.config import FrameConfig
from video2act.data.lerobot_reader import Dataset
from video2act.frames import Size, fit_frames

Key = tuple[int, str, Size, FrameConfig]
"""episode, camera, size, rule"""


class FrameStore:
    """The frames of a dataset at any sizes."""

    def __init__(self, dataset: Dataset, budget_bytes: int = 4 * 2**30):
        self._dataset = dataset
        self._budget = budget_bytes
        self._lock = Lock()
        self._kept: OrderedDict[Key, np.ndarray] = OrderedDict()
        self._turns: dict[Key, Lock] = {}
        self._used = 0

    @property
    def used_bytes(self) -> int:
        return self._used

    def frames(
        self, episode: int, camera: str, *, size: Size, rule: FrameConfig
    ) -> UInt8[np.ndarray, "t {size[0]} {size[1]} 3"]:
        """All frames of an episode, read-only, at a size (height, width). Raises IndexError, DatasetError: no such
        episode or camera, a damaged file; ValueError: the frames are too small."""
        key = (episode, camera, size, rule)
        with self._lock:
            turn = self._turns.setdefault(key, Lock())
        with turn:  # the second to ask waits here for the frames that the first decodes
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            # in pieces: a long episode as recorded may not fit into memory
            frames = self._dataset.frames(episode, camera, reduce=partial(fit_frames, size=size, rule=rule))
            frames.flags.writeable = False
            with self._lock:
                self._keep(key, frames)
            return frames

    def _keep(self, key: Key, frames: np.ndarray) -> None:
        """An episode larger than the whole budget is handed out but not kept."""
        if frames.nbytes > self._budget:
            return
        while self._used + frames.nbytes > self._budget:
            _, dropped = self._kept.popitem(last=False)
            self._used -= dropped.nbytes
        self._kept[key] = frames
        self._used += frames.nbytes
