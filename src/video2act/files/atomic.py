"""Files that appear whole or not at all: written beside, flushed to the disk, then renamed into place.

A rename is atomic only within one file system, so the temporary file lies next to its destination. Its name is of one
writer: two that write the same file at once do not mix, and the last one to finish stays. The user's umask decides who
may read a file, also if a library wrote it with fewer rights.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from threading import Lock
from time import time

TEMPORARY = re.compile(r"\.(.+)\.\d+-[0-9a-f]{8}\.tmp")
"""name of a temporary file: that of the file, process and token of its writer"""
ABANDONED_S = 3600
"""since the last write to a temporary file, after which it counts as left by a writer that was killed"""
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "a file may not be that large (ulimit -f, or the file system)",
}
"""no space left, for anybody or for this user"""

_umask_lock = Lock()


def publish(temporary: Path, final: Path) -> None:
    """Make a finished file (or folder) visible under its name, durably."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if temporary.is_file():
        temporary.chmod(0o666 & ~_umask())
    flush(temporary)
    os.replace(temporary, final)
    # the name itself lives in the folder: without this a power cut may forget the rename
    flush(final.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write, which takes the place of `path` at the end; a reader sees the old content or the new,
    never a mixture. After an error nothing of it is left; what a killed writer left is removed by a later one. Raises
    OSError as `disk_full_says`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{token_hex(4)}.tmp")
    try:
        with disk_full_says(f"{path} does not fit: free some space and run it again"):
            yield temporary
            publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    for name in os.listdir(path.parent):
        if (found := TEMPORARY.fullmatch(name)) and found[1] == path.name:
            left = path.with_name(name)
            with suppress(FileNotFoundError):  # finished or removed meanwhile
                if time() - left.lstat().st_mtime > ABANDONED_S:
                    left.unlink()


def remove_unfinished(files: Iterable[Path]) -> None:
    """Remove those of some files that killed writers left. Only for the holder of their folder's lock, before it lets
    others write: what another one writes would go too."""
    for left in files:
        if TEMPORARY.fullmatch(left.name):
            left.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path`, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, for a text."""
    write_bytes(path, text.encode())


@contextmanager
def disk_full_says(message: str) -> Iterator[None]:
    """Explain the system's error.

    Args:
        message: what did not fit, what is kept and what to do.
    Raises:
        OSError: the disk is full, the quota used up, or the file larger than allowed.
    """
    try:
        yield
    except Exception as error:
        # safetensors has an error of its own for it, with the system's number in its text
        found = [
            number for number in FULL if getattr(error, "errno", None) == number or f"os error {number})" in str(error)
        ]
        if not found:
            raise
        raise OSError(found[0], f"{FULL[found[0]]}; {message}") from error


def _umask() -> int:
    """Python can only ask for it by setting it."""
    with _umask_lock:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
