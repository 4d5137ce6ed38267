"""The one-slot mailbox: newest wins, nothing is torn, a wait ends."""

import threading

from video2act.runtime.latest import Latest


def anything(message: object) -> bool:
    return True


def test_an_empty_slot_answers_none_and_a_wait_for_it_ends():
    latest: Latest[int] = Latest()
    assert latest.get() is None
    assert latest.wait(anything, timeout_s=0.01) is None


def test_the_newest_message_wins_and_stays():
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.put(2)
    assert latest.get() == 2
    assert latest.get() == 2


def test_a_waiting_reader_wakes_up_for_the_message_it_wants_only():
    latest: Latest[int] = Latest()
    latest.put(1)
    threading.Timer(0.02, latest.put, [2]).start()
    threading.Timer(0.04, latest.put, [7]).start()
    assert latest.wait(lambda number: number > 5, timeout_s=10.0) == 7


def test_a_reader_beside_a_writer_sees_numbers_that_never_go_back():
    latest: Latest[int] = Latest()
    writer = threading.Thread(target=lambda: [latest.put(i) for i in range(5000)])
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(latest.get() or 0)
    writer.join()
    assert seen == sorted(seen)
    assert latest.get() == 4999
