"""An interrupted evaluation keeps its finished episodes, and goes on when it is run again."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluate import FakeRun, changed, fake_environment, fake_expert, out_of

from video2act.config import EvaluateOptions, RuntimeConfig
from video2act.evaluation import episodes, kept
from video2act.evaluation.episodes import Evaluation
from video2act.files.lock import FolderLock, InUseError
from video2act.programs import evaluate as program
from video2act.programs.evaluate import EvaluationSummary, run_evaluation
from video2act.viz import recorder


class Interrupted:
    """Ends an evaluation after some episodes, and counts those that were played."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.played: list[int] = []
        self.after = 1000
        play = episodes.play_policy

        def counted(running: Evaluation, environment: Any, **options: Any) -> Any:
            if len(self.played) == self.after:
                raise KeyboardInterrupt
            self.played.append(running.seeds[options["number"]])
            return play(running, environment, **options)

        monkeypatch.setattr(episodes, "play_policy", counted)


@pytest.fixture
def small(tmp_path: Path) -> Evaluation:
    options = EvaluateOptions(episodes=8, refresh_every=4, workers=1, num_videos=0, out=tmp_path / "out")
    return Evaluation(FakeRun(tmp_path / "run"), ("fake:a",), options, fake_environment, fake_expert)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    return Interrupted(monkeypatch)


def untimed(summary: EvaluationSummary) -> Any:
    """All of a result that is not a measured duration or a moment."""
    info = json.loads(json.dumps(summary.info))
    for name in ("latency_s", "time", "versions", "settings", "overall"):
        del info[name]
    for name in ("control_period_s", "jitter_s"):
        del info["runtime"][name]
    for incident in info["runtime"]["incidents"]:
        del incident["time"]
    records = [replace(record, duration_s=0.0) for record in summary.records]
    return info, records


def stop_after(small: Evaluation, interrupted: Interrupted, number: int) -> None:
    interrupted.after = number
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(small)
    interrupted.after = 1000


