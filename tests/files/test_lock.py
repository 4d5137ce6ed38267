"""One program at a time in a folder, whatever becomes of the one that holds it."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from video2act.files.lock import LOCK_FILE, FolderLock, InUseError

HOLDER = """
import sys, time
from pathlib import Path
from video2act.files.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "a training")
print("held", flush=True)
time.sleep(60)
"""


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path):
    with FolderLock(tmp_path / "run", "a training"):
        facts = json.loads((tmp_path / "run" / LOCK_FILE).read_text())
        message = (
            rf"run is being written by a training \(process {os.getpid()} on {socket.gethostname()}, "
            rf"since {facts['since'].replace('+', '[+]')}\); wait for it to end, or choose another folder"
        )
        with pytest.raises(InUseError, match=message):
            FolderLock(tmp_path / "run", "an evaluation")
    assert list((tmp_path / "run").iterdir()) == []
    FolderLock(tmp_path / "run", "an evaluation").release()


def test_a_killed_holder_holds_nothing(tmp_path: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InUseError, match=f"process {holder.pid} "):
        FolderLock(tmp_path, "a training")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (tmp_path / LOCK_FILE).is_file()
    FolderLock(tmp_path, "a training").release()


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path):
    """A DataLoader's worker lives on for seconds after its training was killed."""
    lock = FolderLock(tmp_path, "a training")
    (end, start), (ready, is_running) = os.pipe(), os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(start)
        os.write(is_running, b"1")
        os.read(end, 1)  # until the parent closes it
        os._exit(0)
    os.read(ready, 1)
    lock._forget()  # as a death does: without removing the file
    FolderLock(tmp_path, "a training").release()
    os.close(start)
    os.waitpid(worker, 0)


def test_a_damaged_lock_file_is_nobodys_name(tmp_path: Path):
    lock = FolderLock(tmp_path, "a training")
    (tmp_path / LOCK_FILE).write_bytes(b"\xff[")
    with pytest.raises(InUseError, match="is being written by another process; wait"):
        FolderLock(tmp_path, "a training")
    lock.release()


def test_whoever_waits_gets_it_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {holder.pid}"])
    with FolderLock(tmp_path, "a filling", wait=True):
        assert holder.wait() == -signal.SIGKILL
    assert f"{tmp_path} is being written by a training (process {holder.pid} on" in capsys.readouterr().out


def test_a_link_is_not_taken_for_a_lock(tmp_path: Path):
    """The file behind it would be emptied: a folder from a stranger can hold any link."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "run").mkdir()
    for name in ("mine.txt", "missing.txt"):
        (tmp_path / "run" / LOCK_FILE).symlink_to(tmp_path / name)
        with pytest.raises(FileExistsError, match="is a link, a folder or a device; remove it"):
            FolderLock(tmp_path / "run", "a training")
        (tmp_path / "run" / LOCK_FILE).unlink()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"
