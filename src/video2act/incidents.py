"""What went wrong while a robot was driven, and was survived.

Only the newest incidents are kept, because a server may run for months. The counts by kind stay exact.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 1000

_lock = threading.Lock()
"""one for all: incidents are rare, and an object without a lock of its own can be sent to another process"""


@dataclass(frozen=True)
class Incident:
    """One problem."""

    kind: str
    """`system2_failed`, `system2_hangs`, `system2_busy`, `connection`, `stale_condition`, `plan_refused`,
    `plans_spent`, `planning_slow`, `state_clipped`, `image_size`, `control_rate`, `time_gap`, `action_not_finite`,
    `action_outside_limits`, `hold`"""
    text: str
    """one line for a person"""
    time: float
    """seconds since 1970 (wall clock)"""


class Incidents:
    """The newest incidents, and how many there were of each kind. Any thread may note one."""

    def __init__(self, kept: int = KEPT):
        self._newest: deque[Incident] = deque(maxlen=kept)
        self._counts: Counter[str] = Counter()

    def note(self, kind: str, text: str) -> None:
        with _lock:
            self._newest.append(Incident(kind, text, time.time()))
            self._counts[kind] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Kind -> how many, including those that are no longer kept."""
        with _lock:
            return dict(self._counts)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._newest)

    def __iter__(self) -> Iterator[Incident]:
        """Those that are kept, oldest first."""
        with _lock:
            return iter(tuple(self._newest))

    def __getitem__(self, index: int) -> Incident:
        return self._newest[index]

    def __add__(self, other: "Incidents") -> "Incidents":
        """Both, in the order of time."""
        joined = Incidents(max(self._newest.maxlen or 0, other._newest.maxlen or 0))
        joined._newest.extend(sorted((*self, *other), key=lambda incident: incident.time))
        joined._counts = Counter(self.counts) + Counter(other.counts)
        return joined

    def since(self, counts: Mapping[str, int]) -> "Incidents":
        """Those noted after the counts were as given."""
        new = Incidents()
        new._counts = Counter(self.counts) - Counter(counts)
        new._newest.extend(tuple(self)[max(0, len(self) - new.total) :])
        return new

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(incident) for incident in self]

    @classmethod
    def from_json(cls, newest: Iterable[Mapping[str, Any]], counts: Mapping[str, int]) -> "Incidents":
        """The inverse of `to_json` and `counts`."""
        incidents = cls()
        incidents._newest.extend(Incident(**incident) for incident in newest)
        incidents._counts = Counter(counts)
        return incidents
