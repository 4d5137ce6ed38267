"""Paths near one that is missing, for errors."""

from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path


def nearby(path: Path | str) -> str:
    """` (did you mean runs/push?)`: what exists under the nearest names, where a path is missing; empty if nothing
    does."""
    path, found = Path(path).expanduser(), list[str]()
    missing = next((part for part in reversed((path, *path.parents)) if not part.exists()), None)
    if missing is not None:
        with suppress(OSError):  # a folder that may not be read
            names = sorted(entry.name for entry in missing.parent.iterdir())
            near = (missing.parent / name for name in get_close_matches(missing.name, names, n=2))
            found = [str(each) for part in near if (each := part / path.relative_to(missing)).exists()]
    return f" (did you mean {' or '.join(found)}?)" if found else ""
