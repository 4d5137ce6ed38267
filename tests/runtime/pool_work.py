"""Work for the pools of tests: in a module of its own, so that worker processes can import it."""

import os
import signal
import time
from pathlib import Path


class OwnError(Exception):
    """Cannot be read back: it takes two arguments and keeps one."""

    def __init__(self, name: str, value: int):
        super().__init__(f"{name}={value}")


class Squares:
    """Squares numbers; does other things when a task says so."""

    def __init__(self, fault: str = "", log: Path | None = None):
        self._log = log
        self._note("built")
        if fault == "raise":
            raise ValueError("no weights in run7")
        if fault == "exit":
            os._exit(5)

    def __call__(self, task: int | str) -> tuple[int, int]:
        match task:
            case "raise":
                raise ValueError("scene 7 has no door")
            case "own error":
                raise OwnError("door", 7)
            case "exit":
                os._exit(3)
            case "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
                return 0, os.getpid()
            case "sleep":
                time.sleep(600)
            case "slow":
                time.sleep(0.3)
                return 0, os.getpid()
        self._note(str(task))
        time.sleep(0.02)
        return int(task) ** 2, os.getpid()

    def close(self) -> None:
        self._note("closed")

    def _note(self, text: str) -> None:
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{text}\n")
