"""What the documents promise exists: commands parse, links and files are there. Scripts: `test_notebooks.py`."""

import functools
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video2act import cli
from video2act.data import open_dataset
from video2act.envs import expand_suites, is_own, list_environments
from video2act.programs.demo import DEMOS
from video2act.viz.video_writer import write_video

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines(program: str) -> list[list[str]]:
    """Words of every line in a shell block of a document that starts with `program`."""
    blocks = (block.replace("\\\n", " ") for path in DOCUMENTS for block in code_blocks(path.read_text(), "sh"))
    lines = [line for block in blocks for line in block.splitlines()]
    return [words[1:] for line in lines if (words := shlex.split(line, comments=True)) and words[0] == program]


def make_commands() -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"^\t\$\(BIN\)/video2act (.+)$", MAKEFILE, re.MULTILINE)]


OF_A_PATCH = "prewitt"
"""an option that is there when a patch of CONTRIBUTING.md is applied: test_contributing.py parses that command"""
COMMANDS = [
    words
    for words in command_lines("video2act") + make_commands()
    if words != ["--version"] and OF_A_PATCH not in words
]


@pytest.fixture
def recorded_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The verbs keep their options but only note what they are called with."""
    calls: list[tuple[str, dict[str, Any]]] = []
    for name, verb in list(cli.VERBS.items()):
        note = functools.partial(lambda name, options: calls.append((name, vars(options))), name)
        monkeypatch.setitem(cli.VERBS, name, replace(verb, program=note))
    return calls


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_understood(
    words: list[str], recorded_calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["video2act", *words])
    cli.main()
    ((verb, options),) = recorded_calls
    assert verb in (words[0], " ".join(words[:2]))
    named = options.get("env", ())
    named = {name for name in expand_suites([named] if isinstance(named, str) else named) if not is_own(name)}
    assert named <= set(list_environments())
    assert options.get("name", "push") in DEMOS


def test_the_readme_shows_every_verb():
    shown = {words[0] for words in COMMANDS}
    assert shown == {verb.split()[0] for verb in cli.VERBS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_source_file_that_is_named_exists(path: Path):
    """`system2/filters.py` is a file of the package, of the tests or of the repository; `system2/` a folder."""
    places = (ROOT / "src" / "video2act", ROOT)
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", path.read_text()):
        assert any((place / name).exists() for place in places), f"{path.name} names `{name}`, which does not exist"


def test_parts_of_datasets_are_opened_as_the_data_page_shows(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    blocks = code_blocks((ROOT / "docs" / "data.md").read_text(), "python")
    (block,) = (block for block in blocks if "open_datasets(" in block)
    for name in ("push", "pull"):
        shutil.copytree(recorded, tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block.replace("range(50)", "range(3)").replace("range(10)", "range(2)"), names)
    assert [len(names[name]) for name in ("part", "both", "training", "validation")] == [3, 4, 2, 1]


def test_films_become_a_dataset_as_the_data_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A film of 15 frames per second becomes a dataset of 20: every moment shows the frame that is on the screen
    then."""
    (tmp_path / "films").mkdir()
    grey = np.repeat(np.arange(30, dtype=np.uint8) * 8, 64 * 64 * 3).reshape(30, 64, 64, 3)
    write_video(tmp_path / "films" / "one.mp4", grey, fps=15.0)
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks((ROOT / "docs" / "data.md").read_text(), "python")
    (block,) = (block for block in blocks if '"films"' in block)
    exec(block, {})
    dataset = open_dataset("data/films")
    assert (dataset.action_dim, dataset.state_dim, dataset.episode(0).length) == (None, 0, 39)
    shown = dataset.frames(0, "camera").mean(axis=(1, 2, 3))
    numbers = np.rint((shown + 2) / 8)  # two encodings darken it by up to 4 of 255
    assert numbers.tolist() == [3 * step // 4 for step in range(39)]
