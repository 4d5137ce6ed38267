"""A source is a path or the id of a repo, wherever one is named."""

from pathlib import Path

import pytest

from video2act.files.fetched import named_repo


@pytest.mark.parametrize("path", ["run", "runs/one/two", "./run", "../run", "~/run", "/run", "~"])
def test_a_path_is_no_repo(path: str):
    assert named_repo(path) is None
    assert named_repo(Path(path)) is None


def test_what_exists_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert named_repo("runs/push") == named_repo(Path("runs/push")) == "runs/push"
    (tmp_path / "runs/push").mkdir(parents=True)
    assert named_repo("runs/push") is None


def test_the_oldest_repos_have_no_owner():
    assert named_repo("gpt2", has_owner=False) == "gpt2"
    assert named_repo("openai/gpt2", has_owner=False) == "openai/gpt2"
    assert named_repo(".gpt2", has_owner=False) is named_repo("a/b/c", has_owner=False) is None
