"""Decoded frames within a budget: episodes that fit stay in memory, of all others the wanted frames are read.

Training reads every frame many times in random order, so dropping old episodes for new ones would decode a whole
episode for each sample. Therefore the first episodes that fit stay for good, each decoded once when it is first
wanted. Frames of the others are sought in their files at every batch, several episodes at once. Both ways give the same
bytes. Memory is shared with worker processes, so the budget holds for all of them together.
"""

import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from video2act.config import FrameConfig
from video2act.data.lerobot_reader import Dataset
from video2act.frames import Size, fit_frames

GIB = 2**30
PIECE = 256
"""frames of an episode that are decoded at a time"""
# pages are taken when they are written
SHARED = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)

Use = tuple[str, Size, FrameConfig]
"""camera, size (height, width), rule"""


class FrameStore:
    """The frames of a dataset at any sizes.

    Args:
        budget_bytes: memory for decoded frames.
        episodes: those that may stay in memory; None: all.
    """

    def __init__(self, dataset: Dataset, budget_bytes: int = 4 * GIB, *, episodes: Sequence[int] | None = None):
        self._dataset = dataset
        self._budget = self._free = budget_bytes
        self._episodes = range(len(dataset)) if episodes is None else episodes
        self._kept: dict[Use, _Kept] = {}
        self._needed = 0
        self._lock = Lock()

    def of_episode(self, episode: int) -> "FrameStore":
        """A store with the same budget for one episode, which is read from its beginning to its end."""
        return FrameStore(self._dataset, self._budget, episodes=(episode,))

    def plan(self, uses: Sequence[Use], *, batch_bytes: int = 0) -> None:
        """Choose the episodes that stay in memory, before worker processes begin.

        Args:
            batch_bytes: what the frames of one batch take.
        Raises:
            ValueError: the budget does not hold one batch.
            OSError: the system does not give so much memory.
        """
        check_budget(self._budget, batch_bytes)
        new = [use for use in dict.fromkeys(uses) if use not in self._kept]
        frame_bytes = sum(_frame_bytes(size) for _, size, _ in new)
        ends = np.cumsum([self._dataset.lengths[i] for i in self._episodes])
        count = int(np.searchsorted(ends * frame_bytes, max(0, self._free - batch_bytes), side="right"))
        self._needed += int(ends[-1]) * frame_bytes
        for use in new:
            lengths = {i: self._dataset.lengths[i] for i in self._episodes[:count]}
            self._kept[use] = _Kept(lengths, use[1])
            self._free -= self._kept[use].total_bytes

    def __str__(self) -> str:
        """What stays in memory, in one line."""
        needed, budget = f"{self._needed / GIB:.3g} GiB", f"{self._budget / GIB:.3g} GiB (frames-gib)"
        count, total = min((kept.count for kept in self._kept.values()), default=0), len(self._episodes)
        if count == total:
            return f"decoded frames take {needed} of {budget}: all stay in memory"
        return (
            f"decoded frames would take {needed}, the budget is {budget}: {count} of {total} episodes stay in memory, "
            "frames of the others are read from their files for each batch"
        )

    def read(
        self, wanted: Sequence[tuple[int, Sequence[int]]], camera: str, *, size: Size, rule: FrameConfig
    ) -> UInt8[np.ndarray, "b t {size[0]} {size[1]} 3"]:
        """Chosen frames of episodes.

        Args:
            wanted: episode and frame numbers of each sample, equally many; they may repeat.
        Raises:
            IndexError, DatasetError: no such episode, frame or camera, a damaged file.
            ValueError: the frames are too small.
        """
        use = camera, size, rule
        with self._lock:
            if use not in self._kept:
                self.plan([use])
        kept = self._kept[use]
        found = np.empty((len(wanted), len(wanted[0][1]), *size, 3), np.uint8)
        samples: dict[int, list[int]] = {}
        for place, (episode, _) in enumerate(wanted):
            samples.setdefault(episode, []).append(place)

        def read(episode: int) -> None:
            places = samples[episode]
            if episode in kept:
                whole = self._whole(kept, episode, use=use)
                for place in places:
                    found[place] = whole[list(wanted[place][1])]
                return
            numbers = sorted({number for place in places for number in wanted[place][1]})
            reduce = partial(fit_frames, size=size, rule=rule)
            frames = self._dataset.frames(episode, camera, numbers=numbers, reduce=reduce)
            for place in places:
                found[place] = frames[np.searchsorted(numbers, wanted[place][1])]

        from torch import get_num_threads  # here: data are opened and checked without it

        threads = min(len(samples), get_num_threads())
        if threads == 1:
            for episode in samples:
                read(episode)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(read, samples))
        return found

    def _whole(self, kept: "_Kept", episode: int, *, use: Use) -> np.ndarray:
        camera, size, rule = use
        frames = kept.frames(episode)
        with kept.turn(episode):  # the second to ask waits here for the frames that the first decodes
            if not kept.is_ready(episode):
                reduce = partial(fit_frames, size=size, rule=rule)
                for start in range(0, len(frames), PIECE):
                    part = range(start, min(start + PIECE, len(frames)))
                    frames[start : part.stop] = self._dataset.frames(episode, camera, numbers=part, reduce=reduce)
                kept.set_ready(episode)
        return frames


