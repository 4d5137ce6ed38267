"""A list of what is wrong with files, to which what could not even be read is added, so that one fault does not hide the next."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from video2act.data.lerobot_format import DatasetError

T = TypeVar("T")

UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, OverflowError, pa.ArrowException, OSError)
"""what decoding raises over contents that nobody thought of"""


class Faults:
    """Lines, each of which names its file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def of(self, path: Path, read: Callable[[], T]) -> T | None:
        """What is read, or None and a line."""
        try:
            return read()
        except UNREADABLE as error:
            self.lines.append(_line(path, error))
            return None

    def add(self, path: Path, found: Iterator[str]) -> None:
        """All that is found in a file, as far as it can be read."""
        try:
            for line in found:
                self.lines.append(line)
        except UNREADABLE as error:
            self.lines.append(_line(path, error))

    @classmethod
    def met(cls, path: Path, look: Callable[[], Iterator[str]]) -> list[str]:
        """As `add`, by itself."""
        faults = cls()
        faults.add(path, look())
        return faults.lines


def _line(path: Path, error: Exception) -> str:
    if isinstance(error, (DatasetError, FileNotFoundError)):
        return str(error)  # which says it all
    return f"{path} holds what cannot be read ({type(error).__name__}: {error}); copy it again"
