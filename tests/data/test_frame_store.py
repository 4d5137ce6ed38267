"""Decoded frames: the same bytes whether an episode stays in memory or is sought, within a budget."""

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import CAMERAS, make_episode, pack_videos, read_numbers, write_dataset
from torch.utils.data import DataLoader

from video2act.config import FrameConfig, PolicyConfig
from video2act.data import DatasetError, FrameStore, LeRobotDataset, video_file
from video2act.data.batches import BatchLoader
from video2act.data.fit import batch_bytes
from video2act.data.video_file import VideoReader

RULE = FrameConfig()
FRAME_BYTES = 32 * 32 * 3
EPISODE_BYTES = 7 * FRAME_BYTES


class CountingDataset(LeRobotDataset):
    """Counts the decoded frames."""

    decoded = 0

    def frames(self, i: int, camera: str, **chosen: Any) -> np.ndarray:
        frames = super().frames(i, camera, **chosen)
        self.decoded += len(frames)
        return frames


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("store") / "set", [make_episode(i) for i in range(3)])


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("store") / "long", [make_episode(i, 40) for i in range(2)])


@pytest.fixture
def dataset(root: Path) -> CountingDataset:
    return CountingDataset(root)


def read(store: FrameStore, wanted: Sequence[tuple[int, Sequence[int]]], camera: str = "front") -> np.ndarray:
    return store.read(wanted, camera, size=(32, 32), rule=RULE)


def test_what_fits_is_decoded_once(dataset: CountingDataset):
    store = FrameStore(dataset)
    assert read_numbers(read(store, [(1, (5, 0, 5)), (2, (1, 2, 3))])[0]) == [105, 100, 105]
    assert dataset.decoded == 14
    assert read_numbers(read(store, [(1, range(7))])[0]) == [100 + k for k in range(7)]
    assert dataset.decoded == 14
    assert str(store).endswith("all stay in memory")


def test_of_data_that_do_not_fit_a_sample_decodes_its_own_frames(dataset: CountingDataset):
    """Each sample decoded a whole episode once the memory was full."""
    store = FrameStore(dataset, 2 * EPISODE_BYTES)
    for _ in range(3):
        found = read(store, [(2, (6, 2)), (0, (1, 1)), (2, (2, 4))])
        assert [read_numbers(clip) for clip in found] == [[206, 202], [1, 1], [202, 204]]
    assert dataset.decoded == 7 + 3 * 3
    assert "2 of 3 episodes stay in memory" in str(store)


@pytest.mark.parametrize("storage", ["video", "joined", "image"])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (21, 27)], ids=str)
def test_kept_and_sought_frames_are_equal_bit_for_bit(tmp_path: Path, storage: Any, size: tuple[int, int]):
    recorded = "image" if storage == "image" else "video"
    root = write_dataset(tmp_path / "set", [make_episode(i, 23 + i) for i in range(3)], storage=recorded)
    dataset = CountingDataset(pack_videos(root) if storage == "joined" else root)
    kept, sought = FrameStore(dataset), FrameStore(dataset, 0)
    rng = np.random.default_rng(0)
    wanted = [(int(i), rng.integers(0, 23, size=5).tolist()) for i in rng.integers(3, size=8)]
    for camera in CAMERAS:
        one, two = (store.read(wanted, camera, size=size, rule=RULE) for store in (kept, sought))
        assert one.tobytes() == two.tobytes()
        before = dataset.decoded
        kept.read(wanted, camera, size=size, rule=RULE)
        assert dataset.decoded == before
        sought.read(wanted, camera, size=size, rule=RULE)
        assert dataset.decoded > before


def test_a_worker_does_not_close_the_files_of_its_parent(root: Path, monkeypatch: pytest.MonkeyPatch):
    """With more than 32 videos, workers hung: closing waited for threads that a child process does not have."""
    monkeypatch.setattr(video_file, "_reader", lru_cache(maxsize=1)(video_file._open))
    monkeypatch.setattr(video_file, "MAX_OPEN", 1)
    store = FrameStore(LeRobotDataset(root), 0)
    wanted = [(i, (0,)) for i in range(3)]
    expected = read(store, wanted)
    worker = multiprocessing.get_context("fork").Process(
        target=lambda: sys.exit(int(not np.array_equal(read(store, wanted), expected)))
    )
    worker.start()
    worker.join(timeout=20)
    is_alive = worker.is_alive()
    worker.kill()
    assert not is_alive
    assert worker.exitcode == 0


