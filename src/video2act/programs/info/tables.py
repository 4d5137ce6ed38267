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
    # what others have named is shown as it is, and writes nothing else on the screen
    console = Console(width=WIDTH, color_system=None, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part, "", sep="\n", soft_wrap=isinstance(part, str))
    shown = "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in capture.get()
    )
    return "\n".join(line.rstrip() for line in shown.splitlines()).rstrip() + "\n"
