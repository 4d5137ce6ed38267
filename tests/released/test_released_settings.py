"""The released yaml is read once, into types and bounds; what is wrong is named by file and key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from released_checkpoint import settings_yaml, write_yaml

from video2act_released.settings import read_settings

Change = Callable[[dict[str, Any]], Any]


def model(**fields: Any) -> Change:
    return lambda plain: plain["model"].update(fields)


def stream(**fields: Any) -> Change:
    return lambda plain: plain["model"]["dual_stream_framepack"]["motion_stream"].update(fields)


def video(**fields: Any) -> Change:
    return lambda plain: plain["model"]["video"].update(fields)


def core(**fields: Any) -> Change:
    return lambda plain: plain["model"]["core"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (model(core=5), "core: expected an object for Core, got 5"),
        (model(core=None), "core: expected an object for Core, got None"),
        (core(depth="a"), "core: depth: expected int, got 'a'"),
        (core(depth=10**6), "core: depth must be at most 256, got 1000000"),
        (core(num_heads=0), "core: num_heads must be at least 1, got 0"),
        (model(noise_scheduler=None), "noise_scheduler: expected an object"),
        (model(noise_scheduler=["a"]), "noise_scheduler: expected an object"),
        (model(noise_scheduler={"num_inference_timesteps": 0}), "num_inference_timesteps must be at least 1"),
        (model(dual_stream_framepack=[1]), "dual_stream_framepack: expected an object"),
        (model(lang_adaptor=3), "lang_adaptor: expected str, got 3"),
        (model(framepack_adaptor=None), "neither video_adaptor nor framepack_adaptor is there"),
        (model(token_compressor_depth=10**6), "token_compressor_depth must be at most 256"),
        (stream(video_size=5), "motion_stream: video_size: expected a list, got 5"),
        (stream(video_size=[5]), "motion_stream: video_size: expected 2 items"),
        (stream(video_size=[0, 0]), "motion_stream: video_size must be at least 1"),
        (stream(num_frames="x"), "motion_stream: num_frames: expected int, got 'x'"),
        (stream(num_frames=10**9), "motion_stream: num_frames must be at most 10000"),
        (video(fps=0), "fps must be positive, got 0"),
        (video(motion_extraction=[3]), "motion_extraction: expected an object"),
        (video(motion_extraction={"freq_low": float("nan")}), "motion_extraction: freq_low must be finite"),
        (lambda plain: plain.update(framepack=[1]), "framepack is no section, but list"),
        (model(use_dual_stream_framepack="offf"), "use_dual_stream_framepack: expected bool, got 'offf'"),
        (model(use_dual_stream_framepack=0), "use_dual_stream_framepack: expected bool, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_key(tmp_path: Path, change: Change, message: str):
    """Such values ended in a TypeError, an AttributeError or a ZeroDivisionError, or in gigabytes of names."""
    plain = settings_yaml()
    change(plain)
    path = write_yaml(tmp_path, plain)
    with pytest.raises(ValueError) as error:
        read_settings(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize("words", [("on", "off"), ("Yes", "No"), ("TRUE", "FALSE"), ("true", "null")])
def test_switches_are_read_as_the_released_code_reads_them(tmp_path: Path, words: tuple[str, str]):
    """The released code reads yaml 1.1, where `off` is false; here it was a text, and so counted as true."""
    path = tmp_path / "task.yaml"
    for word, is_on in zip(words, (True, False), strict=True):
        plain = settings_yaml()
        plain["model"] |= {"use_dual_stream_framepack": "WORD", "use_video_token_compressor": "WORD"}
        path.write_text(yaml.safe_dump(plain).replace("WORD", word))
        settings, _ = read_settings(path)
        assert (settings.use_dual_stream_framepack, settings.has_formers) == (is_on, is_on)


def test_keys_of_the_training_are_left_out_and_the_released_defaults_count(tmp_path: Path):
    plain = {"core": {"hidden_size": 32, "depth": 2, "num_heads": 4, "motion_dim": 3072}, "noise_scheduler": {}}
    plain |= {"lang_adaptor": "linear", "img_adaptor": "linear", "framepack_adaptor": "linear", "ema": {"power": 0.75}}
    settings, found = read_settings(write_yaml(tmp_path, {"model": plain, "framepack": {"attn_mode": "torch"}}))
    assert (settings.state_adaptor, settings.use_dual_stream_framepack) == ("mlp2x_gelu", False)
    assert settings.has_formers
    assert (found.fps, found.video_size, found.train_lora) == (16.0, (480, 832), None)
