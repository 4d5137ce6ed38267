"""Checkpoints on disk: which are kept, what is damaged, and what a full disk leaves."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from test_training_loop import fit, killed_at, metrics
from torch import Tensor

from video2act.training import checkpoints
from video2act.training.checkpoints import FACTS_FILE

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a training that was never stopped."""
    return fit(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A training that was killed at step 7, with checkpoints of steps 3 and 6."""
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", inputs=killed_at(7))
    return tmp_path / "run"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGE = {
    "cut": lambda folder: cut(folder / "rank_0.safetensors"),
    "one bit": lambda folder: turn_a_bit(folder / "rank_0.safetensors"),
    "empty": lambda folder: (folder / "rank_0.safetensors").write_bytes(b""),
    "no tensors": lambda folder: (folder / "rank_0.safetensors").unlink(),
    "no facts": lambda folder: (folder / FACTS_FILE).unlink(),
    "facts cut": lambda folder: cut(folder / FACTS_FILE),
    "facts of a list": lambda folder: (folder / FACTS_FILE).write_text("[]"),
    "facts of another step": lambda folder: change(folder / FACTS_FILE, step=5),
    "facts of a step that is no whole number": lambda folder: change(folder / FACTS_FILE, step=6.0),
    "facts without files": lambda folder: change(folder / FACTS_FILE, files={}),
    "an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_one_falls_back_to_the_one_before(
    killed: Path, whole: dict[str, Tensor], damage: str, capsys: pytest.CaptureFixture[str]
):
    DAMAGE[damage](killed / "checkpoints" / "000006")
    resumed = fit(killed, resume=True)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if " is damaged (" in line)
    assert f"{killed / 'checkpoints' / '000006'} is damaged (" in line
    assert line.endswith(f"; going on from {killed / 'checkpoints' / '000003'}")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    assert [line["step"] for line in metrics(killed)] == list(range(10))


def test_after_falling_back_the_good_one_is_kept_until_another_is_good(killed: Path):
    DAMAGE["cut"](killed / "checkpoints" / "000006")
    with pytest.raises(KeyboardInterrupt):
        fit(killed, resume=True, inputs=killed_at(6))
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["000003", "000006"]
    DAMAGE["cut"](killed / "checkpoints" / "000006")
    fit(killed, resume=True)


def test_all_damaged_is_refused_and_nothing_is_lost(killed: Path):
    for step in ("000003", "000006"):
        DAMAGE["one bit"](killed / "checkpoints" / step)
    before = (killed / "metrics.jsonl").read_bytes()
    with pytest.raises(
        ValueError, match=r"000006 is damaged .*000003 is damaged .*Restore one, or remove .*checkpoints"
    ):
        fit(killed, resume=True)
    assert (killed / "metrics.jsonl").read_bytes() == before


def test_a_step_beyond_the_end_is_refused_by_name(killed: Path):
    change(killed / "checkpoints" / "000006" / FACTS_FILE, step=11)
    with pytest.raises(
        ValueError, match=r"000006/checkpoint.json is of step 11, but the training ends at num_steps=10"
    ):
        fit(killed, resume=True)
    shutil.move(killed / "checkpoints" / "000006", killed / "checkpoints" / "000011")
    with pytest.raises(ValueError, match=r"000011/checkpoint.json is of step 11"):
        fit(killed, resume=True)


def test_another_number_of_processes_is_refused(killed: Path):
    change(killed / "checkpoints" / "000006" / FACTS_FILE, num_processes=2)
    with pytest.raises(ValueError, match=r"000006 was written by 2 processes, this run has 1; resume with the same"):
        fit(killed, resume=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000], ids=lambda content: repr(content[:5]))
@pytest.mark.parametrize("resume", [True, False])
def test_a_damaged_training_json_is_refused_by_name(killed: Path, content: bytes, resume: bool):
    (killed / "training.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run/training.json is damaged \(.*\); restore it, or remove"):
        fit(killed, resume=resume)
    assert (killed / "training.json").read_bytes() == content


def test_a_missing_training_json_is_refused_by_name(killed: Path):
    (killed / "training.json").unlink()
    with pytest.raises(ValueError, match=r"run/training.json is missing; restore it"):
        fit(killed, resume=True)
    with pytest.raises(FileExistsError, match="already holds a training"):
        fit(killed)


@pytest.mark.parametrize(
    ("line", "content"), [(2, b"{"), (5, b'{"step": 4}'), (0, b"\xff"), (3, b"[]"), (1, b'"step"'), (4, None)]
)
def test_a_damaged_metrics_file_is_refused_by_name(killed: Path, line: int, content: bytes | None):
    path = killed / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines[:line] if content is None else [*lines[:line], content, *lines[line + 1 :]]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"metrics.jsonl: line {line + 1} is not the record of step {line}, although"):
        fit(killed, resume=True)
    assert path.read_bytes() == before


def test_a_cut_line_behind_the_checkpoint_is_no_damage(killed: Path, whole: dict[str, Tensor]):
    cut(killed / "metrics.jsonl")
    resumed = fit(killed, resume=True)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("full", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota of this disk is used up"),
        (OSError(errno.EFBIG, "File too large"), r"a file may not be that large \(ulimit -f"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (SafetensorError("I/O error: File too large (os error 27)"), "a file may not be that large"),
    ],
    ids=["disk", "quota", "limit", "safetensors", "safetensors' limit"],
)
def test_a_full_disk_says_so_and_keeps_the_older_checkpoint(
    tmp_path: Path, whole: dict[str, Tensor], full: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
):
    write = checkpoints.write_tensors

    def fails(path: Path, tensors: dict[str, Tensor]) -> None:
        if path.parent.name.startswith("000006"):
            path.write_bytes(b"half")
            raise full
        write(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_tensors", fails)
        message = f"{reason}.*; the checkpoint of step 6 does not fit into .*checkpoints; that of step 3 is kept: free"
        with pytest.raises(OSError, match=message):
            fit(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["000003"]
    resumed = fit(tmp_path / "run", resume=True)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_checkpoint_is_on_the_disk_before_an_older_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    fsync, rename, remove = os.fsync, os.replace, shutil.rmtree

    def named(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(f"flush {named(fd)}"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(f"rename {Path(b).name}"), rename(a, b)))
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, *a, **k: (events.append(f"remove {path.name}"), remove(path, *a, **k))
    )
    fit(tmp_path / "run")
    order = [
        *("rename 000006", "flush metrics.jsonl", "flush rank_0.safetensors", "rename checkpoint.json"),
        *("flush 000009.tmp", "rename 000009", "flush checkpoints", "remove 000003"),
    ]
    places = [events.index(order[0])]
    for event in order[1:]:
        places.append(events.index(event, places[-1]))
    assert places == sorted(places)


def test_a_checkpoint_holds_tensors_and_json_only(killed: Path):
    names = sorted(path.name for path in (killed / "checkpoints").rglob("*") if path.is_file())
    assert names == [FACTS_FILE] * 2 + ["rank_0.safetensors"] * 2


def test_folders_that_are_no_checkpoints_are_kept(killed: Path, tmp_path: Path):
    """`checkpoints` may be a link to a folder of other things, some of which have a number for a name."""
    (killed / "checkpoints").rename(tmp_path / "disk")
    (killed / "checkpoints").symlink_to(tmp_path / "disk")
    for name in ("000001", "000004.tmp"):
        (tmp_path / "disk" / name).mkdir()
        (tmp_path / "disk" / name / "photo.jpg").touch()
    fit(killed, resume=True)
    kept = sorted(str(path.relative_to(tmp_path / "disk")) for path in (tmp_path / "disk").glob("*/photo.jpg"))
    assert kept == ["000001/photo.jpg", "000004.tmp/photo.jpg"]


@pytest.mark.parametrize("name", ["000009", "000009.tmp"])
@pytest.mark.parametrize("is_link", [True, False])
def test_what_lies_in_the_way_of_a_checkpoint_is_replaced(killed: Path, tmp_path: Path, name: str, is_link: bool):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    path = killed / "checkpoints" / name
    path.symlink_to(tmp_path / "mine") if is_link else path.touch()
    fit(killed, resume=True)
    assert (tmp_path / "mine" / "photo.jpg").is_file()
