"""Which device computes, and in which precision."""

from pathlib import Path

import pytest
import torch

from video2act.policy import Video2Act
from video2act.precision import autocast_now, find_device
from video2act.system2 import load_system2


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`eval --device cuda` on a PyTorch without CUDA ended in a traceback."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for load in (Video2Act.load, Video2Act.from_pretrained, load_system2):
        with pytest.raises(
            ValueError, match=r"device='cuda', but PyTorch .* finds 0 CUDA devices here; choose cpu, or"
        ):
            load(tmp_path, "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert find_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match="device='cuda:1'"):
        find_device("cuda:1")


def test_a_device_of_no_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown device 'gpu'; choose cpu, or cuda"):
        find_device("gpu")
    assert find_device("cpu") == torch.device("cpu")


def test_what_is_kept_knows_its_precision():
    exact = autocast_now()
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_now() != exact
    assert autocast_now() == exact