def test_an_evaluation_that_ends_in_its_first_film_leaves_no_empty_folders(
    small: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> Iterator[np.ndarray]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(recorder, "film", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(changed(small, num_videos=1))
    assert not (tmp_path / "out").exists()


def test_finished_episodes_are_not_played_again(small: Evaluation, interrupted: Interrupted, tmp_path: Path):
    limited = changed(small, env=("fake:a", "fake:b"), num_videos=1, runtime=RuntimeConfig(limits="data+5%"))
    whole = run_evaluation(changed(limited, out=tmp_path / "whole"))
    assert whole.info["runtime"]["incidents"]
    interrupted.played.clear()
    stop_after(limited, interrupted, 11)
    assert not (out_of(limited) / "eval_info.json").exists()
    done: list[bool] = []
    resumed = run_evaluation(limited, done.append)
    assert len(done) == 16
    assert interrupted.played == [*range(1000, 1008), *range(1000, 1008)]  # each once
    assert untimed(resumed) == untimed(whole)
    assert resumed.info["latency_s"]["system1"]["n"] == whole.info["latency_s"]["system1"]["n"]
    rows = [
        (out_of(limited) / "steps.csv").read_text().splitlines(),
        (tmp_path / "whole" / "steps.csv").read_text().splitlines(),
    ]
    assert len(rows[0]) == len(rows[1])
    assert not (out_of(limited) / "episodes").exists()


def test_what_does_not_change_an_episode_may_change(small: Evaluation, interrupted: Interrupted):
    stop_after(small, interrupted, 3)
    resumed = run_evaluation(changed(small, env=("fake:a", "fake:b"), episodes=5, seed=1001))
    assert [record.seed for record in resumed.records] == [*range(1001, 1006)] * 2
    assert interrupted.played == [1000, 1001, 1002, 1003, 1004, 1005, *range(1001, 1006)]


@pytest.mark.parametrize("options", [{"blind": True}, {"refresh_every": 2}, {"instruction": "other"}], ids=str)
def test_episodes_of_another_evaluation_are_refused(
    small: Evaluation,
    interrupted: Interrupted,
    options: dict[str, Any],
):
    stop_after(small, interrupted, 3)
    (name,) = options
    with pytest.raises(
        ValueError, match=rf"episodes holds finished episodes of another evaluation \({name}: .* then, .* now"
    ):
        run_evaluation(changed(small, **options))
    run_evaluation(small)


def test_episodes_of_other_weights_are_refused(small: Evaluation, interrupted: Interrupted):
    stop_after(small, interrupted, 3)
    assert isinstance(small.source, FakeRun)
    small.source.path.mkdir()
    (small.source.path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"another evaluation \(policy: \w+ then, \w+ now\)"):
        run_evaluation(small)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff"], ids=repr)
def test_a_damaged_episode_is_played_again(small: Evaluation, interrupted: Interrupted, damage: bytes):
    stop_after(small, interrupted, 3)
    (out_of(small) / "episodes/fake+a/1001.json").write_bytes(damage)
    interrupted.played.clear()
    run_evaluation(small)
    assert interrupted.played == [1001, 1003, 1004, 1005, 1006, 1007]


@pytest.mark.parametrize("damage", ["{", "[]", '{"versions": 3}'])
def test_damaged_settings_are_refused_by_name(small: Evaluation, interrupted: Interrupted, damage: str):
    stop_after(small, interrupted, 3)
    (out_of(small) / "episodes" / "settings.json").write_text(damage)
    with pytest.raises(ValueError, match=r"settings.json is damaged .*remove .*episodes to evaluate from the start"):
        run_evaluation(small)


def test_two_evaluations_in_one_folder(small: Evaluation):
    with (
        FolderLock(out_of(small), "an evaluation"),
        pytest.raises(InUseError, match=rf"out is being written by an evaluation \(process {os.getpid()} on"),
    ):
        run_evaluation(small)


def test_without_out_the_same_command_finds_its_unfinished_folder(
    small: Evaluation,
    interrupted: Interrupted,
):
    small = changed(small, out=None)
    first = program._folder(small)
    stop_after(changed(small, out=first), interrupted, 2)
    assert program._folder(small) == first
    assert program._folder(changed(small, episodes=9)) == first
    assert program._folder(changed(small, blind=True)) != first
    with FolderLock(first, "an evaluation"):
        assert program._folder(small) != first


def test_an_evaluation_that_is_older_than_a_setting_goes_on(
    small: Evaluation, interrupted: Interrupted, tmp_path: Path
):
    """It was begun anew: image_size: nothing then, None now."""
    stop_after(small, interrupted, 3)
    path = tmp_path / "out/episodes/settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("image_size") is None
    path.write_text(json.dumps(settings))
    run_evaluation(small)
    assert len(interrupted.played) == 8


def test_an_evaluation_does_not_go_on_with_another_simulator(
    small: Evaluation, interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
):
    """Half of the episodes were of one version, half of another, and the result named the second alone."""
    found = {"mujoco": "3.3.0", "torch": "2.6", "av": None, "MUJOCO_GL": "egl"}
    monkeypatch.setattr(kept, "versions", lambda: dict(found))
    stop_after(small, interrupted, 3)
    told = r"began with other packages \(versions\.mujoco: 3\.3\.0 then, 9\.9 now\); go on with the same ones, choose"
    found["mujoco"] = "9.9"
    with pytest.raises(ValueError, match=told):
        run_evaluation(small)
    found |= {"mujoco": "3.3.0", "MUJOCO_GL": "osmesa"}
    with pytest.raises(ValueError, match=r"versions\.MUJOCO_GL: egl then, osmesa now"):
        run_evaluation(small)
    found |= {"MUJOCO_GL": "egl", "av": "14"}  # it was not there, so no episode depends on it
    run_evaluation(small)
    assert len(interrupted.played) == 8


def test_an_evaluation_that_kept_no_versions_goes_on(
    small: Evaluation, interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
):
    """It was begun by an older version of this package."""
    stop_after(small, interrupted, 3)
    path = out_of(small) / "episodes/settings.json"
    settings = json.loads(path.read_text())
    assert settings.pop("versions")["torch"]
    path.write_text(json.dumps(settings))
    monkeypatch.setattr(kept, "versions", lambda: {"torch": "9.9"})
    run_evaluation(small)
    assert len(interrupted.played) == 8


def test_going_on_with_another_first_seed_writes_over_no_film(
    small: Evaluation, interrupted: Interrupted, tmp_path: Path
):
    """Films were named by the number of the episode: that of seed 1001 was written over by the one of seed 1002."""
    filmed = changed(small, num_videos=2)
    stop_after(filmed, interrupted, 2)
    before = {path: path.read_bytes() for path in (tmp_path / "out/videos").rglob("*.mp4")}
    assert len(before) == 2
    resumed = run_evaluation(changed(filmed, seed=1001))
    assert all(path.read_bytes() == film for path, film in before.items())
    films = [record.film for record in resumed.records[:2]]
    assert films == ["videos/fake+a/seed_1001.mp4", "videos/fake+a/seed_1002.mp4"]


def test_environments_share_no_file(small: Evaluation, interrupted: Interrupted):
    """Kept episodes of `my_sim:push` and `my:sim_push` were one file, and so were their films: one was lost."""
    names = ("my_sim:push", "my:sim_push", "my/sim_push")
    several = changed(small, env=names, episodes=2, num_videos=2)
    stop_after(several, interrupted, 5)
    resumed = run_evaluation(several)
    assert interrupted.played == [1000, 1001] * 3, "each once"
    assert [record.env for record in resumed.records] == [name for name in names for _ in range(2)]
    films = {record.film for record in resumed.records}
    assert len(films) == 6
    assert all((out_of(several) / film).is_file() for film in films if film)
