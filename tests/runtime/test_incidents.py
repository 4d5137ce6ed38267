"""What is kept of incidents: the newest, with exact counts."""

import pickle
from concurrent.futures import ThreadPoolExecutor

from video2act.incidents import Incidents


def test_the_newest_are_kept_and_the_counts_stay_exact():
    """Three places kept the oldest 1,000, two the newest, and none counted."""
    incidents = Incidents(kept=3)
    for number in range(5):
        incidents.note("system2_failed", f"failure {number}")
    incidents.note("connection", "away")
    assert [incident.text for incident in incidents] == ["failure 3", "failure 4", "away"]
    assert (incidents.counts, incidents.total) == ({"system2_failed": 5, "connection": 1}, 6)
    assert incidents[-1].kind == "connection"


def test_they_can_be_joined_and_sent_to_another_process():
    first, second = Incidents(), Incidents()
    first.note("a", "1")
    second.note("b", "2")
    first.note("a", "3")
    joined = pickle.loads(pickle.dumps(first + second))
    assert [incident.text for incident in joined] == ["1", "2", "3"]
    assert joined.counts == {"a": 2, "b": 1}
    assert [sorted(entry) for entry in joined.to_json()] == [["kind", "text", "time"]] * 3


def test_threads_do_not_lose_counts():
    incidents = Incidents(kept=10)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: incidents.note("a", str(number)), range(2000)))
    assert incidents.counts == {"a": 2000}
