"""How a published video model is looked through, chosen on the command line: it reaches every config, or is refused."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

import published_models
from video2act import cli
from video2act import config as configs
from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig, ScratchConfig, System2Options
from video2act.policy import Video2Act
from video2act.presets import PRESETS
from video2act.programs.train_video import chosen
from video2act.system2.backbones.published import TUNED_CONFIG

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture
def wan(tmp_path: Path, small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny published model, and `small_wan`, a preset over it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = published_models.write_wan21(tmp_path / "wan21")
    assert small_config.system2 is not None
    backbone = PretrainedBackboneConfig("wan21", "its/repo", 1, dtype="float32")
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    config = replace(small_config, system2=replace(small_config.system2, backbone=backbone, streams=streams))
    monkeypatch.setitem(PRESETS, "small_wan", lambda spec: config)
    return source


@pytest.fixture
def video2act(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["video2act", *map(str, arguments)])
        cli.main()

    return call


def options(tmp_path: Path) -> tuple[object, ...]:
    return ("--system2.feature-layer", 2, "--system2.noise-level", 0.25, "--system2.text-cache", tmp_path / "texts")


def check(backbone: Any, tmp_path: Path) -> None:
    assert isinstance(backbone, PretrainedBackboneConfig)
    assert (backbone.feature_layer, backbone.noise_level, backbone.text_cache) == (2, 0.25, str(tmp_path / "texts"))


def test_train(video2act: Callable[..., None], wan: Path, recorded: Path, tmp_path: Path):
    out = ("--data", recorded, "--out", tmp_path / "run", "--num-steps", 0)
    video2act("train", *out, "--preset", "small_wan", "--video-model", wan, *options(tmp_path))
    policy = Video2Act.load(tmp_path / "run")
    assert policy.config.system2 is not None
    check(policy.config.system2.backbone, tmp_path)
    assert len(list((tmp_path / "texts").glob("*.safetensors"))) == 2
    assert not (tmp_path / "cache" / "video2act" / "text").exists()


def test_train_video(video2act: Callable[..., None], wan: Path, recorded: Path, tmp_path: Path):
    out = ("--data", recorded, "--out", tmp_path / "tuned", "--num-steps", 0, "--num-frames", 5, "--sizes-px", 32)
    video2act("train-video", *out, "--preset", "small_wan", "--video-model", wan, *options(tmp_path))
    check(configs.load_backbone(tmp_path / "tuned" / TUNED_CONFIG), tmp_path)


def test_a_cache_is_filled_verified_and_trained_on(
    video2act: Callable[..., None], wan: Path, recorded: Path, tmp_path: Path
):
    of = ("--data", recorded, "--preset", "small_wan", "--video-model", wan)
    video2act("cache", "fill", *of, "--out", tmp_path / "seen", *options(tmp_path))
    video2act("cache", "verify", tmp_path / "seen", *of, *options(tmp_path))
    with pytest.raises(SystemExit, match="StaleCacheError"):
        video2act("cache", "verify", tmp_path / "seen", *of)
    AcceleratorState._reset_state(True)  # another process
    run = ("--out", tmp_path / "run", "--num-steps", 0, "--cache", tmp_path / "seen")
    video2act("train", *of, *run, *options(tmp_path))


def test_what_is_left_out_is_as_the_preset_says():
    assert chosen("wan22_5b", None, tiny=BackboneConfig(), scratch=ScratchConfig()) == chosen(
        "wan22_5b", None, tiny=BackboneConfig(), scratch=ScratchConfig(), system2=System2Options()
    )
    backbone = chosen(
        "wan22_5b", None, tiny=BackboneConfig(), scratch=ScratchConfig(), system2=System2Options(noise_level=0.5)
    )
    assert isinstance(backbone, PretrainedBackboneConfig)
    assert (backbone.feature_layer, backbone.noise_level, backbone.text_cache) == (20, 0.5, None)


@pytest.mark.parametrize("preset", ["tiny", "tiny_latents"])
@pytest.mark.parametrize("verb", ["train", "train-video", "cache"])
def test_the_tiny_presets_refuse(
    video2act: Callable[..., None], recorded: Path, tmp_path: Path, preset: str, verb: str
):
    words = (verb, "fill") if verb == "cache" else (verb,)
    said = (
        r"this preset is over the tiny video model, and system2\.noise-level=0\.5 is for published ones; leave it out"
    )
    with pytest.raises(SystemExit, match=said):
        video2act(
            *words, "--data", recorded, "--out", tmp_path / "out", "--preset", preset, "--system2.noise-level", 0.5
        )
    assert not (tmp_path / "out").exists()


def test_presets_without_a_published_model_refuse(video2act: Callable[..., None], recorded: Path, tmp_path: Path):
    out = ("--data", recorded, "--out", tmp_path / "out", "--system2.feature-layer", 2)
    with pytest.raises(SystemExit, match=r"is over no video model, and system2\.feature-layer=2"):
        video2act("train", *out, "--preset", "tiny_system1")
    with pytest.raises(SystemExit, match=r"is over a video model from nothing, and system2\.feature-layer=2"):
        video2act("train-video", *out, "--preset", "small")


def test_a_noise_level_that_is_none_is_refused(video2act: Callable[..., None], recorded: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match=r"noise_level must lie in \[0, 1\), got 1\.5"):
        video2act(
            "train-video",
            "--data",
            recorded,
            "--out",
            tmp_path / "out",
            "--preset",
            "ltx",
            "--system2.noise-level",
            1.5,
        )
