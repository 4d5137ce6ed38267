"""A file appears whole or not at all, whoever else writes it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from video2act.config import TuningConfig
from video2act.data.cache import FeatureCache
from video2act.files.atomic import ABANDONED_S, remove_unfinished, replacing, write_bytes
from video2act.system2.backbones.adapter import save_adapter
from video2act.text.cache import TextEmbeddings
from video2act.types import Video


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


def test_what_killed_writers_left_is_removed_by_the_holder_of_the_lock_and_nothing_else(tmp_path: Path):
    for name in (".info.json.7-0123abcd.tmp", ".info.json.notes.tmp", "info.json"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {".info.json.notes.tmp", "info.json"}


class _Encoder:
    fingerprint = "abc"

    def __call__(self, instruction: str) -> dict[str, torch.Tensor]:
        return {"tokens": torch.zeros(3, 4)}

    def let_go(self) -> None: ...


WRITERS: dict[str, Callable[[Path], object]] = {
    "video2act.data.cache": lambda folder: FeatureCache(folder).write(
        0, {"motion": Video(torch.zeros(2, 3, 1, 2, 2), 5.0)}
    ),
    "video2act.text.cache": lambda folder: TextEmbeddings(folder, _Encoder(), width=4, missing="")("push"),
    "video2act.files.weights": lambda folder: save_adapter(
        folder, {"layer.lora_A.weight": torch.zeros(2, 2)}, tuning=TuningConfig("lora")
    ),
}


@pytest.mark.parametrize("module", WRITERS)
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: full (os error 28)")],
    ids=["of the system", "of safetensors"],
)
def test_a_full_disk_leaves_no_part_of_a_file_and_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, error: Exception
):
    """The caches of features and of sentences, and the adapter, wrote their files each in a way of its own; two left
    half a file for ever, and none named the file or what to do."""

    def full(tensors: Any, path: Path, metadata: Any = None) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(f"{module}.save_file", full)
    with pytest.raises(OSError, match=r"the disk is full; .*\.safetensors does not fit: free some space and run it"):
        WRITERS[module](tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name != "adapter_config.json"]
