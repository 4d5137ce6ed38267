"""What a cache gives back: the values that were written last, in their dtype, at their rate, in their places."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_cache import seen

from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CacheSpec
from video2act.files.fingerprint import tensors_fingerprint
from video2act.types import Video

SPEC = CacheSpec(described={"weights": "a"})


class TestReadAgain:
    """Files stay open between two reads."""

    def test_an_episode_that_was_read_and_written_again_is_read_anew(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        for seed in (0, 1, 2):
            cache.write(0, seen(4, seed))
            for name, video in cache.read([(0, 3)]).items():
                assert torch.equal(video.grid[0], seen(4, seed)[name].grid[3].half().float())
            assert torch.equal(cache.whole(0)["motion"].grid, seen(4, seed)["motion"].grid.half().float())
            assert cache.verify(0, 4) is None

    @pytest.mark.parametrize("fps", [5.0, 7.5, 20 / 3])
    def test_the_rate_comes_back(self, tmp_path: Path, fps: float):
        cache = FeatureCache(tmp_path)
        cache.write(0, {"motion": Video(seen(4)["motion"].grid, fps)})
        assert cache.read([(0, 0)])["motion"].fps == cache.whole(0)["motion"].fps == fps

    @pytest.mark.parametrize(("dtype", "exact"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
    def test_values_are_kept_in_the_dtype_that_was_asked_for(self, tmp_path: Path, dtype: Any, exact: torch.dtype):
        cache = FeatureCache(tmp_path, CacheSpec(dtype=dtype))
        cache.write(0, seen(4))
        assert torch.equal(cache.read([(0, 2)])["motion"].grid[0], seen(4)["motion"].grid[2].to(exact).float())
        size = sum(video.grid.numel() for video in seen(4).values()) * (4 if dtype == "float32" else 2)
        assert cache.size(seen(4)) == size

    def test_axes_keep_their_places(self, tmp_path: Path):
        grid = torch.arange(2 * 3 * 2 * 4 * 5.0).view(2, 3, 2, 4, 5)
        cache = FeatureCache(tmp_path, CacheSpec(dtype="float32"))
        cache.write(0, {"motion": Video(grid, 5.0)})
        assert torch.equal(cache.read([(0, 1)])["motion"].grid, grid[1:])
        assert torch.equal(cache.whole(0)["motion"].grid, grid)


class TestSeldom:
    """Only every third frame's clip is stored."""

    def test_between_two_clips_the_last_one_counts(self, tmp_path: Path):
        cache = FeatureCache(tmp_path, CacheSpec(every=3, windows={"motion": (3, 2, 3)}, dtype="float32"))
        rows = torch.arange(4.0)[:, None, None, None, None].expand(4, 2, 1, 1, 1)
        cache.write(0, {"motion": Video(rows, 5.0)})
        clips = cache.read([(0, frame) for frame in (0, 2, 3, 5, 6, 11)])["motion"].grid[:, 0, :, 0, 0]
        assert clips.tolist() == [[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [2, 3]]

    @pytest.mark.parametrize(("num_frames", "rows"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
    def test_so_many_rows_belong_to_an_episode(self, num_frames: int, rows: int):
        spec = CacheSpec(every=3, windows={"motion": (3, 2, 3)})
        assert spec.num_rows("motion", num_frames) == rows
        assert CacheSpec().num_rows("motion", num_frames) == num_frames

    def test_a_latent_that_is_shorter_than_the_pause(self):
        """A latent every 2 control steps, a clip every 4."""
        spec = CacheSpec(every=4, windows={"motion": (2, 3, 4)})
        assert [spec.num_rows("motion", count) for count in (1, 4, 5, 8, 9)] == [1, 1, 3, 3, 5]

    def test_a_stream_keeps_its_own_rhythm_beside_a_faster_one(self, tmp_path: Path):
        """It was read at the faster one's, so its clips ended where the robot's had not begun."""
        spec = CacheSpec(every=4, windows={"motion": (4, 2, 8)}, dtype="float32")
        assert [spec.num_rows("motion", count) for count in (1, 8, 9, 16, 17)] == [1, 1, 3, 3, 5]
        cache = FeatureCache(tmp_path, spec)
        rows = torch.arange(5.0)[:, None, None, None, None].expand(5, 2, 1, 1, 1)
        cache.write(0, {"motion": Video(rows, 5.0)})
        clips = cache.read([(0, frame) for frame in (0, 4, 7, 8, 12, 16)])["motion"].grid[:, 0, :, 0, 0]
        assert clips.tolist() == [[0, 0], [0, 0], [0, 0], [1, 2], [1, 2], [3, 4]]

    def test_every_field_is_part_of_the_name(self):
        specs = [
            CacheSpec(),
            CacheSpec(stage="latents"),
            CacheSpec(dtype="float32"),
            CacheSpec(every=2),
            CacheSpec(windows={"motion": (2, 3, 2)}),
            CacheSpec(described={"weights": "a"}),
            CacheSpec(num_episodes=3),
        ]
        assert len({spec.name for spec in specs}) == len(specs)


class TestWhatIsWrong:
    def test_one_row_less_than_the_episode_has(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        assert (cache.fault(0, 3), cache.fault(0, 4)) == (None, None)
        assert "has 4 rows, expected 5" in (cache.fault(0, 5) or "")
        with pytest.raises(ValueError, match=r"000000\.safetensors has no frame 4"):
            cache.read([(0, 4)])

    def test_of_fingerprints_shape_type_and_place_count(self):
        flat = torch.arange(6.0)
        names = {
            tensors_fingerprint({"a": tensor}) for tensor in (flat, flat.view(2, 3), flat.flip(0), flat.view(3, 2))
        }
        names |= {tensors_fingerprint({"a": flat.view(torch.int32)}), tensors_fingerprint({"b": flat})}
        assert len(names) == 6

    def test_a_bound_is_met_exactly(self, tmp_path: Path):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        size = cache.num_bytes
        FeatureCache(tmp_path, max_bytes=2 * size).check_room(size)
        with pytest.raises(OSError, match="would take"):
            FeatureCache(tmp_path, max_bytes=2 * size).check_room(size + 1)

    def test_the_manifest_takes_room_too(self, tmp_path: Path):
        cache = FeatureCache(tmp_path, SPEC)
        cache.begin()
        cache.write(0, seen(4))
        assert cache.num_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())

    def test_sizes_are_said_in_gibibytes(self, tmp_path: Path):
        with pytest.raises(OSError, match=r"would take 3\.00 GiB, more than 1\.50 GiB"):
            FeatureCache(tmp_path, max_bytes=3 * 2**29).check_room(3 * 2**30)

    def test_a_twentieth_of_the_disk_stays_free(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        cache = FeatureCache(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda root: SimpleNamespace(free=1000))
        cache.check_room(950)
        with pytest.raises(OSError, match="the disk has"):
            cache.check_room(951)

    @pytest.mark.parametrize("rows", [3, 5])
    def test_a_file_with_another_number_of_rows_than_were_written(self, tmp_path: Path, rows: int):
        cache = FeatureCache(tmp_path)
        cache.write(0, seen(4))
        path = tmp_path / "000000.safetensors"
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        whole = {name: torch.cat([tensor, tensor])[:rows].contiguous() for name, tensor in tensors.items()}
        save_file(whole, path, metadata=metadata)
        assert f"has {rows} rows, but 4 were written" in (FeatureCache(tmp_path).fault(0) or "")
