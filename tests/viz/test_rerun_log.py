"""What the Rerun file holds is what happened: every step, both systems' ticks on their own timelines, and the maps."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from video2act.config import PolicyConfig
from video2act.programs.evaluate import evaluate
from video2act.programs.view import view
from video2act.viz.rerun_log import RerunLog

rerun = pytest.importorskip("rerun")


def rows(path: Path) -> dict[str, list[dict]]:
    """Entity -> its rows."""
    from rerun.chunk import RrdReader  # type: ignore[import-not-found]

    found: dict[str, list[dict]] = {}
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            is_time = pa.types.is_duration(column.type) or pa.types.is_timestamp(column.type)
            columns[name] = (column.cast(pa.int64()) if is_time else column).to_pylist()  # nanoseconds
        found.setdefault(chunk.entity_path, []).extend(
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        )
    return found


def test_an_evaluated_episode_is_in_the_file(saved_policy: Path, tmp_path: Path):
    options = {"episodes": 1, "seed": 1001, "workers": 1, "num_videos": 1, "rerun": "file", "out": tmp_path / "e"}
    evaluate(saved_policy, "report_world:make", **options)
    (path,) = (tmp_path / "e").rglob("*.rrd")
    found = rows(path)
    assert {"/camera/front", "/camera/wrist", "/state", "/action", "/plan/chunk", "/staleness"} <= set(found)
    assert sorted(row["control_step"] for row in found["/camera/front"]) == list(range(12))
    robot = sorted(row["robot"] / 1e9 for row in found["/action"] if row.get("robot") is not None)
    assert robot == pytest.approx([step / 20 for step in range(12)])
    # plans every 2 steps, refreshes every 4, each counted on a timeline of its own
    assert sorted(row["system1"] for row in found["/plan/chunk"]) == list(range(6))
    assert sorted(row["control_step"] for row in found["/plan/chunk"]) == [0, 2, 4, 6, 8, 10]
    assert sorted(row["system2"] for row in found["/system2/refresh"]) == [0, 1, 2]
    for stream in ("spatial", "motion"):
        kept = found[f"/system2/{stream}/kept"]
        assert sorted((row["control_step"], row["system2"]) for row in kept) == [(0, 0), (4, 1), (8, 2)]


def test_a_demonstration_is_shown_without_a_film(saved_policy: Path, recorded: Path, tmp_path: Path):
    out = tmp_path / "demonstration.rrd"
    assert view(saved_policy, recorded, episode=1, out=out, rerun="file") == out
    found = rows(out)
    assert len(found["/camera/wrist"]) == 12
    assert len(found["/system2/motion/kept"]) == 3
    assert list(tmp_path.iterdir()) == [out]


def test_numbers_keep_their_names_and_values(tmp_path: Path):
    from video2act.interfaces import Decision
    from video2act.types import ActionChunk, Observation, Plan

    with RerunLog(tmp_path / "a.rrd", action_names=("left", "right")) as log:
        seen = Observation({}, np.array([0.25, 0.5], np.float32), "push", 3.0)
        action = np.array([1.0, -2.0])
        log.on_reset(seen)
        log.on_step(seen, Decision(action, Plan(ActionChunk(action[None], 3.0, 0.1), None), True, False, False))
    found = rows(tmp_path / "a.rrd")
    assert any(row.get("SeriesLines:names") == ["left", "right"] for row in found["/action"])
    assert [row["Scalars:scalars"] for row in found["/action"] if row.get("Scalars:scalars")] == [[1.0, -2.0]]
    assert [row["Scalars:scalars"] for row in found["/state"]] == [[0.25, 0.5]]


def test_another_ending_and_streams_without_weights_are_errors(tmp_path: Path, small_config: PolicyConfig):
    with pytest.raises(ValueError, match=r"end in \.rrd, got film\.mp4"):
        RerunLog("film.mp4")
    assert small_config.system2 is not None
    with pytest.raises(ValueError, match="need explain and fps"):
        RerunLog(tmp_path / "a.rrd", streams=small_config.system2.streams)
    assert not list(tmp_path.iterdir())


def test_rerun_that_is_missing_is_an_error_before_any_work(
    saved_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import sys

    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"pip install 'video2act(-runtime)?\[view\]'"):
        evaluate(saved_policy, "report_world:make", episodes=1, rerun="file", out=tmp_path / "e")
    assert not (tmp_path / "e").exists()
