"""Varied copies of a cache: made of varied clips, drawn from in training alone, and within the cache's bound."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from trainings import fill_cache, train, train_video, verify_cache
from video2act.config import BackboneConfig, PolicyConfig, TrainConfig, VideoTrainConfig
from video2act.data import FrameStore, LeRobotDataset
from video2act.data.batches import BatchLoader
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import COPIES, CacheSpec, StaleCacheError
from video2act.policy import Video2Act
from video2act.training.cache_copies import check_room, open_copies
from video2act.training.features import cache_spec, fill, look
from video2act.training.new_policy import SEEN, build_policy, copies_of
from video2act.types import Video

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "small_preset")

CONFIG = TrainConfig(num_steps=2, batch_size=6, warmup_steps=1, mixed_precision="no", clip_shift_px=3, clip_copies=2)
STREAM = {"system2.streams.motion.encoding": "stream"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def video_model(recorded: Path, small_backbone: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "model"
    config = VideoTrainConfig(num_steps=2, batch_size=2, num_frames=9, sizes_px=(16,))
    train_video((recorded,), out, config=config, backbone=small_backbone)
    return out


@pytest.fixture(params=["window", "stream"])
def policy(recorded: Path, video_model: Path, small_config: PolicyConfig, request: pytest.FixtureRequest) -> Video2Act:
    torch.manual_seed(0)
    config = small_config.replace(STREAM) if request.param == "stream" else small_config
    return build_policy(config, LeRobotDataset(recorded).stats, video_model=video_model).eval()


class Constant:
    """A cache in which System 2 saw nothing but a number and the place."""

    spec = CacheSpec()

    def __init__(self, number: int):
        self.number = number

    def read(self, places: list[tuple[int, int]]) -> dict[str, Video]:
        values = torch.tensor([[self.number, episode, frame] for episode, frame in places]).float()
        return {"motion": Video(values[..., None, None, None], 20.0)}


def test_a_copy_holds_what_system_2_sees_in_varied_clips(recorded: Path, policy: Video2Act, tmp_path: Path):
    dataset = LeRobotDataset(recorded)
    cache = FeatureCache(tmp_path, cache_spec(policy, dataset, dtype="float32"))
    first, second = open_copies(cache, shift_px=3, jitter=0.2, copies=2, root=tmp_path / COPIES)
    seen = [
        look(policy, dataset, store=FrameStore(dataset), episode=0, spec=one.spec, device=CPU)["motion"].grid
        for one in (cache, first, second, first)
    ]
    assert seen[0].shape == seen[1].shape
    assert torch.equal(seen[1], seen[3])
    assert not torch.allclose(seen[0], seen[1], atol=1e-3)
    assert not torch.allclose(seen[1], seen[2], atol=1e-3)


def test_without_a_variation_there_are_no_copies(tmp_path: Path):
    cache = FeatureCache(tmp_path, CacheSpec())
    assert open_copies(cache, shift_px=0, jitter=0.0, copies=4, root=tmp_path) == []


def test_more_copies_keep_those_that_are_there(tmp_path: Path):
    cache = FeatureCache(tmp_path, CacheSpec())
    two, three = ([c.root for c in open_copies(cache, shift_px=2, jitter=0.0, copies=n, root=tmp_path)] for n in (2, 3))
    assert three[:2] == two
    others = open_copies(cache, shift_px=2, jitter=0.1, copies=3, root=tmp_path)
    assert not {c.root for c in others} & set(three)


def test_a_batch_draws_each_clip_from_one_of_them(recorded: Path, small_config: PolicyConfig):
    dataset = LeRobotDataset(recorded)
    given = {"config": small_config, "batch_size": 36, "seed": 0, "cache": Constant(0)}
    loader = BatchLoader(dataset, FrameStore(dataset), **given, copies=(Constant(1), Constant(2)))
    plain = BatchLoader(dataset, FrameStore(dataset), **given)
    number, *place = loader[0].videos["motion"].grid.squeeze().T
    assert set(number.tolist()) == {0, 1, 2}
    assert np.bincount(number.int()).min() > 5
    assert torch.equal(torch.stack(place), plain[0].videos["motion"].grid.squeeze().T[1:])
    assert torch.equal(loader[0].videos["motion"].grid, loader[0].videos["motion"].grid)
    assert not torch.equal(loader[1].videos["motion"].grid[:, 0], loader[0].videos["motion"].grid[:, 0])
    assert not plain[0].videos["motion"].grid[:, 0].any()
    assert torch.equal(loader[0].actions, plain[0].actions)


def test_a_training_fills_copies_once(recorded: Path, video_model: Path, tmp_path: Path):
    given = {"config": CONFIG, "preset": "small", "video_model": video_model, "cache": tmp_path / "cache"}
    fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, dtype="float32")
    train((recorded,), tmp_path / "first", **given)
    copies = sorted((tmp_path / "cache" / COPIES).iterdir())
    assert len(copies) == 2
    for copy in copies:
        verify_cache(copy)
    written = {path: path.stat().st_mtime_ns for copy in copies for path in copy.glob("*.safetensors")}
    train((recorded,), tmp_path / "second", **given)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (tmp_path / "first/metrics.jsonl").read_text() == (tmp_path / "second/metrics.jsonl").read_text()


def test_a_copy_is_not_taken_for_the_cache(recorded: Path, video_model: Path, tmp_path: Path):
    options = {"preset": "small", "video_model": video_model}
    fill_cache((recorded,), tmp_path / "cache", **options, clip_jitter=0.2, clip_copies=1)
    (copy,) = (tmp_path / "cache" / COPIES).iterdir()
    with pytest.raises(StaleCacheError, match=r"variation"):
        train((recorded,), tmp_path / "run", config=CONFIG, **options, cache=copy)


def test_what_is_filled_beforehand_is_what_a_training_reads(recorded: Path, video_model: Path, tmp_path: Path):
    options, cache = {"preset": "small", "video_model": video_model}, tmp_path / "cache"
    filled = fill_cache((recorded,), cache, **options, clip_shift_px=3, clip_copies=2)
    plain = fill_cache((recorded,), tmp_path / "plain", **options)
    assert filled.num_bytes == pytest.approx(3 * plain.num_bytes, rel=0.05)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    train((recorded,), tmp_path / "run", config=CONFIG, **options, cache=cache)
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert after.items() <= before.items()


def test_copies_count_against_the_bound(recorded: Path, video_model: Path, tmp_path: Path):
    options = {"preset": "small", "video_model": video_model}
    plain = fill_cache((recorded,), tmp_path / "plain", **options)
    with pytest.raises(OSError, match=r"the cache and its 4 copies would take .* fewer --clip-copies"):
        fill_cache((recorded,), tmp_path / "cache", **options, clip_shift_px=3, max_gib=2 * plain.num_bytes / 2**30)
    assert not (tmp_path / "cache" / COPIES).exists()


def test_clips_vary_where_system_2_runs_in_every_step(recorded: Path, video_model: Path, tmp_path: Path):
    given = {"preset": "small", "video_model": video_model, "live": True}
    losses = []
    varied = replace(CONFIG, clip_copies=TrainConfig().clip_copies)
    for number, config in enumerate((replace(varied, clip_shift_px=0), varied, varied)):
        train((recorded,), tmp_path / str(number), config=config, **given)
        losses.append((tmp_path / str(number) / "metrics.jsonl").read_text())
    assert losses[0] != losses[1] == losses[2]


def test_held_out_episodes_are_measured_as_recorded(
    recorded: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []
    true = BatchLoader.__init__

    def noted(self: BatchLoader, *args: object, **named: object) -> None:
        made.append(len(named["copies"]))  # type: ignore[arg-type]
        true(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(BatchLoader, "__init__", noted)
    config = replace(CONFIG, validation_fraction=0.34)
    train((recorded,), tmp_path / "run", config=config, preset="small", video_model=video_model)
    assert made == [2, 0]


def test_an_interrupted_copy_is_finished(recorded: Path, policy: Video2Act, tmp_path: Path):
    dataset = LeRobotDataset(recorded)
    cache = FeatureCache(tmp_path, cache_spec(policy, dataset))
    (copy,) = open_copies(cache, shift_px=3, jitter=0.0, copies=1, root=tmp_path / COPIES)
    given = {"store": FrameStore(dataset), "cache": copy, "accelerator": Accelerator()}
    fill(policy, dataset, **given)
    before = copy.whole(1)["motion"].grid
    (copy.root / "000001.safetensors").unlink()
    fill(policy, dataset, **given)
    assert torch.equal(copy.whole(1)["motion"].grid, before)


def test_complete_copies_where_nothing_can_be_written_are_read(
    recorded: Path, policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They were filled again, into the run folder."""
    dataset = LeRobotDataset(recorded)
    cache = FeatureCache(tmp_path / "cache", cache_spec(policy, dataset))
    first, second = copies_of(cache, CONFIG, lengths=dataset.lengths, out=tmp_path / "run")
    fill(policy, dataset, store=FrameStore(dataset), cache=first, accelerator=Accelerator())
    monkeypatch.setattr("video2act.training.new_policy.can_write", lambda folder: False)
    found = copies_of(cache, CONFIG, lengths=dataset.lengths, out=tmp_path / "run")
    assert [copy.root for copy in found] == [first.root, tmp_path / "run" / SEEN / COPIES / second.root.name]


