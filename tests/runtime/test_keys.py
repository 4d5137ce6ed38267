"""Keys never wait, and a process without a terminal has none."""

import os
import pty

from video2act.runtime.keys import QueuedKeys, TerminalKeys


def test_queued_keys_come_one_list_per_call_and_those_pressed_meanwhile():
    keys = QueuedKeys([["space"], [], ["a", "a"]])
    assert keys.poll() == ["space"]
    keys.press("tab")
    assert keys.poll() == ["tab"]
    assert keys.poll() == ["a", "a"]
    assert keys.poll() == []


def test_a_terminal_gives_names_of_keys_without_waiting():
    master, slave = pty.openpty()
    with os.fdopen(slave, "rb", buffering=0) as file, TerminalKeys(file) as keys:
        assert keys.is_terminal
        assert keys.poll() == []
        os.write(master, b" :\x7fa\n\t")
        found: list[str] = []
        while len(found) < 6:
            found += keys.poll()
        assert found == ["space", ":", "backspace", "a", "enter", "tab"]
        os.write(master, b"\x1b[A")
        os.write(master, b"x")
        rest: list[str] = []
        while not rest:
            rest = keys.poll()
        assert rest == ["x"], "an arrow is not escape"
    os.close(master)


def test_without_a_terminal_there_are_no_keys():
    with open(os.devnull) as file, TerminalKeys(file) as keys:
        assert not keys.is_terminal
        assert keys.poll() == []
