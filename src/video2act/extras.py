"""Optional dependencies: one place says how to install the extra that brings a missing one."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Import what an extra of this package brings.

    Args:
        name: of the extra, as in `pip install 'video2act[name]'`.
        purpose: what needs it, for the message.
    Raises:
        ImportError: it is not installed, or does not work; with the line that installs it.
    """
    try:
        yield
    except ImportError as error:
        needed = (error.name or name).partition(".")[0]
        raise ImportError(f"{purpose} needs {needed} ({error}): pip install '{distribution()}[{name}]'") from error


def distribution() -> str:
    """The one that brought this package: the whole of it, or what a robot needs."""
    try:
        version("video2act-runtime")
    except PackageNotFoundError:
        return "video2act"
    return "video2act-runtime"
