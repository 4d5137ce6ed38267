"""What a person presses while a robot runs: a source that is asked at every control step and never waits.

A test, or a program without a terminal, uses `QueuedKeys`. Names: a letter is itself; `space`, `enter`, `backspace`,
`tab`, `escape`.
"""

import os
import re
import select
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

NAMES = {
    "\n": "enter",
    "\r": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\t": "tab",
    "\x1b": "escape",
    " ": "space",
}
SEQUENCE = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]")
"""what an arrow or a function key sends: none of ours, and not `escape`"""


@runtime_checkable
class Keys(Protocol):
    """A source of keys."""

    def poll(self) -> list[str]:
        """The keys that were pressed since the last call, oldest first."""
        ...


class QueuedKeys:
    """Keys from a program: one list for each call of `poll`, then none. `press` adds keys for the next call."""

    def __init__(self, per_poll: Iterable[list[str]] = ()):
        self._per_poll = iter(per_poll)
        self._pressed: deque[str] = deque()

    def press(self, *keys: str) -> None:
        self._pressed.extend(keys)

    def poll(self) -> list[str]:
        pressed = [self._pressed.popleft() for _ in range(len(self._pressed))]
        return [*next(self._per_poll, []), *pressed]


class TerminalKeys:
    """The keys of a terminal, one by one and without echo, until the end of the `with`. Without a terminal: none."""

    def __init__(self, file: Any = None):
        self._file = sys.stdin if file is None else file
        self.is_terminal = self._file.isatty()
        self._before: Any = None

    def __enter__(self) -> "TerminalKeys":
        if self.is_terminal:
            import termios
            import tty

            self._before = termios.tcgetattr(self._file)
            tty.setcbreak(self._file)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def poll(self) -> list[str]:
        text, descriptor = "", self._file.fileno() if self.is_terminal else -1
        while self.is_terminal and select.select([descriptor], [], [], 0)[0]:
            read = os.read(descriptor, 64)
            if not read:
                break
            text += read.decode("utf-8", "ignore")
        return [NAMES.get(letter, letter) for letter in SEQUENCE.sub("", text)]
