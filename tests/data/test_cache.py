import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CacheSpec, StaleCacheError, load_spec
from video2act.files.fingerprint import tensors_fingerprint
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
    assert torch.equal(
        FeatureCache(tmp_path).read([(0, 2)])["motion"].grid[0], seen(4)["motion"].grid[2].half().float()
    )


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


class TestFingerprint:
    weights = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.bfloat16)}  # noqa: RUF012

    def test_it_is_that_of_the_contents_in_whatever_order(self):
        again = {name: self.weights[name].clone() for name in ("a", "b")}
        assert tensors_fingerprint(again) == tensors_fingerprint(self.weights)

    @pytest.mark.parametrize("name", ["a", "b"])
    def test_one_changed_weight_is_another_name(self, name: str):
        changed = {key: tensor.clone() for key, tensor in self.weights.items()}
        changed[name].view(-1)[-1] += 1
        assert tensors_fingerprint(changed) != tensors_fingerprint(self.weights)

    def test_other_names_are_another_name(self):
        assert tensors_fingerprint({"c": self.weights["a"], "b": self.weights["b"]}) != tensors_fingerprint(
            self.weights
        )

    def test_a_matrix_that_is_no_block_of_memory_has_one_too(self):
        matrix = torch.arange(6.0).view(2, 3)
        assert tensors_fingerprint({"a": matrix.T}) == tensors_fingerprint({"a": matrix.T.contiguous()})

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_of_a_large_tensor_every_value_counts(self, dtype: torch.dtype):
        """Its bytes are not hashed, which would take minutes for a model of gigabytes."""
        large = torch.randn(
            300_001 if dtype is torch.float32 else 300_002, generator=torch.Generator().manual_seed(0)
        ).to(dtype)
        before = tensors_fingerprint({"a": large})
        for place in (1, 77_777, 300_000):
            changed = large.clone()
            changed[place] += 1
            assert tensors_fingerprint({"a": changed}) != before

    def test_two_values_that_change_places_are_noticed_where_it_looks(self):
        large = torch.arange(300_000.0)
        assert tensors_fingerprint({"a": large.flip(0)}) != tensors_fingerprint({"a": large})


class TestManifest:
    spec = CacheSpec(
        described={"weights": "abc", "streams": [{"name": "motion", "stride": 1, "filter": {"low_hz": 1.0}}]}
    )

    def test_what_was_made_of_something_else_is_refused_with_the_difference(self, tmp_path: Path):
        FeatureCache(tmp_path, self.spec).begin()
        FeatureCache(tmp_path, self.spec)  # the same
        streams = [{"name": "motion", "stride": 2, "filter": {"low_hz": 1.0}}]
        other = CacheSpec(described={"weights": "abd", "streams": streams})
        with pytest.raises(
            StaleCacheError, match=r"streams\.motion\.stride: 1 there, 2 here; .*weights: abc there, abd here"
        ):
            FeatureCache(tmp_path, other)

    def test_it_comes_back(self, tmp_path: Path):
        spec = CacheSpec("latents", "bfloat16", 4, {"motion": (4, 3, 4)}, {"data": ["x", 20.0]})
        FeatureCache(tmp_path, spec).begin()
        assert load_spec(tmp_path).differences(spec) == []
        assert load_spec(tmp_path).name == spec.name

    def test_a_folder_without_one_is_no_cache(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"is not a cache .*make one with video2act cache"):
            load_spec(tmp_path)
        (tmp_path / "cache.json").write_text("{")
        with pytest.raises(ValueError, match=r"cache\.json is not the manifest of a cache"):
            load_spec(tmp_path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"stage": "bogus"},
            {"dtype": "float99"},
            {"every": 0},
            {"described": None},
            {"described": {"streams": 3}},
            {"windows": {"motion": [0, 0, 0]}},
            {"windows": {"motion": [float("inf"), 1, 1]}},
            {"more": 1},
        ],
        ids=str,
    )
    def test_a_manifest_of_nonsense_is_refused(self, tmp_path: Path, changes: dict):
        FeatureCache(tmp_path, self.spec).begin()
        path = tmp_path / "cache.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        with pytest.raises(ValueError, match=r"cache\.json is not the manifest of a cache .*fill it again"):
            load_spec(tmp_path)

    def test_a_cache_of_an_older_version_is_refused(self, tmp_path: Path):
        FeatureCache(tmp_path, self.spec).begin()
        path = tmp_path / "cache.json"
        fields = json.loads(path.read_text())
        del fields["format"]
        path.write_text(json.dumps(fields))
        with pytest.raises(StaleCacheError, match="is a cache of format 1, expected 3: another version"):
            FeatureCache(tmp_path, self.spec)

    def test_episodes_without_a_manifest_are_not_adopted(self, tmp_path: Path):
        FeatureCache(tmp_path).write(0, seen(4))
        with pytest.raises(ValueError, match=r"holds 000000\.safetensors but no cache\.json, so nobody knows"):
            FeatureCache(tmp_path, self.spec).begin()


