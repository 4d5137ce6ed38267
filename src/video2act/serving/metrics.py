"""The counts of a server as text for Prometheus. Nothing grows with time or with the messages of clients."""

import threading
from collections.abc import Mapping

NAMESPACE = "video2act_"
ANSWER_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""upper bounds of the histogram's bins"""


LABELS = {
    "connections": ("accepted",),
    "refused": ("api_key", "full"),
    "answers": ("plan", "other"),
    "errors": ("message", "hold", "policy", "rate", "frames", "timeout"),
    "closed": ("1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1011", "other"),
}
"""counter -> its labels; `closed` has the code of a client's close frame, 1006 without one"""


class Metrics:
    """Counters by label, and how long answers took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {(name, label): 0 for name, labels in LABELS.items() for label in labels}
        self._bins = [0] * (len(ANSWER_SECONDS) + 1)
        self._total_s = 0.0

    def count(self, name: str, label: str) -> None:
        """Add 1 to a counter. Raises KeyError for a label that is not in `LABELS`: clients must not make new ones."""
        with self._lock:
            self._counts[name, label] += 1

    def closed(self, code: int) -> None:
        """Count a connection that a client has ended."""
        self.count("closed", str(code) if str(code) in LABELS["closed"] else "other")

    def get(self, name: str, label: str) -> int:
        with self._lock:
            return self._counts[name, label]

    def answered(self, seconds: float) -> None:
        """Count an answer and its duration."""
        with self._lock:
            self._bins[sum(seconds > bound for bound in ANSWER_SECONDS)] += 1
            self._total_s += seconds

    def to_text(self, gauges: Mapping[str, float]) -> str:
        """Prometheus' text format, version 0.0.4; `gauges` are current values."""
        with self._lock:
            counts, bins, total_s = dict(self._counts), list(self._bins), self._total_s
        lines = []
        for name, labels in LABELS.items():
            lines.append(f"# TYPE {NAMESPACE}{name}_total counter")
            lines += [f'{NAMESPACE}{name}_total{{kind="{label}"}} {counts[name, label]}' for label in labels]
        for name, value in gauges.items():
            lines += [f"# TYPE {NAMESPACE}{name} gauge", f"{NAMESPACE}{name} {value:g}"]
        lines.append(f"# TYPE {NAMESPACE}answer_seconds histogram")
        below = 0
        for bound, number in zip((*map(str, ANSWER_SECONDS), "+Inf"), bins, strict=True):
            below += number
            lines.append(f'{NAMESPACE}answer_seconds_bucket{{le="{bound}"}} {below}')
        lines += [f"{NAMESPACE}answer_seconds_sum {total_s:g}", f"{NAMESPACE}answer_seconds_count {below}"]
        return "\n".join(lines) + "\n"
