"""What happens when System 2 fails, hangs or dies beside the control loop. It is the same wherever System 2 works.

- The last condition stays and grows old. `freshness.py` judges its age.
- System 2 is tried again after a pause, which doubles with every failure in a row.
- An episode without a condition is given up after `ATTEMPTS` failures in a row. A `ConnectionError` does not count: it
  may pass, however often it comes.
- A `System2Error` is final: System 2 is not tried again.
- Each failure is noted as an incident.

`process_loop.py` starts a process that has died again, `serving/link.py` connects to a lost server again.
"""

import logging
import math
import traceback
from dataclasses import dataclass

from video2act.incidents import Incidents
from video2act.interfaces import System2Error
from video2act.refresh_rule import pause_s

log = logging.getLogger(__name__)
ATTEMPTS = 3


@dataclass(frozen=True)
class GivenUp:
    """In place of a first condition."""

    problem: str
    cause: Exception
    is_final: bool

    def error(self, where: str) -> System2Error:
        times = "and cannot be used any more" if self.is_final else f"{ATTEMPTS} times in a row"
        return System2Error(f"System 2 ({where}) failed {times}: {self.problem}")


class Failures:
    """Those of one slow loop.

    Args:
        where: the place where System 2 works, for messages.
        incidents: each failure is noted there.
        is_shared: several loops share this System 2.
    """

    def __init__(self, where: str, incidents: Incidents, *, is_shared: bool):
        self.end: GivenUp | None = None
        """why System 2 cannot be used any more"""
        self._in_a_row = 0
        self._where = where
        self._incidents = incidents
        self._is_shared = is_shared

    def forget(self) -> None:
        """A refresh has succeeded, or an episode begins, which is given up for its own failures."""
        self._in_a_row = 0

    def note(self, error: Exception, *, is_current: bool) -> tuple[float, GivenUp | None]:
        """A refresh has failed.

        Args:
            is_current: it was for the running episode.
        Returns: the pause before the next attempt in seconds, infinite if there is none; and why an episode without a
            condition is given up, if it is.
        """
        self._in_a_row += is_current
        is_final, is_away = isinstance(error, System2Error), isinstance(error, ConnectionError)
        kind = "connection" if is_away else "system2_hangs" if isinstance(error, TimeoutError) else "system2_failed"
        wait_s = math.inf if is_final else pause_s(self._in_a_row)
        line = f"{type(error).__name__}: {error}"
        self._incidents.note(
            kind,
            f"System 2 ({self._where}): {line.strip().splitlines()[-1]}; "
            + ("given up" if is_final else f"next attempt in {wait_s:g} s"),
        )
        if self._is_shared:  # a client of a server gets one line, and the server's log the rest
            log.error("System 2 failed", exc_info=error)
        elif self._where == "thread":
            line = "".join(traceback.format_exception(error))
        given_up = GivenUp(line, error, is_final)
        if is_final:
            self.end = given_up
        return wait_s, given_up if is_final or (self._in_a_row >= ATTEMPTS and not is_away) else None
