"""Names and paths near one that is missing, for errors."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path


def meant(name: str, choices: Iterable[str], *, n: int = 1, form: Callable[[str], str] = str) -> str:
    """`did you mean a or b? `: the nearest of the choices, at most `n`; empty if none is near."""
    close = get_close_matches(name, list(choices), n=n)
    return f"did you mean {' or '.join(map(form, close))}? " if close else ""


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
