"""A path that is mistyped is answered with what exists under the nearest name, wherever one is wanted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from video2act import cli
from video2act.config import load
from video2act.config.nearby import nearby
from video2act.config.policy import PolicyConfig
from video2act.data import open_dataset
from video2act.files.evaluation_folder import read_evaluation
from video2act.files.fetched import named_repo
from video2act.files.run_folder import load_config
from video2act.files.video_model import load_video_config
from video2act.policy import Video2Act
from video2act.programs.info import describe
from video2act.programs.report import report


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data/push", "runs/push", "runs/video", "runs/push2/eval"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_nearest_names_that_exist():
    assert nearby("runs/psh") == " (did you mean runs/push or runs/push2?)"
    assert nearby("rusn/video") == " (did you mean runs/video?)"
    assert nearby("runs/push2/evl") == " (did you mean runs/push2/eval?)"
    assert nearby("rusn/video2") == nearby("some/model") == nearby("runs/push") == nearby("") == ""


@pytest.mark.parametrize(
    ("read", "path", "near"),
    [
        (load_config, "runs/psh", "runs/push"),
        (load_video_config, "runs/vidoe", "runs/video"),
        (read_evaluation, "runs/psh", "runs/push"),
        (report, "runs/psh", "runs/push"),
        (lambda path: load(PolicyConfig, path), "cofnig.json", "config.json"),
        (lambda path: open_dataset(str(path)), "data/psh", "data/push"),
        (lambda path: open_dataset(f"./{path}"), "data/psh", "data/push"),
        (lambda path: Video2Act.from_pretrained(str(path)), "runs/psh", "runs/push"),
        (describe, "runs/psh", "runs/push"),
    ],
)
def test_a_mistyped_path_is_answered_with_the_nearest(read: Callable[[Path], object], path: str, near: str):
    """It was looked for on the Hugging Face Hub, or said not to exist; the page of errors promised the nearest one."""
    with pytest.raises(FileNotFoundError, match=rf"{path}.* \(did you mean {near}.*\?\)"):
        read(Path(path))


@pytest.mark.parametrize("words", ["info ./data/psh", "train --preset tiny --out new --data=./data/psh"])
def test_a_path_that_begins_with_a_dot_is_never_a_repo(words: str, monkeypatch: pytest.MonkeyPatch):
    """The command line's `Path` left `./` out, and a stranger's repo of that name would have been fetched."""

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(FileNotFoundError, match=r"^\./data/psh does not exist \(did you mean data/push\?\); name"):
        cli.run(words.split())


def test_a_repo_whose_owner_is_also_a_folder_here_is_still_fetched():
    assert named_repo("data/psh") == "data/psh"