def test_copies_are_verified_with_their_cache(recorded: Path, video_model: Path, tmp_path: Path):
    fill_cache((recorded,), tmp_path, preset="small", video_model=video_model, clip_jitter=0.1, clip_copies=1)
    assert "3 episodes and 1 varied copies of them" in verify_cache(tmp_path)
    damaged = next((tmp_path / COPIES).rglob("000001.safetensors"))
    damaged.unlink()
    with pytest.raises(ValueError, match=str(damaged)):
        verify_cache(tmp_path)


def test_copies_that_the_disk_cannot_hold_are_refused_before_the_first(
    recorded: Path, policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = LeRobotDataset(recorded)
    cache = FeatureCache(tmp_path, cache_spec(policy, dataset))
    fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
    copies = open_copies(cache, shift_px=1, jitter=0.0, copies=3, root=tmp_path / COPIES)
    check_room(cache, copies)
    disk = SimpleNamespace(free=2 * cache.num_bytes)
    monkeypatch.setattr("video2act.data.cache.shutil.disk_usage", lambda folder: disk)
    with pytest.raises(OSError, match=r"the cache needs .* more, the disk has"):
        check_room(cache, copies)
    assert not (tmp_path / COPIES).exists()


@pytest.mark.parametrize(
    "options", [{"clip_jitter": float("inf")}, {"image_jitter": 1.5}, {"clip_jitter": -0.1}], ids=str
)
def test_a_variation_that_leaves_no_picture_is_refused(options: dict[str, float]):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\)"):
        TrainConfig(**options)  # type: ignore[arg-type]


def test_copies_of_clips_that_do_not_vary_are_refused(
    recorded: Path, video_model: Path, small_preset: object, tmp_path: Path
):
    with pytest.raises(ValueError, match=r"no clips vary \(clip_shift_px and clip_jitter are 0\); leave it out"):
        fill_cache((recorded,), tmp_path, preset="small", video_model=video_model, clip_copies=2)