@pytest.mark.parametrize("threads", [1, 4])
def test_batches_do_not_depend_on_the_budget(long: Path, small_config: PolicyConfig, threads: int):
    config = replace(small_config, fps=20.0, cameras=("front", "wrist", "front@3"))
    dataset, before = LeRobotDataset(long), torch.get_num_threads()
    least = batch_bytes(config, 6, is_cached=False)
    budgets = (2**30, least + 200 * 2**10, least)
    loaders = [
        BatchLoader(dataset, FrameStore(dataset, budget), config=config, batch_size=6, seed=0) for budget in budgets
    ]
    try:
        torch.set_num_threads(threads)
        batches = [loader[3] for loader in loaders]
    finally:
        torch.set_num_threads(before)
    for other in batches[1:]:
        assert all(torch.equal(image, other.images[name]) for name, image in batches[0].images.items())
        assert all(torch.equal(video.grid, other.videos[name].grid) for name, video in batches[0].videos.items())


def test_worker_processes_share_the_memory(long: Path, small_config: PolicyConfig):
    """Each worker kept the whole budget for itself."""
    dataset = CountingDataset(long)
    store = FrameStore(dataset)
    loader = BatchLoader(dataset, store, config=small_config, batch_size=8, seed=0)
    batches = list(DataLoader(loader, batch_size=None, sampler=range(4), num_workers=2))
    alone = BatchLoader(dataset, FrameStore(dataset), config=small_config, batch_size=8, seed=0)
    assert all(torch.equal(batches[i].images["front"], alone[i].images["front"]) for i in range(4))
    decoded = dataset.decoded  # in this process
    assert all(torch.equal(loader[i].images["front"], alone[i].images["front"]) for i in range(4))
    assert dataset.decoded == decoded > 0


def test_a_budget_below_one_batch_says_how_much_it_needs(dataset: CountingDataset, small_config: PolicyConfig):
    needed = batch_bytes(small_config, 64, is_cached=False)
    for budget in (0, needed - 1):
        with pytest.raises(ValueError, match=r"one batch take .* GiB, but the budget .* set --frames-gib to at least"):
            BatchLoader(dataset, FrameStore(dataset, budget), config=small_config, batch_size=64, seed=0)
    BatchLoader(dataset, FrameStore(dataset, needed), config=small_config, batch_size=64, seed=0)
    assert dataset.decoded == 0


def test_uses_that_are_planned_together_share_the_budget(dataset: CountingDataset):
    store = FrameStore(dataset, 4 * EPISODE_BYTES)
    store.plan([("front", (32, 32), RULE), ("wrist", (32, 32), RULE)])
    for camera in (*CAMERAS, *CAMERAS):
        read(store, [(i, (0,)) for i in range(3)], camera)
    assert dataset.decoded == 4 * 7 + 4  # four episodes once, a frame of the others each time
    assert "2 of 3 episodes" in str(store)


def test_a_store_of_one_episode_keeps_that_one(dataset: CountingDataset):
    store = FrameStore(dataset, EPISODE_BYTES).of_episode(2)
    for k in range(7):
        assert read_numbers(read(store, [(2, (k,))])[0]) == [200 + k]
    assert dataset.decoded == 7


def test_threads_that_want_the_same_wait_for_one_decoding(dataset: CountingDataset):
    store = FrameStore(dataset)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda k: read(store, [(k % 3, range(7))], "wrist"), range(48)))
    assert dataset.decoded == 3 * 7
    assert len({entry.tobytes() for entry in frames}) == 3


@pytest.mark.parametrize("budget", [2**30, 0])
def test_a_failure_is_raised_again_for_the_next(dataset: CountingDataset, budget: int):
    store = FrameStore(dataset, budget)
    for _ in range(2):
        with pytest.raises(DatasetError, match="no camera 'top'"):
            read(store, [(0, (1,)), (1, (1,))], "top")


def test_frames_far_apart_are_sought_over_key_frames(long: Path, monkeypatch: pytest.MonkeyPatch):
    """One of our key frames is at most four frames away, so ten frames of forty need no pass over all."""
    path = next(long.glob("videos/*front/*/file-000.mp4"))
    reader = VideoReader(path)
    whole = reader.frames(range(40))
    runs: list[Sequence[int]] = []
    decode_run = reader._decode_run
    monkeypatch.setattr(reader, "_decode_run", lambda run, times: runs.append(run) or decode_run(run, times))
    assert np.array_equal(reader.frames([1, 2, 17, 18, 39]), whole[[1, 2, 17, 18, 39]])
    assert runs == [[1, 2], [17, 18], [39]]
    assert reader.listed.group[[3, 4, 39]].tolist() == [0, 4, 36]
