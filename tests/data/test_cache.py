import os
from pathlib import Path

import pytest
import torch

from video2act.data.cache import FeatureCache, digest
from video2act.types import Video


def seen(length: int, seed: int = 0) -> dict[str, Video]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "spatial": Video(torch.randn(length, 8, 1, 2, 2, generator=generator), 5.0),
        "motion": Video(torch.randn(length, 8, 3, 2, 2, generator=generator), 12.5),
    }


def test_what_is_written_is_read_frame_by_frame_in_half_precision(tmp_path: Path):
    cache, written = FeatureCache(tmp_path / "seen"), {0: seen(4, 0), 3: seen(6, 1)}
    for episode, videos in written.items():
        assert episode not in cache
        cache.write(episode, videos)
        assert episode in cache
    places = [(3, 5), (0, 0), (3, 0), (0, 0)]
    read = cache.read(places)
    assert set(read) == {"spatial", "motion"}
    for name, video in read.items():
        expected = torch.stack([written[episode][name].grid[frame] for episode, frame in places])
        assert video.grid.dtype == torch.float32
        assert torch.equal(video.grid, expected.half().float())
        assert video.fps == written[0][name].fps


def test_another_process_reads_the_same(tmp_path: Path):
    FeatureCache(tmp_path).write(0, seen(4))
    assert torch.equal(FeatureCache(tmp_path).read([(0, 2)])["motion"].grid[0], seen(4)["motion"].grid[2].half().float())


def test_an_episode_that_was_never_filled_is_named(tmp_path: Path):
    cache = FeatureCache(tmp_path)
    cache.write(0, seen(4))
    with pytest.raises(
        FileNotFoundError, match=r"000007\.safetensors does not exist: the cache of this episode was never filled"
    ):
        cache.read([(0, 0), (7, 0)])


def test_an_interrupted_write_leaves_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = FeatureCache(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            cache.write(0, seen(4))
    assert 0 not in cache
    cache.write(0, seen(4))
    assert cache.read([(0, 3)])["spatial"].grid.shape == (1, 8, 1, 2, 2)


class TestDigest:
    weights = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.bfloat16)}  # noqa: RUF012

    def test_it_is_that_of_the_contents_in_whatever_order(self):
        again = {name: self.weights[name].clone() for name in ("a", "b")}
        assert digest({"x": 1, "y": [2]}, self.weights) == digest({"y": [2], "x": 1}, again)

    @pytest.mark.parametrize("name", ["a", "b"])
    def test_one_changed_weight_is_another_name(self, name: str):
        changed = {key: tensor.clone() for key, tensor in self.weights.items()}
        changed[name].view(-1)[-1] += 1
        assert digest({}, changed) != digest({}, self.weights)

    def test_other_settings_or_names_are_another_name(self):
        assert digest({"x": 1}, self.weights) != digest({"x": 2}, self.weights)
        assert digest({}, {"c": self.weights["a"], "b": self.weights["b"]}) != digest({}, self.weights)

    def test_a_matrix_that_is_no_block_of_memory_has_one_too(self):
        matrix = torch.arange(6.0).view(2, 3)
        assert digest({}, {"a": matrix.T}) == digest({}, {"a": matrix.T.contiguous()})
