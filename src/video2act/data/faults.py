"""What the checks of a dataset share: its tables, and a list of faults in which one fault does not hide the next."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_format import DatasetInfo
from video2act.data.lerobot_tables import EpisodeEntry

UNREADABLE = (TypeError, ValueError, LookupError, AttributeError, OverflowError, pa.ArrowException, OSError)
"""exceptions that corrupt data can cause"""


@dataclass(frozen=True)
class Recorded:
    """A dataset's `meta` folder, as far as it could be read."""

    root: Path
    info: DatasetInfo
    entries: tuple[EpisodeEntry, ...]
    tasks: dict[int, str]


def faults(path: Path, find: Callable[[], Iterable[str]]) -> list[str]:
    """All faults found in a file up to where it cannot be read, and why it cannot."""
    lines: list[str] = []
    try:
        for line in find():
            lines.append(line)
    except (DatasetError, FileNotFoundError) as error:
        lines.append(str(error))
    except UNREADABLE as error:
        lines.append(f"{path} holds what cannot be read ({type(error).__name__}: {error}); copy it again")
    return lines
