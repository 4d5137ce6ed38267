"""Scenes that look otherwise, from the recording to the report."""

from pathlib import Path

import numpy as np
import pytest

from trainings import train
from video2act.config import TrainConfig
from video2act.data import DatasetError, LeRobotDataset
from video2act.data.origin import ORIGIN_PATH
from video2act.evaluation import sight
from video2act.evaluation.results import Results
from video2act.files.run_folder import load_trained_datasets
from video2act.hub import model_card
from video2act.policy import Video2Act
from video2act.programs.collect import collect
from video2act.programs.evaluate import evaluate
from video2act.programs.info.dataset import describe_dataset

ENV = "metaworld:reach-v3"
HOW = {"episodes": 2, "image_size": 64, "cameras": ("topview",), "workers": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations in other colours, and the same as usual."""
    pytest.importorskip("metaworld")
    folder = tmp_path_factory.mktemp("shifted")
    collect(ENV, folder / "colours", visual_shift="colours", **HOW)
    collect(ENV, folder / "usual", **HOW)
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data / "run"
    train([data / "colours"], folder, preset="tiny_system1", config=TrainConfig(num_steps=1, batch_size=2))
    return folder


def test_the_pictures_differ_and_nothing_else(data: Path) -> None:
    usual, shifted = (LeRobotDataset(data / name) for name in ("usual", "colours"))
    np.testing.assert_array_equal(usual.episode(1).state, shifted.episode(1).state)
    np.testing.assert_array_equal(usual.episode(1).actions, shifted.episode(1).actions)
    first, second = (each.frames(1, "topview", numbers=[0])[0].astype(int) for each in (usual, shifted))
    assert np.abs(first - second).mean() > 5


def test_recordings_continue_only_with_the_same_shift(data: Path) -> None:
    with pytest.raises(DatasetError, match="visual_shift was 'colours', now None"):
        collect(ENV, data / "colours", **{**HOW, "episodes": 3})


def test_info_run_folder_and_card_name_the_shift_of_the_data(data: Path, run: Path) -> None:
    assert "visual shift" in describe_dataset(data / "colours")
    assert "visual shift" not in describe_dataset(data / "usual")
    assert [each.visual_shift for each in load_trained_datasets(run)] == ["colours"]
    policy = Video2Act.from_pretrained(run, device="cpu")
    card = model_card(policy.config, "it", num_parameters=1, source="it", run=run)
    assert "colours: recorded with --visual-shift colours." in card


def test_a_damaged_record_of_the_shift_is_named(data: Path, tmp_path: Path) -> None:
    collect(ENV, tmp_path / "set", **{**HOW, "episodes": 1})
    path = tmp_path / "set" / ORIGIN_PATH
    path.write_text(path.read_text().replace('"visual_shift": null', '"visual_shift": ["dark"]'))
    with pytest.raises(DatasetError, match=r"visual_shift is .*dark.*, known are colours, light"):
        describe_dataset(tmp_path / "set")


def test_the_policy_sees_the_shift_and_the_report_shows_what_it_saw(run: Path, tmp_path: Path) -> None:
    options = {"episodes": 1, "expert": False, "workers": 1, "num_videos": 0}
    policy = Video2Act.from_pretrained(run, device="cpu")
    seen = {}
    for name in (None, "light"):
        results = Results(evaluate(run, ENV, visual_shift=name, out=tmp_path / str(name), **options).path.parent)  # type: ignore[union-attr]
        episode, trace = results.episodes[0], results.traces[ENV, 1000]
        seen[name] = sight.see("it", episode, trace=trace, config=policy.config, settings=results.info["settings"])
        assert seen[name].replay.difference == 0
    assert results.name == "light (control: visual shift: light)"
    usual, shifted = (each.recording.frames["topview"][0].astype(int) for each in seen.values())
    assert np.abs(usual - shifted).mean() > 5
    assert not np.array_equal(seen[None].trace.actions[0], seen["light"].trace.actions[0])  # it looked, too
