"""Keeps decoded frames in memory: decoding takes as long as training does, and training asks for every episode many times.

An episode of one camera at one size is decoded once, whoever asks and from however many threads, and kept until the budget is
used up; then the one that was not asked for the longest goes. What is handed out is shared, hence read-only.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from video2act.clips import Fit, fit_frames
from video2act.data.lerobot_reader import Dataset

Key = tuple[int, str, int, int, Fit]
"""episode, camera, height, width, fit"""


class FrameStore:
    """The frames of a dataset, at the sizes that are asked for."""

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
        self, episode: int, camera: str, *, size: tuple[int, int], fit: Fit = "area"
    ) -> UInt8[np.ndarray, "t {size[0]} {size[1]} 3"]:
        """All frames of an episode, read-only, at a size (height, width).

        Raises:
            IndexError, DatasetError, ValueError: no such episode or camera, a damaged file, a size above the recorded one.
        """
        return self._get((episode, camera, *size, fit), None)

    def required_bytes(self, views: Iterable[tuple[str, int]]) -> int:
        """What it takes to keep every episode of these (camera, size_px)."""
        return sum(self._dataset.total_frames * size_px**2 * 3 for _, size_px in dict.fromkeys(views))

    def preload(self, views: Iterable[tuple[str, int]]) -> None:
        """Decode every episode of these (camera, size_px), a few at a time.

        Raises:
            ValueError: they do not fit in the budget.
        """
        views = list(dict.fromkeys(views))
        needed = self.required_bytes(views)
        if needed > self._budget:
            wanted = ", ".join(f"{camera} at {size} px" for camera, size in views)
            raise ValueError(
                f"keeping {wanted} takes {needed / 2**30:.2f} GiB, more than the "
                f"budget of {self._budget / 2**30:.2f} GiB; use smaller frames, fewer episodes or a larger budget"
            )
        sizes: dict[str, list[int]] = {}
        for camera, size_px in views:
            sizes.setdefault(camera, []).append(size_px)
        jobs = [(i, camera) for i in range(len(self._dataset)) for camera in sizes]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            futures = [pool.submit(self._load, i, camera, sizes=sizes[camera]) for i, camera in jobs]
            for future in futures:
                future.result()  # raises what the thread raised

    def _load(self, episode: int, camera: str, *, sizes: list[int]) -> None:
        """Decode once, reduce to every size."""
        full = self._dataset.frames(episode, camera) if len(sizes) > 1 else None
        for size_px in sizes:
            self._get((episode, camera, size_px, size_px, "area"), full)

    def _get(self, key: Key, full: np.ndarray | None) -> np.ndarray:
        """From memory, or by decoding; `full` are its frames as recorded, if at hand."""
        with self._lock:
            turn = self._turns.setdefault(key, Lock())
        # who comes second waits here, and finds the frames that the first has decoded
        with turn:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            episode, camera, height, width, fit = key
            if full is None and fit == "area":
                frames = self._dataset.frames(episode, camera, size_px=height)
            else:
                frames = fit_frames(
                    self._dataset.frames(episode, camera) if full is None else full, (height, width), fit=fit
                )
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
