"""Where a sample's pictures and clips come from: episodes' own numbers, lags, strides, and what is drawn."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_batches import TOTAL, MemoryDataset, MemoryFrames, numbers

from video2act.config import FrameConfig, PolicyConfig
from video2act.data.batches import BatchLoader
from video2act.data.cache_manifest import CachedStage, CacheSpec
from video2act.data.fit import check_fit
from video2act.types import Video


@pytest.fixture
def make_loader(small_config: PolicyConfig) -> Callable[..., BatchLoader]:
    def make(batch_size: int = 4, seed: int = 0, config: PolicyConfig = small_config, **rest: Any) -> BatchLoader:
        dataset = MemoryDataset()
        return BatchLoader(dataset, MemoryFrames(dataset), config=config, batch_size=batch_size, seed=seed, **rest)

    return make


class TestNumbers:
    """A loader of a part of the data, as of an evaluation: the store and the cache know the whole."""

    def test_frames_are_those_of_the_episodes_own_numbers(self, small_config: PolicyConfig):
        whole = MemoryDataset((3, 7, 12, 5))
        part = MemoryDataset((7, 5))
        loader = BatchLoader(part, MemoryFrames(whole), config=small_config, batch_size=12, seed=0, numbers=(1, 3))
        batch = loader[0]
        for i, (episode, frame) in enumerate(loader.places(0)):
            own = (1, 3)[episode]
            assert numbers(batch.images["wrist"][i]) == [[own, frame, 1]]
            newest = frame - round(float(batch.staleness[i]) * 20)
            assert numbers(batch.videos["spatial"].grid[i]) == [[own, newest, 0]]
            assert batch.state[i].tolist() == [episode, frame, 0]

    def test_past_images_lag_by_control_steps_and_not_before_the_episode(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        """Of the present, however stale the clip is."""
        config = replace(small_config, cameras=("front", "front@2", "wrist@5"))
        loader = make_loader(batch_size=TOTAL, config=config)
        batch = loader[0]
        for i, (episode, frame) in enumerate(loader.places(0)):
            assert numbers(batch.images["front"][i]) == [[episode, frame, 0]]
            assert numbers(batch.images["front@2"][i]) == [[episode, max(0, frame - 2), 0]]
            assert numbers(batch.images["wrist@5"][i]) == [[episode, max(0, frame - 5), 1]]

    def test_a_stream_with_a_stride_that_looks_seldom(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        assert small_config.system2 is not None
        spatial, motion = small_config.system2.streams
        seldom = replace(motion, stride=2, every=3, filter=replace(motion.filter, low_hz=None))
        config = replace(small_config, system2=replace(small_config.system2, streams=(spatial, seldom)))
        loader = make_loader(batch_size=TOTAL, config=config)
        batch = loader[0]
        assert batch.videos["motion"].fps == 10.0
        for i, (episode, frame) in enumerate(loader.places(0)):
            newest = frame - round(float(batch.staleness[i]) * 20)
            expected = [max(0, newest - newest % 3 - 2 * k) for k in reversed(range(9))]
            assert numbers(batch.videos["motion"].grid[i]) == [[episode, t, 0] for t in expected]

    def test_what_is_drawn_differs_between_seeds_steps_and_ranks(self, make_loader: Callable[..., BatchLoader]):
        """How stale a clip is, which sentence is said."""
        drawn = [
            make_loader(batch_size=TOTAL, seed=seed, rank=rank, world_size=2, vary_instruction=True)[step]
            for seed, rank, step in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
        ]
        places = [(0, 0), (1, 0), (2, 0)]
        loaders = [make_loader(seed=seed, rank=rank, vary_instruction=True) for seed, rank in ((0, 0), (1, 0), (0, 1))]
        said = {tuple(loader._instructions(step, places * 9)) for loader in loaders for step in range(3)}
        assert len(said) == 9
        assert len({tuple(batch.staleness.tolist()) for batch in drawn}) == 4

    def test_a_stream_that_is_encoded_once_needs_a_cache(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        streamed = small_config.replace({"system2.streams.motion.encoding": "stream"})
        with pytest.raises(ValueError, match="encoding='stream' needs a cache"):
            make_loader(config=streamed)

    @pytest.mark.parametrize("size", [2, 4])
    def test_a_robot_of_another_size_is_refused_whichever_is_larger(self, small_config: PolicyConfig, size: int):
        with pytest.raises(ValueError, match=f"state size: the policy has 3, the dataset {size}"):
            check_fit(small_config, MemoryDataset(state_dim=size))

    @pytest.mark.parametrize("fps", [19.0, 21.0])
    def test_a_robot_of_another_rate_is_refused_whichever_is_faster(self, small_config: PolicyConfig, fps: float):
        with pytest.raises(ValueError, match=f"the policy has 20, the dataset {fps:g}"):
            check_fit(small_config, MemoryDataset(fps=fps))


def test_frames_are_asked_for_at_the_size_of_their_stream(small_config: PolicyConfig):
    """Height first, width second."""
    asked: set[tuple[str, tuple[int, int]]] = set()

    class Sized(MemoryFrames):
        def read(self, wanted: Any, camera: str, *, size: tuple[int, int], rule: FrameConfig) -> np.ndarray:
            asked.add((camera, size))
            return np.zeros((len(wanted), len(wanted[0][1]), *size, 3), np.uint8)

    assert small_config.system2 is not None
    spatial, motion = small_config.system2.streams
    streams = (replace(spatial, width_px=24), replace(motion, size_px=8, width_px=16))
    config = replace(small_config, image_px=12, system2=replace(small_config.system2, streams=streams))
    dataset = MemoryDataset()
    batch = BatchLoader(dataset, Sized(dataset), config=config, batch_size=2, seed=0)[0]
    assert asked == {("front", (16, 24)), ("front", (8, 16)), ("front", (12, 12)), ("wrist", (12, 12))}
    assert batch.videos["spatial"].grid.shape == (2, 3, 1, 16, 24)
    assert batch.videos["motion"].grid.shape == (2, 3, 9, 8, 16)


@pytest.mark.parametrize("stage", ["latents", "features", "seen"])
def test_a_batch_is_as_far_processed_as_its_cache(
    make_loader: Callable[..., BatchLoader], small_config: PolicyConfig, stage: CachedStage
):
    asked: list[list[tuple[int, int]]] = []

    class Cache:
        spec = CacheSpec(stage=stage)

        def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
            asked.append(places)
            return {}

    loader = make_loader(cache=Cache(), numbers=(4, 5, 6), config=replace(small_config, cameras=()))
    batch = loader[3]
    assert batch.stage == stage
    lags = (20 * batch.staleness).round().int().tolist()
    assert asked == [[(4 + episode, t - lag) for (episode, t), lag in zip(loader.places(3), lags, strict=True)]]
