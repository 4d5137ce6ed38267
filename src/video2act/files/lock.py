"""One program at a time in a folder: a lock that the system frees when its holder ends, however that ends."""

import fcntl
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from weakref import WeakSet

LOCK_FILE = ".lock"


class InUseError(OSError):
    """Another program works in the folder; the message names it."""


class FolderLock:
    """The right to write a folder, until `release` or the end of this process.

    The lock is advisory (`flock`). Its file names the holder and is removed by `release`; a file that a killed holder
    left behind locks nothing.

    Args:
        folder: made if it does not exist.
        what: the holder's work, for the error that others get: `a training`.
        file: the lock's file, below `folder`.
        wait: wait for the other program to end, and print that, instead of raising.
    Raises:
        InUseError: another program holds the lock.
    """

    def __init__(self, folder: Path, what: str, *, file: str = LOCK_FILE, wait: bool = False):
        self.path = folder / file
        self._file: TextIO | None = None
        self.is_safe = True
        """False where a file system has no locks: another program may write, too"""
        is_announced = False
        while self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            opened = _opened(self.path)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _holder(opened)
                opened.close()
                if not wait:
                    remedy = "wait for it to end, or choose another folder"
                    raise InUseError(f"{folder} is being written by {holder}; {remedy}") from error
                if not is_announced:
                    print(f"{folder} is being written by {holder}; waiting for it to end", flush=True)
                    is_announced = True
                time.sleep(0.2)
                continue
            except OSError as error:  # some network file systems have no locks
                print(f"{folder} cannot be locked ({error}); let no other program write it", file=sys.stderr)
                self.is_safe = False
            # a holder that ended meanwhile has removed the file that was locked here
            if _is_at(opened, self.path):
                self._file = opened
            else:
                opened.close()
        self._file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        json.dump({"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": since}, self._file)
        self._file.flush()
        _held.add(self)

    def release(self) -> None:
        """Let others write. A second call does nothing."""
        if self._file is not None and _is_at(self._file, self.path):
            with suppress(OSError):
                self.path.unlink()
        self._forget()

    def _forget(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _opened(path: Path) -> TextIO:
    """The lock's file, made if there is none. Raises OSError where it is a link or no file: another's file, which a
    folder from a stranger may name, would be emptied."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise FileExistsError(f"{path} should be the file of a lock and is a link, a folder or a device; remove it")
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")


def _holder(opened: TextIO) -> str:
    """The holder that a lock's file names."""
    try:
        opened.seek(0)
        facts = json.loads(opened.read(4096))
        return f"{facts['what']} (process {facts['pid']} on {facts['host']}, since {facts['since']})"
    except (ValueError, LookupError, TypeError):
        return "another process"


def _is_at(opened: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except FileNotFoundError:
        return False


_held: "WeakSet[FolderLock]" = WeakSet()


def _forget_in_child() -> None:
    for lock in list(_held):
        lock._forget()


# a forked worker (a DataLoader's) would keep the lock of a program that was killed
os.register_at_fork(after_in_child=_forget_in_child)
