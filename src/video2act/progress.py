"""Progress of long work: a bar in a terminal; elsewhere, such as in a log, a line at each fifth of the work."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

NUM_LINES = 5
"""in a log"""


class Bar:
    """How much of some work is done.

    Args:
        title: what is done.
        total: parts of the work.
        unit: what a part is; for the lines of a log.
        done: parts that were done before.
        is_shown: False in all processes but one.
    """

    def __init__(self, title: str, total: int, *, unit: str, done: int = 0, is_shown: bool = True):
        is_bar = Console().is_terminal
        self._title, self._total, self._unit, self._done = title, total, unit, done
        self._is_line = is_shown and not is_bar
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[detail]}"), TimeRemainingColumn())
        self._progress = Progress(TextColumn("{task.description}"), *columns, disable=not (is_shown and is_bar))
        self._task = self._progress.add_task(title, total=total, completed=done, detail="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, done: int, detail: str = "") -> None:
        """Show that `done` parts of all are done; `detail`, such as a loss, stands behind them."""
        is_due = self._lines(done) > self._lines(self._done)
        self._done = done
        self._progress.update(self._task, completed=done, detail=detail)
        if self._is_line and is_due:
            print(f"{self._title}: {self._unit} {done} of {self._total}{detail and f', {detail}'}", flush=True)

    def _lines(self, done: int) -> int:
        return NUM_LINES * done // max(1, self._total)

    def advance(self) -> None:
        """Show that one part more is done."""
        self.update(self._done + 1)


def track(items: Sequence[Item], title: str, *, unit: str, is_shown: bool = True) -> Iterator[Item]:
    """The items, one after another, with a bar of how many were taken."""
    with Bar(title, len(items), unit=unit, is_shown=is_shown) as bar:
        for item in items:
            yield item
            bar.advance()
