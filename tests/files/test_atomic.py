"""A file appears whole or not at all, whoever else writes it."""

import os
from pathlib import Path

import pytest

from video2act.files.atomic import ABANDONED_S, replacing, write_bytes


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path):
    """They shared a temporary file: the first one published what the second had half written."""
    path = tmp_path / "info.json"
    with replacing(path) as second, second.open("wb") as half:
        half.write(b"BBB")
        half.flush()
        write_bytes(path, b"AAAAAA")
        assert path.read_bytes() == b"AAAAAA"
        half.write(b"BBB")
    assert path.read_bytes() == b"BBBBBB"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "info.json"
    write_bytes(path, b"old")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path):
    names = {
        "left": ".info.json.7-0123abcd.tmp",
        "being written": ".info.json.8-0123abcd.tmp",
        "another file's": ".stats.json.7-0123abcd.tmp",
        "no writer's": ".info.json.notes.tmp",
    }
    for what, name in names.items():
        (tmp_path / name).write_text(what)
        age_s = 0 if what == "being written" else ABANDONED_S + 10
        written = tmp_path.stat().st_mtime - age_s
        os.utime(tmp_path / name, (written, written))
    write_bytes(tmp_path / "info.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"info.json", *names.values()} - {names["left"]}
