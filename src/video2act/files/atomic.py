"""Files that appear whole or not at all: written beside, flushed to the disk, then renamed into place.

A rename is atomic only within one file system, so the temporary file lies next to its destination. Who may read a file
is what the user's umask says, also where a library wrote it that keeps its files to itself.
"""

import os
from pathlib import Path
from threading import Lock

_umask_lock = Lock()


def publish(temporary: Path, final: Path) -> None:
    """Make a finished file (or folder) visible under its name, durably."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if temporary.is_file():
        temporary.chmod(0o666 & ~_umask())
    _flush(temporary)
    os.replace(temporary, final)
    # the name itself lives in the folder: without this a power cut may forget the rename
    _flush(final.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path`; a reader sees the old content or the new, never a mixture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # it may be a link to another file
        temporary.write_bytes(data)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, for a text."""
    write_bytes(path, text.encode())


def _umask() -> int:
    """Python can only ask for it by setting it."""
    with _umask_lock:
        umask = os.umask(0o077)
        os.umask(umask)
    return umask


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
