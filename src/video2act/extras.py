"""Optional dependencies: one place says how to install the extra that brings a missing one."""

from collections.abc import Iterator
from contextlib import contextmanager


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
        raise ImportError(
            f"{purpose} needs {(error.name or name).partition('.')[0]} ({error}): pip install 'video2act[{name}]'"
        ) from error
