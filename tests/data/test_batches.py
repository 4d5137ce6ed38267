"""Batches by training step: what a step holds depends on nothing but the seed, the step and the rank."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import make_episode, write_dataset
from torch.utils.data import DataLoader

from video2act.clips import clip_indices
from video2act.config import FrameConfig, Orientation, PolicyConfig
from video2act.data import EpisodeData, FrameStore, open_datasets
from video2act.data.batches import BatchLoader, episode_clips
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CachedStage, CacheSpec
from video2act.data.fit import check_fit
from video2act.policy import Video2Act
from video2act.statistics import Statistics
from video2act.types import Batch, Video

LENGTHS = (7, 12, 5)
TOTAL = sum(LENGTHS)


@dataclass
class MemoryDataset:
    """A `Dataset` whose numbers say where they come from: state and action are (episode, frame, ...)."""

    lengths: tuple[int, ...] = LENGTHS
    fps: float = 20.0
    cameras: tuple[str, ...] = ("front", "wrist")
    state_dim: int = 3
    action_dim: int | None = 2
    robot: str = "arm"
    orientation: Orientation = "upright"
    relative_actions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    stats: Any = None
    fingerprint: str = "memory"

    @property
    def total_frames(self) -> int:
        return sum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def episode(self, i: int) -> EpisodeData:
        t = np.arange(self.lengths[i])
        number = np.full_like(t, i)
        state = np.stack([number, t] + [0 * t] * (self.state_dim - 2), axis=1).astype(np.float32)
        action = None if self.action_dim is None else np.stack([number, t], axis=1).astype(np.float32)
        return EpisodeData(state, action, tuple(f"do {i}, {k}" for k in t), (t / self.fps).astype(np.float32))

    def sentences(self, i: int) -> tuple[str, ...]:
        return (f"say {i} so", f"or {i} so") if i else ()

    def image_size(self, camera: str) -> tuple[int, int]:
        return (16, 16)

    def episode_fingerprint(self, i: int) -> str:
        return f"memory {i}"

    def frames(
        self,
        i: int,
        camera: str,
        *,
        start: int = 0,
        stop: int | None = None,
        numbers: Any = None,
        reduce: Any = None,
        size: int = 16,
    ) -> np.ndarray:
        """Red says which episode, green which frame, blue which camera."""
        frames = np.zeros((self.lengths[i], size, size, 3), np.uint8)
        frames[..., 0] = i
        frames[..., 1] = np.arange(self.lengths[i])[:, None, None]
        frames[..., 2] = self.cameras.index(camera)
        return frames[start:stop]


class MemoryFrames:
    def __init__(self, dataset: MemoryDataset):
        self.dataset = dataset

    def plan(self, uses: Any, *, batch_bytes: int) -> None:
        pass

    def read(self, wanted: Any, camera: str, *, size: tuple[int, int], rule: FrameConfig) -> np.ndarray:
        return np.stack([self.dataset.frames(i, camera, size=size[0])[list(numbers)] for i, numbers in wanted])


@pytest.fixture
def make_loader(small_config: PolicyConfig) -> Callable[..., BatchLoader]:
    def make(batch_size: int = 4, seed: int = 0, config: PolicyConfig = small_config, **rest: Any) -> BatchLoader:
        dataset = MemoryDataset()
        return BatchLoader(dataset, MemoryFrames(dataset), config=config, batch_size=batch_size, seed=seed, **rest)

    return make


def numbers(grid: torch.Tensor) -> list[list[int]]:
    """The three numbers written into a picture, or into each frame of a clip `c t h w`."""
    pixels = (grid.reshape(*grid.shape[:-2], -1)[..., 0] + 1) * 127.5
    return pixels.round().int().T.tolist() if pixels.ndim == 2 else [pixels.round().int().tolist()]


def tensors(batch: Batch) -> list[torch.Tensor]:
    flat: list[torch.Tensor] = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, dict):
            flat += [item.grid if isinstance(item, Video) else item for item in value.values()]
        elif isinstance(value, torch.Tensor):
            flat.append(value)
    return flat


def assert_equal(first: Batch, second: Batch) -> None:
    assert first.instruction == second.instruction
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


class TestOrder:
    def test_the_same_step_is_the_same_batch_in_whatever_order_steps_are_asked(
        self, make_loader: Callable[..., BatchLoader]
    ):
        forwards = [make_loader()[step] for step in range(5)]
        loader = make_loader()
        backwards = [loader[step] for step in reversed(range(5))][::-1]
        for first, second in zip(forwards, backwards, strict=True):
            assert_equal(first, second)
        assert_equal(loader[17], loader[17])

    def test_global_randomness_does_not_reach_it(self, make_loader: Callable[..., BatchLoader]):
        np.random.seed(0)
        torch.manual_seed(0)
        first = make_loader()[3]
        np.random.seed(1)
        torch.manual_seed(1)
        assert_equal(first, make_loader()[3])

    def test_another_seed_is_another_order(self, make_loader: Callable[..., BatchLoader]):
        assert make_loader(seed=0).places(0) != make_loader(seed=1).places(0)

    @pytest.mark.parametrize("world_size", [1, 2, 3])
    def test_ranks_are_disjoint_and_see_each_frame_once_an_epoch(
        self, make_loader: Callable[..., BatchLoader], world_size: int
    ):
        batch_size = 4
        loaders = [make_loader(batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
        steps = 6  # 24 frames in all: 6, 3 and 2 steps an epoch
        steps_per_epoch = TOTAL // (batch_size * world_size)
        epochs = []
        for first in range(0, steps, steps_per_epoch):
            places = [loader.places(step) for step in range(first, first + steps_per_epoch) for loader in loaders]
            epochs.append(list(chain.from_iterable(places)))
            assert sorted(epochs[-1]) == [(e, t) for e, length in enumerate(LENGTHS) for t in range(length)]
        # every epoch in an order of its own
        assert all(epochs[0] != other for other in epochs[1:])

    def test_an_epoch_need_not_end_with_a_batch(self, make_loader: Callable[..., BatchLoader]):
        loader = make_loader(batch_size=5)
        places = list(chain.from_iterable(loader.places(step) for step in range(TOTAL)))
        assert all(places.count(place) == 5 for place in set(places))
        assert len(places) == 5 * TOTAL

    def test_worker_processes_prepare_the_same_batches(self, make_loader: Callable[..., BatchLoader]):
        loader = make_loader()
        prepared = DataLoader(loader, batch_size=None, sampler=range(2, 5), num_workers=1)
        for step, batch in zip(range(2, 5), prepared, strict=True):
            assert_equal(batch, loader[step])


class TestContent:
    def test_everything_in_a_sample_comes_from_its_place(self, make_loader: Callable[..., BatchLoader]):
        loader = make_loader(batch_size=8)
        batch = loader[0]
        for i, (episode, frame) in enumerate(loader.places(0)):
            assert batch.state[i].tolist() == [episode, frame, 0]
            assert batch.instruction[i] == f"do {episode}, {frame}"
            for number, camera in enumerate(("front", "wrist")):
                assert numbers(batch.images[camera][i]) == [[episode, frame, number]]

    def test_actions_go_on_from_the_present_and_padding_is_flagged(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        loader = make_loader(batch_size=TOTAL)
        batch = loader[0]
        for i, (episode, frame) in enumerate(loader.places(0)):
            ahead = [frame + k for k in range(small_config.horizon)]
            last = LENGTHS[episode] - 1
            assert batch.actions[i].tolist() == [[episode, min(k, last)] for k in ahead]
            assert batch.action_is_pad[i].tolist() == [k > last for k in ahead]
        assert not batch.action_is_pad[:, 0].any()

    def test_clips_end_at_the_stale_frame_by_the_one_rule(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        assert small_config.system2 is not None
        loader = make_loader(batch_size=TOTAL)
        batch = loader[0]
        assert batch.stage == "pixels"
        for stream in small_config.system2.streams:
            assert batch.videos[stream.name].fps == 20.0 / stream.stride
            for i, (episode, frame) in enumerate(loader.places(0)):
                newest = frame - round(float(batch.staleness[i]) * 20)
                expected = clip_indices(newest, stream.num_frames, stride=stream.stride)
                assert numbers(batch.videos[stream.name].grid[i]) == [[episode, t, 0] for t in expected]

    def test_an_instruction_that_changes_is_that_of_its_own_moment(self, make_loader: Callable[..., BatchLoader]):
        """System 1 reads the present's sentence, System 2 the one of its newest frame."""
        loader = make_loader(batch_size=TOTAL)
        batch = loader[0]
        for i, (episode, frame) in enumerate(loader.places(0)):
            seen = frame - round(float(batch.staleness[i]) * 20)
            assert batch.instruction[i] == f"do {episode}, {frame}"
            assert batch.clip_instruction[i] == f"do {episode}, {seen}"
        assert list(batch.clip_instruction) != batch.instruction

    def test_staleness_covers_its_range_and_never_reaches_before_the_episode(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        loader = make_loader(batch_size=TOTAL)
        lags: list[int] = []
        for step in range(10):
            for (_, frame), staleness in zip(loader.places(step), loader[step].staleness.tolist(), strict=True):
                lag = round(20 * staleness)
                assert staleness == pytest.approx(lag / 20)
                assert 0 <= lag <= min(frame, small_config.max_staleness_steps)
                lags.append(lag)
        assert set(lags) == set(range(small_config.max_staleness_steps + 1))

    def test_without_staleness_the_clip_ends_now(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        batch = make_loader(batch_size=TOTAL, config=replace(small_config, max_staleness_steps=0))[0]
        assert (batch.staleness == 0).all()

    def test_a_policy_without_system_2_gets_no_clips(
        self, make_loader: Callable[..., BatchLoader], small_config: PolicyConfig
    ):
        batch = make_loader(config=replace(small_config, system2=None))[0]
        assert batch.videos == {}


class TestInstructions:
    def test_each_is_said_in_any_of_its_sentences(self, make_loader: Callable[..., BatchLoader]):
        plain, varied = make_loader(batch_size=TOTAL), make_loader(batch_size=TOTAL, vary_instruction=True)
        said: set[tuple[int, str]] = set()
        for step in range(5):
            batch = varied[step]
            said |= {
                (episode, text)
                for (episode, _), text in zip(varied.places(step), batch.instruction, strict=True)
                if episode
            }
            assert batch.clip_instruction == tuple(batch.instruction)
            # everything else is as it would have been
            assert torch.equal(batch.state, plain[step].state)
            assert torch.equal(batch.staleness, plain[step].staleness)
            assert_equal(batch, varied[step])
        assert said == {(i, text) for i in (1, 2) for text in (f"say {i} so", f"or {i} so")}

    @pytest.mark.parametrize("stage", ["latents", "features", "seen"])
    def test_features_that_were_made_with_recorded_sentences_are_not_said_to_be_of_drawn_ones(
        self, make_loader: Callable[..., BatchLoader], stage: CachedStage
    ):
        """The grey reference of a drawn sentence was subtracted from the features of the recorded one."""

        class Cache:
            spec = CacheSpec(stage=stage)

            def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
                return {}

        plain, varied = (make_loader(batch_size=TOTAL, cache=Cache(), vary_instruction=vary) for vary in (False, True))
        assert varied[0].instruction != plain[0].instruction
        read = varied[0].instruction if stage == "latents" else plain[0].clip_instruction
        assert varied[0].clip_instruction == tuple(read)

    def test_an_episode_of_one_sentence_keeps_it(self, make_loader: Callable[..., BatchLoader]):
        loader = make_loader(batch_size=TOTAL, vary_instruction=True)
        for (episode, frame), text in zip(loader.places(0), loader[0].instruction, strict=True):
            assert episode or text == f"do 0, {frame}"


class TestWeights:
    @pytest.fixture
    def merged(self, tmp_path: Path) -> Any:
        folders = [write_dataset(tmp_path / str(i), [make_episode(i, 5 * (i + 1))]) for i in range(3)]
        return open_datasets(folders)

    def loader(
        self, merged: Any, config: PolicyConfig, weights: tuple[float, ...] | None, seed: int = 0
    ) -> BatchLoader:
        return BatchLoader(merged, FrameStore(merged), config=config, batch_size=10, seed=seed, weights=weights)

    def test_datasets_are_drawn_from_as_their_weights_say(self, merged: Any, small_config: PolicyConfig):
        loader = self.loader(merged, small_config, (4.0, 1.0, 1.0))
        drawn = [place for step in range(3) for place in loader.places(step)]  # an epoch of 30 frames
        assert [sum(episode == i for episode, _ in drawn) for i in range(3)] == [20, 5, 5]
        # of the small dataset every frame as often as any other
        assert sorted(frame for episode, frame in drawn if episode == 0) == sorted(4 * list(range(5)))

    def test_a_weight_of_zero_leaves_a_dataset_out(self, merged: Any, small_config: PolicyConfig):
        loader = self.loader(merged, small_config, (0.0, 1.0, 1.0))
        assert all(episode for step in range(6) for episode, _ in loader.places(step))

    def test_the_order_is_that_of_seed_and_step(self, merged: Any, small_config: PolicyConfig):
        one, two = (self.loader(merged, small_config, (2.0, 1.0, 1.0), seed) for seed in (0, 1))
        assert one.places(7) == self.loader(merged, small_config, (2.0, 1.0, 1.0)).places(7)
        assert one.places(7) != two.places(7)
        assert one.places(0) != one.places(3)  # of the next epoch

    @pytest.mark.parametrize(
        "weights", [(1.0, 1.0), (1.0, -1.0, 1.0), (0.0, 0.0, 0.0), (nan, 1.0, 1.0), (1.0, inf, 1.0)]
    )
    def test_weights_that_do_not_belong_are_refused(
        self, merged: Any, small_config: PolicyConfig, weights: tuple[float, ...]
    ):
        with pytest.raises(ValueError, match="--weights needs 3 numbers, one per dataset: finite, 0 or more"):
            self.loader(merged, small_config, weights)


class TestCached:
    def test_the_cache_holds_what_is_seen_live_for_the_stale_clip(
        self,
        make_loader: Callable[..., BatchLoader],
        make_policy: Callable[[PolicyConfig], Video2Act],
        small_config: PolicyConfig,
        small_statistics: dict[str, Statistics],
        tmp_path: Path,
    ):
        policy = make_policy(small_config)
        system2 = policy.system2
        assert system2 is not None
        live = make_loader(batch_size=TOTAL)
        cache = FeatureCache(tmp_path / "seen")
        dataset = MemoryDataset()
        for episode, length in enumerate(LENGTHS):
            clips = {
                s.name: episode_clips(
                    live.frames, s, places=[(episode, frame) for frame in range(length)], control_fps=live.config.fps
                )
                for s in system2.config.streams
            }
            cache.write(episode, system2.see(clips, list(dataset.episode(episode).instruction)))
        cached = make_loader(batch_size=TOTAL, cache=cache)
        for step in range(2):
            batch = live[step]
            # the instruction of the moment the clip ends at
            places = [
                (e, t - round(float(s) * 20)) for (e, t), s in zip(live.places(step), batch.staleness, strict=True)
            ]
            now = system2.see(batch.videos, [f"do {episode}, {frame}" for episode, frame in places])
            then = cached[step]
            assert then.stage == "seen"
            assert torch.equal(then.staleness, batch.staleness)
            for name, video in now.items():
                assert then.videos[name].fps == video.fps
                assert torch.allclose(then.videos[name].grid, video.grid, rtol=1e-2, atol=1e-2)


class TestFit:
    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            (MemoryDataset(action_dim=None), "no actions, only pictures; train-video can use it"),
            (MemoryDataset(state_dim=5), "state size: the policy has 3, the dataset 5"),
            (MemoryDataset(action_dim=7), "action size: the policy has 2, the dataset 7"),
            (MemoryDataset(fps=30.0), "control rate in Hz: the policy has 20, the dataset 30"),
            (MemoryDataset(cameras=("front", "side")), "looks through wrist, which .* its cameras are front, side"),
        ],
        ids=["actions", "state", "action", "rate", "camera"],
    )
    def test_a_contradiction_is_refused_naming_both_sides(
        self, small_config: PolicyConfig, dataset: MemoryDataset, message: str
    ):
        with pytest.raises(ValueError, match=message):
            check_fit(small_config, dataset)
        with pytest.raises(ValueError, match=message):
            BatchLoader(dataset, MemoryFrames(dataset), config=small_config, batch_size=4, seed=0)

    def test_more_cameras_than_needed_are_no_contradiction(self, small_config: PolicyConfig):
        check_fit(small_config, MemoryDataset(cameras=("side", "wrist", "front")))
