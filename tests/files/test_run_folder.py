"""What a run folder says; runs that are older than a field of the config load as they were trained."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from video2act import cli
from video2act.config import FrameConfig, PolicyConfig, PretrainedBackboneConfig, PretrainedConfig
from video2act.engines.choice import load_policy
from video2act.files.fetched import named_repo
from video2act.files.run_folder import load_config, save_config
from video2act.policy import Video2Act
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.runner import Runner
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.types import Observation


def age(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a run's config as an earlier version wrote it."""
    path = run / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def tokens(run: Path) -> torch.Tensor:
    policy = Video2Act.from_pretrained(run)
    streams = policy.slow.config.streams
    loop = InlineSlowLoop(policy, RefreshSpec(streams, refresh_every=1, control_fps=policy.config.fps))
    rng = np.random.default_rng(0)
    images = {camera: rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for camera in ("front", "wrist")}
    observation = Observation(images, np.zeros(3, np.float32), "push", 0.0)
    loop.reset(0)
    loop.observe(observation)
    return loop.condition().tokens.data


@pytest.fixture
def raw(small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path) -> Path:
    """A run on raw features from which nothing is subtracted, as all were."""
    changes = {"system2.backbone.feature_norm": "none", "system2.reference": "none"}
    make_policy(small_config.replace(changes)).save(tmp_path / "raw")
    return tmp_path / "raw"


def test_a_run_before_feature_norm_and_reference_sees_raw_features(
    raw: Path, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path
):
    """Their defaults, layer and grey, would show its formers features that they were not trained on."""
    expected = tokens(raw)

    def forget(config: dict[str, Any]) -> None:
        del config["system2"]["backbone"]["feature_norm"]
        del config["system2"]["reference"]

    age(raw, forget)
    config = load_config(raw)
    assert config.system2 is not None
    assert (config.system2.backbone.feature_norm, config.system2.reference) == ("none", "none")
    assert torch.equal(tokens(raw), expected)
    make_policy(small_config).save(tmp_path / "new")  # the same weights
    assert not torch.allclose(tokens(tmp_path / "new"), expected, atol=1e-3)


@pytest.mark.parametrize("missing", ["feature_norm", "reference"])
def test_each_field_by_itself(raw: Path, missing: str):
    def forget(config: dict[str, Any]) -> None:
        part = config["system2"]["backbone"] if missing == "feature_norm" else config["system2"]
        del part[missing]

    expected = tokens(raw)
    age(raw, forget)
    assert torch.equal(tokens(raw), expected)


def test_a_policy_without_system_2_has_neither(
    small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path
):
    config = replace(small_config, system2=None)
    make_policy(config).save(tmp_path / "blind")
    assert load_config(tmp_path / "blind") == config


def test_a_run_that_names_its_frames_by_resize_and_image_fit(raw: Path, small_config: PolicyConfig):
    def rename(config: dict[str, Any]) -> None:
        del config["image"]
        config["image_fit"] = "pad"
        for stream, resize in zip(config["system2"]["streams"], ("area", "lanczos"), strict=True):
            del stream["frame"]
            stream["resize"] = resize
        dit = config["system1"]["dit"]
        dit["num_image_positions"] = 2 * dit.pop("positions_per_image")

    age(raw, rename)
    config = load_config(raw)
    assert config.system2 is not None
    assert config.image == FrameConfig(resample="bicubic", max_enlargement=0.0)
    frames = [stream.frame for stream in config.system2.streams]
    assert frames == [FrameConfig(), FrameConfig("stretch", "lanczos", max_enlargement=0.0)]
    assert config.system1 == small_config.system1


def test_a_relative_folder_is_written_as_one_and_is_no_repo(
    small_config: PolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They stood in the config as they were typed: elsewhere `models/wan` was the name of a stranger's repo."""
    for folder in ("models/wan", "t5", "run"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert small_config.system2 is not None
    backbone = PretrainedBackboneConfig("wan21", "models/wan", (1,), text_cache="texts")
    streams = tuple(replace(stream, size_px=32) for stream in small_config.system2.streams)
    encoders = {
        "text_encoder": PretrainedConfig("t5", 16, cache="sentences"),
        "image_encoder": PretrainedConfig("google/siglip", 16),
    }
    config = replace(
        small_config,
        system1=replace(small_config.system1, **encoders),
        system2=replace(small_config.system2, backbone=backbone, streams=streams),
    )
    save_config(tmp_path / "run", config)
    monkeypatch.chdir("/")  # a study or a project may be moved as a whole: the path stays relative
    found = load_config(tmp_path / "run")
    assert found.system2 is not None
    assert isinstance(found.system2.backbone, PretrainedBackboneConfig)
    assert found.system2.backbone == replace(backbone, source="./models/wan")
    assert named_repo(found.system2.backbone.source) is None
    text, image = found.system1.text_encoder, found.system1.image_encoder
    assert text == PretrainedConfig("./t5", 16, cache="sentences")
    # a repo at the Hub keeps its name
    assert image == encoders["image_encoder"]


@pytest.mark.parametrize("read", [Runner, load_policy, Video2Act.load, lambda address: load_config(Path(address))])
@pytest.mark.parametrize("address", ["ws://127.0.0.1:8765", "wss://there:8000"])
def test_an_address_instead_of_a_folder_says_what_takes_a_served_policy(read: Callable[[str], object], address: str):
    """It said that `ws:/127.0.0.1:8765` does not exist."""
    with pytest.raises(ValueError, match=rf'^{address} is the address of a served .*RemotePolicy\("{address}"\)'):
        read(address)


@pytest.mark.parametrize(
    "words", ["run {} --env a:b", "serve {}", "sweep {} --env a:b", "export {} --to onnx", "info {}"]
)
def test_every_program_that_reads_a_folder_refuses_an_address(words: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["video2act", *words.format("ws://127.0.0.1:8765").split()])
    with pytest.raises(SystemExit, match=r"ws://127\.0\.0\.1:8765 is the address of a served policy"):
        cli.main()
