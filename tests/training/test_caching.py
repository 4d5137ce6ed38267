"""Training from a cache equals training without it; a cache is filled once, shared, verified, and refused when it is
stale."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from trainings import fill_cache, train, train_video, verify_cache
from video2act import cli
from video2act.clips import FrameHistory
from video2act.config import BackboneConfig, PolicyConfig, TrainConfig, VideoTrainConfig
from video2act.data import FrameStore, LeRobotDataset
from video2act.data.batches import BatchLoader
from video2act.data.cache import FeatureCache
from video2act.data.cache_manifest import CachedStage, StaleCacheError, load_spec
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.system2 import System2
from video2act.training.features import cache_spec, fill, look
from video2act.training.new_policy import build_policy
from video2act.types import Observation, Video

pytestmark = pytest.mark.usefixtures("fresh_accelerator", "small_preset")

STAGES: tuple[CachedStage, ...] = ("latents", "features", "seen")
CONFIG = TrainConfig(num_steps=6, batch_size=6, warmup_steps=2, mixed_precision="no")
STREAM = {"system2.streams.motion.encoding": "stream"}


@pytest.fixture(scope="module")
def video_model(recorded: Path, small_backbone: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "model"
    train_video(
        (recorded,),
        out,
        config=VideoTrainConfig(num_steps=2, batch_size=2, num_frames=9, sizes_px=(16,)),
        backbone=small_backbone,
    )
    return out


@pytest.fixture
def policy(recorded: Path, video_model: Path, small_config: PolicyConfig) -> Video2Act:
    torch.manual_seed(0)
    return build_policy(small_config, LeRobotDataset(recorded).stats, video_model=video_model).eval()


@pytest.fixture
def streaming(recorded: Path, video_model: Path, small_config: PolicyConfig) -> Video2Act:
    assert small_config.system2 is not None
    torch.manual_seed(0)
    config = small_config.replace(STREAM)
    return build_policy(config, LeRobotDataset(recorded).stats, video_model=video_model).eval()


@pytest.fixture
def of_two_rhythms(recorded: Path, video_model: Path, small_config: PolicyConfig) -> Video2Act:
    """The latents of the slower stream were stored at the rhythm of the faster one."""
    torch.manual_seed(0)
    config = small_config.replace({**STREAM, "system2.streams.motion.every": 8, "system2.streams.spatial.every": 4})
    return build_policy(config, LeRobotDataset(recorded).stats, video_model=video_model).eval()


@pytest.fixture
def looking_ahead(recorded: Path, video_model: Path, small_config: PolicyConfig) -> Video2Act:
    torch.manual_seed(0)
    changes = {f"system2.streams.{name}.imagine.num_frames": 4 for name in ("spatial", "motion")}
    config = small_config.replace({**changes, "system2.backbone.feature_layers": (0, 1)})
    return build_policy(config, LeRobotDataset(recorded).stats, video_model=video_model).eval()


def losses(folder: Path) -> np.ndarray:
    return np.array([json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()])


class TestTraining:
    @pytest.mark.parametrize(
        ("stage", "dtype"), [("latents", "float32"), ("features", "float16"), ("seen", "bfloat16")]
    )
    def test_from_a_cache_equals_training_without(
        self, recorded: Path, video_model: Path, tmp_path: Path, stage: str, dtype: str
    ):
        filled = fill_cache(
            (recorded,), tmp_path / "cache", preset="small", video_model=video_model, stage=stage, dtype=dtype
        )
        assert filled.num_frames == 36
        train(
            (recorded,),
            tmp_path / "cached",
            config=CONFIG,
            preset="small",
            video_model=video_model,
            cache=tmp_path / "cache",
        )
        train((recorded,), tmp_path / "live", config=CONFIG, preset="small", video_model=video_model, live=True)
        cached, live = losses(tmp_path / "cached"), losses(tmp_path / "live")
        assert np.abs(cached / live - 1).max() < {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1e-2}[dtype]

    def test_a_stream_is_trained_from_any_stage_alike(self, recorded: Path, video_model: Path, tmp_path: Path):
        runs = []
        for stage in ("latents", "features", "seen"):
            fill_cache(
                (recorded,),
                tmp_path / stage,
                preset="small",
                video_model=video_model,
                stage=stage,
                changes=STREAM,
                dtype="float32",
            )
            train(
                (recorded,),
                tmp_path / f"run_{stage}",
                config=CONFIG,
                preset="small",
                video_model=video_model,
                cache=tmp_path / stage,
                changes=STREAM,
            )
            runs.append(losses(tmp_path / f"run_{stage}"))
        assert np.allclose(runs[0], runs[2], rtol=1e-4)
        assert np.allclose(runs[1], runs[2], rtol=1e-4)
        assert Video2Act.load(tmp_path / "run_seen").config.system2.streams[1].encoding == "stream"  # type: ignore[union-attr]

    def test_a_stream_without_a_cache_is_refused(self, recorded: Path, video_model: Path, tmp_path: Path):
        with pytest.raises(ValueError, match="encoding='stream' needs a cache"):
            train(
                (recorded,),
                tmp_path / "run",
                config=CONFIG,
                preset="small",
                video_model=video_model,
                live=True,
                changes=STREAM,
            )

    def test_a_cache_of_windows_does_not_serve_a_stream(self, recorded: Path, video_model: Path, tmp_path: Path):
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, stage="seen")
        with pytest.raises(StaleCacheError, match=r"streams\.motion\.encoding: window there, stream here"):
            train(
                (recorded,),
                tmp_path / "run",
                config=CONFIG,
                preset="small",
                video_model=video_model,
                cache=tmp_path / "cache",
                changes=STREAM,
            )


class TestAgreement:
    """What training reads at a moment is what the robot sees at that moment."""

    @pytest.mark.parametrize("kind", ["policy", "streaming", "of_two_rhythms", "looking_ahead"])
    def test_the_cache_holds_what_is_perceived_while_running(
        self, recorded: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path
    ):
        policy: Video2Act = request.getfixturevalue(kind)
        dataset = LeRobotDataset(recorded)
        cache = FeatureCache(tmp_path, cache_spec(policy, dataset, stage="seen", dtype="float32"))
        fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
        assert policy.system2 is not None
        history = FrameHistory(policy.system2.config.streams)
        frames, episode = dataset.frames(1, "front"), dataset.episode(1)
        for k in range(episode.length):
            history.append(Observation({"front": frames[k]}, episode.state[k], episode.instruction[k], k / 20))
            seen = policy.explain(history.clips(policy.config.fps), [episode.instruction[k]])
            for name, stored in cache.read([(1, k)]).items():
                assert stored.fps == seen[name].fps
                assert torch.allclose(stored.grid, seen[name].grid, atol=1e-4), (name, k)

    def test_windows_and_streams_differ_so_the_choice_is_kept(
        self, recorded: Path, policy: Video2Act, streaming: Video2Act
    ):
        dataset = LeRobotDataset(recorded)
        specs = [cache_spec(one, dataset, stage="latents", dtype="float32") for one in (policy, streaming)]
        assert specs[0].name != specs[1].name
        stores = [
            look(p, dataset, store=FrameStore(dataset), episode=0, spec=s, device=torch.device("cpu"))
            for p, s in zip((policy, streaming), specs, strict=True)
        ]
        windows, stream = (store["motion"].grid for store in stores)
        assert windows.shape == (12, 16, 3, 2, 2)  # a clip of 3 latents at every step
        assert stream.shape == (3, 16, 1, 2, 2)  # every latent once: of frames 0, 1-4, 5-8

    @pytest.mark.parametrize("kind", ["policy", "streaming", "of_two_rhythms", "looking_ahead"])
    def test_what_is_seen_does_not_depend_on_the_stage_that_was_cached(
        self, recorded: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        """Also in episodes that are read in several batches."""
        monkeypatch.setattr("video2act.training.features.BATCH", 5)
        policy: Video2Act = request.getfixturevalue(kind)
        dataset = LeRobotDataset(recorded)
        assert policy.system2 is not None
        found = {}
        for stage in ("latents", "features", "seen"):
            cache = FeatureCache(tmp_path / stage, cache_spec(policy, dataset, stage=stage, dtype="float32"))
            fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
            batch = BatchLoader(dataset, FrameStore(dataset), config=policy.config, batch_size=36, seed=0, cache=cache)[
                0
            ]
            seen = policy.system2.see_on(batch.stage, batch.videos, instruction=list(batch.clip_instruction))
            found[stage] = seen["motion"].grid
        assert torch.allclose(found["latents"], found["seen"], atol=1e-4)
        assert torch.allclose(found["features"], found["seen"], atol=1e-4)


class TestKey:
    def test_what_a_stage_does_not_depend_on_is_not_in_its_manifest(self, recorded: Path, policy: Video2Act):
        dataset = LeRobotDataset(recorded)
        before = {stage: cache_spec(policy, dataset, stage=stage).name for stage in ("latents", "features", "seen")}
        assert policy.system2 is not None
        with torch.no_grad():
            next(p for name, p in policy.system2.backbone.named_parameters() if name.startswith("blocks.0")).add_(1)
        after = {stage: cache_spec(policy, dataset, stage=stage).name for stage in ("latents", "features", "seen")}
        assert [before[stage] == after[stage] for stage in before] == [True, False, False]
        with torch.no_grad():
            next(policy.system2.formers.parameters()).add_(1)
        assert {
            stage: cache_spec(policy, dataset, stage=stage).name for stage in ("latents", "features", "seen")
        } == after

    def test_another_norm_or_reference_of_the_features_is_another_cache(self, recorded: Path, video_model: Path):
        dataset = LeRobotDataset(recorded)
        names: dict[CachedStage, set[str]] = {}
        for norm in ("none", "layer", "modulated"):
            config = PRESETS["small"](DataSpec.of(dataset)).replace({"system2.backbone.feature_norm": norm})
            policy = build_policy(config, dataset.stats, video_model=video_model)
            assert policy.config.system2 is not None
            assert policy.config.system2.backbone.feature_norm == norm, "the norm is the policy's choice"
            for stage in STAGES:
                names.setdefault(stage, set()).add(cache_spec(policy, dataset, stage=stage).name)
        config = PRESETS["small"](DataSpec.of(dataset)).replace({"system2.reference": "none"})
        policy = build_policy(config, dataset.stats, video_model=video_model)
        for stage, different in names.items():
            different.add(cache_spec(policy, dataset, stage=stage).name)
        assert {stage: len(different) for stage, different in names.items()} == {"latents": 1, "features": 3, "seen": 4}

    def test_other_data_is_another_cache(self, recorded: Path, video_model: Path, tmp_path: Path):
        copy = Path(shutil.copytree(recorded, tmp_path / "data"))
        fill_cache((copy,), tmp_path / "cache", preset="small", video_model=video_model)
        path = next((copy / "videos").rglob("*.mp4"))
        path.write_bytes(path.read_bytes() + bytes(1))
        with pytest.raises(StaleCacheError, match=r"data: \[.* there, \[.* here"):
            train(
                (copy,),
                tmp_path / "run",
                config=CONFIG,
                preset="small",
                video_model=video_model,
                cache=tmp_path / "cache",
            )


class TestFilling:
    def test_an_interrupted_filling_goes_on(
        self, recorded: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        fill_cache((recorded,), tmp_path / "whole", preset="small", video_model=video_model)
        write, asked = FeatureCache.write, []

        def interrupted(self: FeatureCache, episode: int, seen: dict) -> None:
            asked.append(episode)
            if len(asked) == 2:
                raise KeyboardInterrupt
            write(self, episode, seen)

        monkeypatch.setattr(FeatureCache, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        assert asked == [0, 1, 1, 2]
        for file in sorted((tmp_path / "whole").iterdir()):
            assert (tmp_path / "cache" / file.name).read_bytes() == file.read_bytes()

    def test_what_a_killed_filling_left_goes_with_the_next_one_and_what_another_writes_does_not(
        self, recorded: Path, policy: Video2Act, tmp_path: Path
    ):
        """Copies lie below their cache and are filled under locks of their own. A complete cache is only read."""
        dataset, name = LeRobotDataset(recorded), ".000001.safetensors.7-0123abcd.tmp"
        cache = FeatureCache(tmp_path, cache_spec(policy, dataset))
        given = {"store": FrameStore(dataset), "cache": cache, "accelerator": Accelerator()}
        (tmp_path / "copies/a").mkdir(parents=True)
        (tmp_path / "copies/a" / name).touch()
        (tmp_path / name).touch()
        fill(policy, dataset, **given)
        assert not (tmp_path / name).exists()
        assert (tmp_path / "copies/a" / name).exists()
        (tmp_path / name).touch()
        fill(policy, dataset, **given)
        assert (tmp_path / name).exists()

    def test_without_locks_what_another_writes_is_not_taken_for_left_over(
        self, recorded: Path, policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Where a file system has no locks, a second filling removed the file that the first one was writing."""

        def unsupported(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("video2act.files.lock.fcntl.flock", unsupported)
        dataset, name = LeRobotDataset(recorded), ".000001.safetensors.7-0123abcd.tmp"
        cache = FeatureCache(tmp_path, cache_spec(policy, dataset))
        (tmp_path / name).touch()
        fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
        assert (tmp_path / name).exists()

    def test_what_another_program_wrote_meanwhile_is_kept(
        self, recorded: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Both find all episodes missing; the other writes them while this one looks at the first."""
        fill_cache((recorded,), tmp_path / "whole", preset="small", video_model=video_model)
        looked, kept = [], {}

        def slow(*args, episode: int, **named):
            if not looked:
                for path in (tmp_path / "whole").glob("*.safetensors"):
                    shutil.copy(path, tmp_path / "cache")
                kept.update({path: path.stat().st_ino for path in (tmp_path / "cache").glob("*.safetensors")})
            looked.append(episode)
            return look(*args, episode=episode, **named)

        monkeypatch.setattr("video2act.training.features.look", slow)
        (tmp_path / "cache").mkdir()
        shutil.copy(tmp_path / "whole/cache.json", tmp_path / "cache")
        (tmp_path / "cache/000001.safetensors").write_bytes(b"damaged")
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        assert looked == [0]
        for path in list(kept)[1:]:
            assert path.exists()
        for path in (tmp_path / "whole").glob("*.safetensors"):
            assert (tmp_path / "cache" / path.name).read_bytes() == path.read_bytes()

    def test_a_video_model_that_cannot_be_written_leaves_its_cache_in_the_run_folder(
        self,
        recorded: Path,
        video_model: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        model = shutil.copytree(video_model, tmp_path / "model", ignore=shutil.ignore_patterns("seen"))
        before = sorted(model.rglob("*"))
        monkeypatch.setattr(
            "video2act.training.choice.os.access", lambda path, mode: not Path(path).is_relative_to(model)
        )
        train((recorded,), tmp_path / "run", config=CONFIG, preset="small", video_model=model)
        assert (
            f"{model} cannot be written; what System 2 sees goes to {tmp_path / 'run/seen'}" in capsys.readouterr().out
        )
        assert len(list((tmp_path / "run/seen").glob("*/*.safetensors"))) == 3
        assert sorted(model.rglob("*")) == before
        with pytest.raises(ValueError, match=r"cannot be written; name a folder for this cache with --out"):
            fill_cache((recorded,), None, preset="small", video_model=model)

    def test_more_than_allowed_stops_before_an_episode(self, recorded: Path, video_model: Path, tmp_path: Path):
        with pytest.raises(OSError, match="the cache would take"):
            fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, max_gib=1e-5)
        assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 0

    def test_episodes_of_unequal_lengths_stay_within_the_bound(
        self, recorded: Path, policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The first tells per frame, not per episode, what the others take."""
        dataset = LeRobotDataset(recorded)
        monkeypatch.setattr(dataset, "lengths", (1, 100, 100))
        sizes = iter(dataset.lengths)
        monkeypatch.setattr(
            "video2act.training.features.look",
            lambda *_, **__: {"motion": Video(torch.zeros(next(sizes) * 100, 4, 1, 2, 2), 5.0)},
        )
        cache = FeatureCache(tmp_path, cache_spec(policy, dataset), max_bytes=50_000)
        with pytest.raises(OSError, match="the cache would take"):
            fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
        assert cache.num_bytes < 50_000

    def test_a_full_cache_beyond_the_bound_is_refused(self, recorded: Path, video_model: Path, tmp_path: Path):
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        with pytest.raises(OSError, match="the cache would take"):
            fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, max_gib=1e-5)

    @pytest.mark.parametrize(
        ("max_gib", "told"),
        [
            (0.0, r"max_gib must be positive, got 0\.0"),
            (-1.0, r"max_gib must be positive, got -1\.0"),
            (float("nan"), "max_gib must be positive, got nan"),
            (float("inf"), "max_gib must be finite, got inf"),
        ],
    )
    def test_a_bound_that_is_no_size_is_refused(
        self, recorded: Path, video_model: Path, tmp_path: Path, max_gib: float, told: str
    ):
        with pytest.raises(ValueError, match=told):
            fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, max_gib=max_gib)

    def test_how_much_smaller_it_is_than_the_frames_is_said(self, recorded: Path, video_model: Path, tmp_path: Path):
        filled = fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        h, w = LeRobotDataset(recorded).image_size("front")
        assert filled.raw_bytes == 36 * h * w * 3
        assert " MiB in float16, " in str(filled)
        assert f", {filled.num_bytes / 36 / 2**10:.1f} KiB a frame, " in str(filled)
        assert f"{filled.num_bytes / filled.raw_bytes:.3g} times the raw frames' " in str(filled)

    @pytest.mark.parametrize("damage", ["empty", "half", "rows", "exchanged"])
    def test_a_damaged_episode_is_filled_again(self, recorded: Path, video_model: Path, tmp_path: Path, damage: str):
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        path = tmp_path / "cache/000001.safetensors"
        content = path.read_bytes()
        if damage == "rows":
            cache = FeatureCache(tmp_path / "cache", load_spec(tmp_path / "cache"))
            cache.write(1, {name: replace(video, grid=video.grid[:5]) for name, video in cache.whole(1).items()})
        elif damage == "exchanged":
            path.write_bytes((tmp_path / "cache/000000.safetensors").read_bytes())
        else:
            path.write_bytes(content[: 0 if damage == "empty" else len(content) // 2])
        if damage != "rows":  # how long the episode is, only the data say
            with pytest.raises(ValueError, match=r"1 fault:\n  .*000001\.safetensors"):
                verify_cache(tmp_path / "cache")
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        assert path.read_bytes() == content

    def test_a_stream_takes_a_fraction_of_the_bytes(self, recorded: Path, video_model: Path, tmp_path: Path):
        sizes = {}
        for encoding in ("window", "stream"):
            filled = fill_cache(
                (recorded,),
                tmp_path / encoding,
                preset="small",
                video_model=video_model,
                stage="latents",
                changes={"system2.streams.motion.encoding": encoding},
            )
            sizes[encoding] = sum(
                FeatureCache(tmp_path / encoding, load_spec(tmp_path / encoding)).whole(e)["motion"].grid.numel()
                for e in range(3)
            )
            assert filled.num_clips == (36 if encoding == "window" else 9)
        assert sizes["window"] == 12 * sizes["stream"]  # 12 clips of 3 latents against 3 latents

    def test_a_preset_without_system_2_has_nothing_to_cache(self, recorded: Path, tmp_path: Path):
        with pytest.raises(ValueError, match="'tiny_system1' has no System 2"):
            fill_cache((recorded,), tmp_path / "cache", preset="tiny_system1")

    def test_where_train_does_not_look_a_folder_must_be_named(self, recorded: Path, video_model: Path):
        with pytest.raises(ValueError, match="name a folder for this cache with --out"):
            fill_cache((recorded,), None, preset="small", video_model=video_model, stage="latents")

    @pytest.mark.parametrize("name", ["meta/info.json", "training.json", "engine.json"])
    def test_it_is_not_filled_into_the_work_of_another_program(
        self, recorded: Path, video_model: Path, tmp_path: Path, name: str
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
        with pytest.raises(FileExistsError, match=r"holds .*; choose another folder for a cache"):
            fill_cache((recorded,), tmp_path, preset="small", video_model=video_model)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]

    def test_without_a_folder_it_is_filled_where_train_looks(
        self, recorded: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        fill_cache((recorded,), None, preset="small", video_model=video_model)
        monkeypatch.setattr(
            System2,
            "encode",
            lambda *args, **named: (_ for _ in ()).throw(AssertionError("everything was seen before")),
        )
        train((recorded,), tmp_path / "run", config=CONFIG, preset="small", video_model=video_model)


class TestVerify:
    def test_missing_files_are_found_without_the_data(self, recorded: Path, video_model: Path, tmp_path: Path):
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model)
        (tmp_path / "cache/000002.safetensors").rename(tmp_path / "cache/notes.safetensors")
        with pytest.raises(ValueError, match=r"1 fault:\n.*000002.* never filled"):
            verify_cache(tmp_path / "cache")

    @pytest.fixture
    def filled(self, recorded: Path, video_model: Path, tmp_path: Path) -> Path:
        fill_cache((recorded,), tmp_path / "cache", preset="small", video_model=video_model, stage="features")
        return tmp_path / "cache"

    def test_what_is_right(self, filled: Path):
        assert "3 episodes as they were written; stage features" in verify_cache(filled)

    def test_damage_and_gaps_are_listed_together(self, filled: Path):
        content = bytearray((filled / "000001.safetensors").read_bytes())
        content[-3] ^= 255
        (filled / "000001.safetensors").write_bytes(content)
        (filled / "000002.safetensors").unlink()
        with pytest.raises(
            ValueError, match=r"2 faults:\n.*000001.* is not what was written.*\n.*000002.* never filled"
        ):
            verify_cache(filled)


def test_batches_say_at_which_stage_they_are(recorded: Path, policy: Video2Act, tmp_path: Path):
    dataset = LeRobotDataset(recorded)
    cache = FeatureCache(tmp_path, cache_spec(policy, dataset, stage="latents"))
    fill(policy, dataset, store=FrameStore(dataset), cache=cache, accelerator=Accelerator())
    batch = BatchLoader(dataset, FrameStore(dataset), config=policy.config, batch_size=4, seed=0, cache=cache)[0]
    assert batch.stage == "latents"
    assert len(batch.clip_instruction) == 4
    assert batch.to("cpu").clip_instruction == batch.clip_instruction


def test_the_verbs(recorded: Path, video_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    words = ["--data", str(recorded), "--preset", "small", "--video-model", str(video_model)]
    out = str(tmp_path / "cache")
    for command in (["cache", "fill", "--out", out, "--stage", "latents", *words], ["cache", "verify", out]):
        monkeypatch.setattr(sys, "argv", ["video2act", *command])
        cli.main()
    said = capsys.readouterr().out
    assert "36 moments of 36 frames" in said
    assert "3 episodes as they were written; stage latents, float16" in said


# tests/test_train.py has the same as part of a training
@pytest.mark.slow
def test_two_processes_share_the_episodes(recorded: Path, video_model: Path, tmp_path: Path):
    command = [
        "cache",
        "fill",
        "--data",
        str(recorded),
        "--out",
        str(tmp_path / "cache"),
        "--video-model",
        str(video_model),
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
            "-m",
            "video2act.cli",
            *command,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "VIDEO2ACT_DEBUG": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert verify_cache(tmp_path / "cache").startswith(f"{tmp_path / 'cache'}: 3 episodes as they were written")
