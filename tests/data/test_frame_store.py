from concurrent.futures import ThreadPoolExecutor

import pytest
from recordings import make_episode, read_numbers, write_dataset

from video2act.config import FrameConfig
from video2act.data import DatasetError, FrameStore, LeRobotDataset

EPISODE_BYTES = 7 * 32 * 32 * 3


class CountingDataset(LeRobotDataset):
    """Knows how often it decoded."""

    decoded = 0

    def frames(self, i, camera, *, start=0, stop=None, reduce=None):
        self.decoded += 1
        return super().frames(i, camera, start=start, stop=stop, reduce=reduce)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("store") / "set", [make_episode(i) for i in range(3)])


@pytest.fixture
def dataset(root):
    return CountingDataset(root)


def test_frames_are_those_of_the_dataset_and_decoded_once(dataset):
    store = FrameStore(dataset)
    frames = store.frames(1, "front", size=(32, 32), rule=FrameConfig())
    assert read_numbers(frames) == [100 + k for k in range(7)]
    assert store.frames(1, "front", size=(32, 32), rule=FrameConfig()) is frames
    assert dataset.decoded == 1
    assert store.used_bytes == EPISODE_BYTES
    with pytest.raises(ValueError, match="read-only"):
        frames[0] = 0


def test_the_one_not_asked_for_the_longest_goes_first(dataset):
    store = FrameStore(dataset, budget_bytes=2 * EPISODE_BYTES)
    for episode in (0, 1, 0, 2, 0):
        store.frames(episode, "front", size=(32, 32), rule=FrameConfig())
    assert dataset.decoded == 3
    assert store.used_bytes == 2 * EPISODE_BYTES
    store.frames(1, "front", size=(32, 32), rule=FrameConfig())
    assert dataset.decoded == 4


def test_an_episode_above_the_budget_is_handed_out_but_not_kept(dataset):
    store = FrameStore(dataset, budget_bytes=EPISODE_BYTES - 1)
    assert len(store.frames(0, "front", size=(32, 32), rule=FrameConfig())) == 7
    assert store.used_bytes == 0


def test_threads_that_want_the_same_wait_for_one_decoding(dataset):
    store = FrameStore(dataset)
    with ThreadPoolExecutor(8) as pool:
        frames = list(pool.map(lambda k: store.frames(k % 3, "wrist", size=(64, 64), rule=FrameConfig()), range(48)))
    assert dataset.decoded == 3
    assert len({id(entry) for entry in frames}) == 3


def test_a_failure_is_raised_again_for_the_next(dataset):
    store = FrameStore(dataset)
    for _ in range(2):
        with pytest.raises(DatasetError, match="no camera 'top'"):
            store.frames(0, "top", size=(32, 32), rule=FrameConfig())