class TestVerify:
    def test_what_was_written_is_right(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        assert cache.verify(0) is None

    def test_a_flipped_bit_is_found(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        path = tmp_path / "000000.safetensors"
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
        assert "is not what was written" in (cache.verify(0) or "")

    def test_a_truncated_and_a_missing_file_are_found(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        path = tmp_path / "000000.safetensors"
        path.write_bytes(path.read_bytes()[:-20])
        assert "is not readable" in (cache.verify(0) or "")
        assert "does not exist" in (cache.verify(1) or "")

    def test_values_beyond_half_precision_are_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """In what another program wrote; ours refuses to."""
        cache = FeatureCache(tmp_path)
        monkeypatch.setattr("video2act.data.cache._check_finite", lambda *_, **__: None)
        cache.write(0, {"spatial": Video(torch.full((2, 3, 1, 2, 2), 1e6), 5.0)})
        assert "too large for float16" in (cache.verify(0) or "")

    def test_files_that_were_exchanged_are_found(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        for episode in range(2):
            cache.write(episode, seen(4, episode))
        one, other = (tmp_path / f"{episode:06d}.safetensors" for episode in range(2))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        assert "000000.safetensors holds episode 1, expected 0: files were exchanged" in (cache.verify(0) or "")
        with pytest.raises(ValueError, match=r"000001\.safetensors holds episode 0, expected 1"):
            FeatureCache(tmp_path).read([(1, 0)])

    @pytest.mark.parametrize("metadata", [None, {}, {"episode": "{}"}, {"episode": "["}, {"streams": "{}"}])
    def test_a_file_of_somebody_else_is_found(self, tmp_path: Path, metadata: dict[str, str] | None):
        save_file({"spatial": torch.zeros(4, 1)}, tmp_path / "000000.safetensors", metadata=metadata)
        assert "000000.safetensors was not written by this program" in (FeatureCache(tmp_path).verify(0) or "")

    def test_a_file_with_fewer_rows_than_the_episode_is_found(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        assert cache.fault(0, 4) is None
        assert "000000.safetensors: spatial has 4 rows, expected 5" in (cache.verify(0, 5) or "")


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.5], ids=["empty", "half"])
    def test_reading_names_the_file(self, tmp_path: Path, share: float):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        path = tmp_path / "000000.safetensors"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        assert "000000.safetensors is not readable" in (cache.fault(0) or "")
        with pytest.raises(
            ValueError, match=r"000000\.safetensors is not readable .* remove the file and fill the cache again"
        ):
            FeatureCache(tmp_path).read([(0, 0)])

    def test_values_too_large_for_half_precision_are_refused(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        large = {"spatial": Video(torch.full((2, 3, 1, 2, 2), 1e5), 5.0)}
        with pytest.raises(
            ValueError, match=r"episode 0, spatial: values up to 1e\+05 are too large for float16.*--dtype bfloat16"
        ):
            cache.write(0, large)
        assert list(tmp_path.iterdir()) == []
        FeatureCache(tmp_path, CacheSpec(dtype="bfloat16")).write(0, large)

    def test_what_is_not_finite_is_no_matter_of_precision(self, tmp_path: Path):
        with pytest.raises(ValueError, match="System 2 sees values that are not finite"):
            FeatureCache(tmp_path).write(0, {"spatial": Video(torch.full((2, 3, 1, 2, 2), torch.nan), 5.0)})

    def test_others_may_read_what_the_umask_lets_them(self, tmp_path: Path):
        before = os.umask(0o027)
        try:
            FeatureCache(tmp_path).write(0, seen(4))
        finally:
            os.umask(before)
        assert (tmp_path / "000000.safetensors").stat().st_mode & 0o777 == 0o640


class TestLatentsOfAStream:
    """Single latents are stored; a clip is the newest of them."""

    spec = CacheSpec("latents", "float32", 8, {"motion": (4, 3, 8)})

    def test_a_clip_is_the_last_ones_and_the_first_stands_for_what_was_before(self, tmp_path: Path):
        cache = FeatureCache(tmp_path, self.spec)
        latents = torch.arange(6.0)[:, None, None, None, None].expand(6, 2, 1, 1, 1)
        cache.write(0, {"motion": Video(latents, 5.0)})
        clips = cache.read([(0, frame) for frame in (0, 7, 8, 15, 16, 23)])["motion"].grid[:, 0, :, 0, 0]
        assert clips.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 2], [0, 1, 2], [2, 3, 4], [2, 3, 4]]
        with pytest.raises(ValueError, match=r"000000\.safetensors has no frame 24"):
            cache.read([(0, 24)])


class TestRoom:
    def test_more_than_allowed_is_refused_before_it_is_written(self, tmp_path: Path):
        FeatureCache(tmp_path).write(0, seen(4))
        size = FeatureCache(tmp_path).num_bytes
        cache = FeatureCache(tmp_path, max_bytes=10 * size)
        cache.check_room(9 * size)
        with pytest.raises(OSError, match=r"the cache would take .* GiB, more than .* GiB: store an earlier stage"):
            cache.check_room(10 * size)

    def test_no_file_is_written_beyond_the_bound(self, tmp_path: Path):
        FeatureCache(tmp_path).write(0, seen(4))
        cache = FeatureCache(tmp_path, max_bytes=2 * FeatureCache(tmp_path).num_bytes - 1)
        with pytest.raises(OSError, match="the cache would take"):
            cache.write(1, seen(4))
        assert [path.name for path in tmp_path.iterdir()] == ["000000.safetensors"]

    def test_more_than_the_disk_has_is_refused(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        with pytest.raises(OSError, match=r"needs .* GiB more, the disk has"):
            cache.check_room(10**12 * cache.num_bytes)


class TestTwoProcesses:
    """Two programs that fill one cache keep what the other wrote."""

    spec = CacheSpec(described={"weights": "a"}, num_episodes=2)

    def test_only_one_of_two_caches_can_begin_in_a_folder(self, tmp_path: Path):
        """The second looked before the first began, and then waited for the folder's lock."""
        first, second = FeatureCache(tmp_path, self.spec), FeatureCache(tmp_path, CacheSpec(described={"weights": "b"}))
        first.begin()
        with pytest.raises(StaleCacheError, match=r"weights: a there, b here"):
            second.begin()
        assert load_spec(tmp_path) == self.spec

    def test_the_second_to_begin_the_same_cache_changes_nothing(self, tmp_path: Path):
        FeatureCache(tmp_path, self.spec).begin()
        before = (tmp_path / "cache.json").stat()
        FeatureCache(tmp_path, self.spec).begin()
        assert (tmp_path / "cache.json").stat().st_ino == before.st_ino

    @pytest.mark.parametrize("other", [0, 1], ids=["the same episode", "another"])
    def test_episodes_that_are_written_at_once_do_not_mix(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: int
    ):
        cache = FeatureCache(tmp_path, self.spec)

        def slow(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
            path.write_bytes(b"half")
            monkeypatch.undo()
            FeatureCache(tmp_path, self.spec).write(other, seen(4, other))
            assert path.read_bytes() == b"half"
            save_file(tensors, path, metadata)

        monkeypatch.setattr("video2act.data.cache.save_file", slow)
        cache.write(0, seen(4))
        assert [cache.verify(episode, 4) for episode in {0, other}] == [None] * (1 + other)
        assert len(list(tmp_path.iterdir())) == 1 + other

    def test_replacing_a_damaged_episode_counts_it_once(self, tmp_path: Path):
        cache = FeatureCache(tmp_path, self.spec)
        cache.write(0, seen(4))
        bounded = FeatureCache(tmp_path, self.spec, max_bytes=cache.num_bytes + 100)
        bounded.write(0, seen(4, 1))
        assert torch.equal(bounded.whole(0)["motion"].grid, seen(4, 1)["motion"].grid.half().float())
