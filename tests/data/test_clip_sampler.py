"""Clips for video models: their stride, their rate, their sentence, and how often each rate comes."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from test_batches import MemoryDataset, numbers

from video2act.config import FrameConfig
from video2act.data.clip_sampler import ClipSampler, Footage, Places
from video2act.data.frame_store import FrameStore


class Store(FrameStore):
    """In memory, at whatever size."""

    def __init__(self, dataset: MemoryDataset):
        self.dataset = dataset  # type: ignore[assignment]

    def plan(self, uses: Any, *, batch_bytes: int = 0) -> None:
        pass

    def read(self, wanted: Any, camera: str, *, size: tuple[int, int], rule: FrameConfig) -> np.ndarray:
        frames = self.dataset.frames
        return np.stack([frames(episode, camera, size=size[0])[list(chosen)] for episode, chosen in wanted])  # type: ignore[call-arg, arg-type]


def sampler(*datasets: MemoryDataset, sizes_px: tuple[int, ...] = (16,), stride: int = 2) -> ClipSampler:
    footage = [Footage(dataset, Store(dataset), "wrist") for dataset in datasets]
    return ClipSampler(footage, num_frames=5, stride=stride, sizes=[(side, side) for side in sizes_px])


SLOW, FAST = MemoryDataset((12, 20), fps=10.0), MemoryDataset((8,), fps=40.0)


def test_a_clip_goes_back_by_strides_at_its_datasets_rate_and_has_its_last_frames_sentence():
    video, instruction = sampler(SLOW, FAST).clips([(0, 1, 11), (0, 0, 3)], (16, 16))
    assert video.fps == 5.0
    assert numbers(video.grid[0]) == [[1, t, 1] for t in (3, 5, 7, 9, 11)]
    assert numbers(video.grid[1]) == [[0, t, 1] for t in (0, 0, 0, 1, 3)]
    assert instruction == ["do 1, 11", "do 0, 3"]
    assert sampler(SLOW, FAST).clips([(1, 0, 7)], (16, 16))[0].fps == 20.0


def test_what_differs_in_rate_is_in_another_group_and_comes_as_often_as_it_has_frames():
    one = sampler(SLOW, FAST, MemoryDataset((5,), fps=10.0))
    assert [len(group) for group in one.groups] == [37, 8]
    rates = Counter(one.random(1, (0, step))[0].fps for step in range(150))
    assert set(rates) == {5.0, 20.0}
    assert rates[20.0] / 150 == pytest.approx(8 / 45, abs=0.1)


def test_every_size_and_every_frame_comes_and_the_same_seed_gives_the_same():
    one = sampler(FAST, sizes_px=(16, 8, 4), stride=1)
    seen = [one.random(6, (3, step)) for step in range(30)]
    assert Counter(video.grid.shape[-1] for video, _ in seen).keys() == {16, 8, 4}
    assert {text for _, texts in seen for text in texts} == {f"do 0, {t}" for t in range(8)}
    again = one.random(6, (3, 7))
    assert again[1] == seen[7][1]
    assert again[1] != one.random(6, (4, 7))[1]


@pytest.mark.parametrize(("stride", "earliest"), [(1, 4), (2, 8), (3, 12)])
def test_the_report_sees_whole_clips_only(stride: int, earliest: int):
    (group,) = sampler(SLOW, stride=stride).spread(1000)
    assert min(frame for _, _, frame in group) == earliest
    assert len(group) == max(0, 12 - earliest) + 20 - earliest


def test_a_spread_is_about_as_many_as_asked_for_over_all_frames():
    (group,) = sampler(SLOW, stride=1).spread(4)
    assert group == [(0, 0, 4), (0, 0, 10), (0, 1, 8), (0, 1, 14)]
    # episodes that are all too short are better than none
    assert len(sampler(MemoryDataset((3,)), stride=2).spread(100)[0]) == 3


@pytest.mark.parametrize("first", [0, 2, 4])
def test_places_are_numbered_frame_by_frame_without_a_list_of_them(first: int):
    """A tuple per frame was more than a gigabyte for a large dataset, in every process."""
    episodes, lengths = [(0, 3), (0, 4), (2, 0), (2, 1)], [3, 1, 5, 4]
    listed = [(*one, t) for one, length in zip(episodes, lengths, strict=True) for t in range(first, length)]
    places = Places(episodes, lengths).beginning_at(first)
    assert list(places) == listed
    assert places[1::2] == listed[1::2]
    with pytest.raises(IndexError, match=f"there are {len(listed)} frames"):
        places[len(listed)]
    many = Places([(0, i) for i in range(1000)], [10**6] * 1000)
    assert many[len(many) - 1] == (0, 999, 10**6 - 1)