class _Kept:
    """Shared memory for some episodes of one camera at one size, filled on demand.

    Two processes may fill the same episode: they write the same bytes.
    """

    def __init__(self, lengths: dict[int, int], size: Size):
        self._begin = dict(zip(lengths, np.cumsum([0, *lengths.values()])[:-1].tolist(), strict=True))
        self._lengths = lengths
        self._place = {episode: place for place, episode in enumerate(lengths)}
        self._turns: dict[int, Lock] = {}
        self.total_bytes = sum(lengths.values()) * _frame_bytes(size)
        self._frames = _shared(self.total_bytes).reshape(-1, *size, 3)
        self._is_ready = _shared(len(lengths))

    def __contains__(self, episode: int) -> bool:
        return episode in self._place

    @property
    def count(self) -> int:
        return len(self._lengths)

    def frames(self, episode: int) -> np.ndarray:
        begin = self._begin[episode]
        return self._frames[begin : begin + self._lengths[episode]]

    def turn(self, episode: int) -> Lock:
        return self._turns.setdefault(episode, Lock())

    def is_ready(self, episode: int) -> bool:
        return bool(self._is_ready[self._place[episode]])

    def set_ready(self, episode: int) -> None:
        self._is_ready[self._place[episode]] = 1


def stores_of(datasets: Sequence[Dataset], budget_bytes: int) -> list[FrameStore]:
    """A store for each dataset; the budget is divided by their numbers of frames."""
    total = sum(dataset.total_frames for dataset in datasets)
    return [FrameStore(dataset, budget_bytes * dataset.total_frames // total) for dataset in datasets]


def check_budget(
    budget_bytes: int, batch_bytes: int, *, what: str = "of one batch", lower: str = "--batch-size"
) -> None:
    """Raise ValueError where frames that are needed together take more than the budget."""
    if batch_bytes > budget_bytes:
        needed, given = (f"{size / GIB:.3g} GiB" for size in (batch_bytes, budget_bytes))
        remedy = f"set --frames-gib to at least {np.ceil(1000 * batch_bytes / GIB) / 1000:g}, or lower {lower}"
        raise ValueError(f"the frames {what} take {needed}, but the budget for decoded frames is {given}; {remedy}")


def _frame_bytes(size: Size) -> int:
    return 3 * size[0] * size[1]


def _shared(num_bytes: int) -> np.ndarray:
    """Zeros that child processes share."""
    if num_bytes == 0:
        return np.zeros(0, np.uint8)
    try:
        return np.frombuffer(mmap.mmap(-1, num_bytes, flags=SHARED), np.uint8)
    except OSError as error:
        raise OSError(f"no memory for {num_bytes / GIB:.3g} GiB of frames ({error}); lower --frames-gib") from error
