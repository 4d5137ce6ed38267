"""The long benchmarks, in miniature: the same path with narrow networks, so that they do not break unseen."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fresh_accelerator")]

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_the_middle_size_from_videos_to_success(tmp_path: Path):
    benchmark: dict[str, Any] = runpy.run_path(str(FOLDER / "small_video_model.py"))
    settings = benchmark["Settings"](tmp_path, shrunken=True, minutes=1e-9)
    assert not benchmark["main"](settings)  # no time: nothing is done
    assert benchmark["main"](replace(settings, minutes=60.0))
    report = (tmp_path / "report.md").read_text()
    assert "over copying" in report
    assert report.count("/1 |") == 3  # three policies, one episode each
    assert (tmp_path / "video_model" / "prediction.mp4").is_file()
    # what is done is not done again
    assert benchmark["main"](replace(settings, minutes=1e-9))


def test_full_size(tmp_path: Path):
    benchmark: dict[str, Any] = runpy.run_path(str(FOLDER / "full_size.py"))
    found = benchmark["main"](benchmark["Settings"](tmp_path, shrunken=True, repetitions=1))
    assert 0 < found.system2_error < 0.05
    assert 0 < found.system1_error < 0.1
    assert found.is_within
    assert (tmp_path / "full_size.json").is_file()
