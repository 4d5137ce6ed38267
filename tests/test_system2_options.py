"""Fields of a policy that are set on the command line by their paths: they reach every config, or are refused."""

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
from video2act.config import PolicyConfig, PretrainedBackboneConfig
from video2act.files.run_folder import load_config
from video2act.files.video_model import BACKBONE_FILE
from video2act.presets import PRESETS

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

BACKBONE = "--policy.system2.backbone."


@pytest.fixture
def wan(tmp_path: Path, small_config: PolicyConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny published model, and `small_wan`, a preset over it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = published_models.write_wan21(tmp_path / "wan21")
    assert small_config.system2 is not None
    backbone = PretrainedBackboneConfig("wan21", "its/repo", (1,), dtype="float32")
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
    return (
        *(f"{BACKBONE}feature-layers", 2, f"{BACKBONE}noise-level", 0.25),
        *(f"{BACKBONE}text-cache", tmp_path / "texts"),
    )


def check(backbone: Any, tmp_path: Path) -> None:
    assert isinstance(backbone, PretrainedBackboneConfig)
    assert (backbone.feature_layers, backbone.noise_level, backbone.text_cache) == ((2,), 0.25, str(tmp_path / "texts"))


def test_train_video(video2act: Callable[..., None], wan: Path, recorded: Path, tmp_path: Path):
    out = ("--data", recorded, "--out", tmp_path / "tuned", "--num-steps", 0, "--num-frames", 5, "--sizes-px", 32)
    video2act("train-video", *out, "--preset", "small_wan", "--video-model", wan, *options(tmp_path))
    check(configs.load_backbone(tmp_path / "tuned" / BACKBONE_FILE), tmp_path)


def test_a_cache_is_filled_verified_and_trained_on(
    video2act: Callable[..., None], wan: Path, recorded: Path, tmp_path: Path
):
    of = ("--data", recorded, "--preset", "small_wan", "--video-model", wan)
    video2act("cache", "fill", *of, "--out", tmp_path / "seen", *options(tmp_path))
    video2act("cache", "verify", tmp_path / "seen")
    # sentences are kept where the option says
    assert len(list((tmp_path / "texts").glob("*.safetensors"))) == 2
    assert not (tmp_path / "cache" / "video2act" / "text").exists()
    with pytest.raises(SystemExit, match="StaleCacheError"):
        video2act("train", *of, "--out", tmp_path / "run", "--num-steps", 0, "--cache", tmp_path / "seen")
    AcceleratorState._reset_state(True)  # another process
    run = ("--out", tmp_path / "run", "--num-steps", 0, "--cache", tmp_path / "seen")
    video2act("train", *of, *run, *options(tmp_path))
    config = load_config(tmp_path / "run")
    assert config.system2 is not None
    check(config.system2.backbone, tmp_path)


@pytest.mark.parametrize("verb", ["train", "train-video", "cache fill"])
def test_a_field_of_another_kind_of_model_is_unknown(
    video2act: Callable[..., None], recorded: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
):
    """The tiny video model has no noise level."""
    with pytest.raises(SystemExit) as exit_:
        video2act(*verb.split(), "--data", recorded, "--out", tmp_path / "out", f"{BACKBONE}noise-level", 0.5)
    assert exit_.value.code not in (0, None)
    assert "noise-level" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_noise_level_that_is_none_is_refused(video2act: Callable[..., None], recorded: Path, tmp_path: Path):
    out = ("--data", recorded, "--out", tmp_path / "out", "--preset", "ltx")
    with pytest.raises(SystemExit, match=r"system2.backbone: noise_level must lie in \[0, 1\), got 1\.5"):
        video2act("train-video", *out, f"{BACKBONE}noise-level", 1.5)
