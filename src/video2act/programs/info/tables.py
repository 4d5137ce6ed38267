"""Tables as plain text."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

WIDTH = 128


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values side by side."""
    table = Table(show_header=False, box=None)
    for row in rows:
        table.add_row(*row)
    return table


def as_text(*parts: Table | str) -> str:
    """Tables and lines as plain text, an empty line between two."""
    console = Console(width=WIDTH, color_system=None)
    with console.capture() as capture:
        for part in parts:
            console.print(part, "", sep="\n", soft_wrap=isinstance(part, str))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).rstrip() + "\n"
