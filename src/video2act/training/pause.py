"""Stopping a training from outside: a signal asks, the step is finished and saved, and the same command goes on.

Imports no torch: the command line needs it before and after a training.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, and what schedulers send before they take the machine away"""


SAVED_FOR_LATER = 75
"""exit code where `max_minutes` are over: EX_TEMPFAIL of sysexits.h, try again. Signals end with 128 + their number"""


class TrainingPausedError(RuntimeError):
    """A training stopped before its end, with a checkpoint.

    Args:
        message: what happened; the error's text adds how to go on.
        number: of the signal; 0: `max_minutes` are over.
    """

    def __init__(self, message: str, number: int = 0):
        super().__init__(message, number)
        self.message, self.number = message, number

    def __str__(self) -> str:
        return f"{self.message}; go on with resume=True"


_command_began: ContextVar[float | None] = ContextVar("_command_began", default=None)


@contextmanager
def command_begins() -> Iterator[None]:
    """`max_minutes` of the trainings within count from here: opening the data takes time, too."""
    token = _command_began.set(monotonic())
    try:
        yield
    finally:
        _command_began.reset(token)


class Deadline:
    """The end of the time that is given: `max_minutes` from the start of the command, or else from here. One for all
    that a training does."""

    def __init__(self, max_minutes: float):
        self.minutes = max_minutes
        """0: no limit"""
        began = _command_began.get()
        self._began = monotonic() if began is None else began

    @property
    def is_over(self) -> bool:
        return bool(self.minutes) and monotonic() - self._began > 60 * self.minutes

    def __str__(self) -> str:
        return f"{self.minutes:g} minutes are over"


class StopRequest:
    """While entered, the signals are noted instead of obeyed. A second Ctrl-C interrupts at once.

    Signals reach the main thread only; elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self.number = 0
        """of the first signal; 0: none"""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = _handle(SIGNALS, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGUSR1 raise KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = _handle(SIGNALS[1:], interrupt)
    try:
        yield
    finally:
        _restore(before)


def ignore_signals(worker: int) -> None:
    """In a process that prepares batches: a signal to the whole group is the training's to answer."""
    _handle(SIGNALS, signal.SIG_IGN)


def _handle(signals: tuple[signal.Signals, ...], handler: Any) -> dict[signal.Signals, Any]:
    """Install a handler; returns those before it. What the program was started to ignore (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
