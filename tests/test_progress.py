"""Progress of long work: lines in a log, a bar in a terminal."""

import pytest

from video2act.progress import Bar, track


class TestInALog:
    def test_a_line_at_each_fifth(self, capsys: pytest.CaptureFixture[str]):
        """An evaluation, a collection and a cache of hours said nothing in a log before their end."""
        with Bar("evaluating", 50, unit="episode", done=8) as bar:
            for done in range(9, 51):
                bar.update(done, f"{done // 2} successes")
        assert capsys.readouterr().out.splitlines() == [
            f"evaluating: episode {done} of 50, {done // 2} successes" for done in (10, 20, 30, 40, 50)
        ]

    def test_fewer_parts_than_lines(self, capsys: pytest.CaptureFixture[str]):
        assert list(track([7, 8], "System 2 sees", unit="episode")) == [7, 8]
        assert capsys.readouterr().out == "System 2 sees: episode 1 of 2\nSystem 2 sees: episode 2 of 2\n"

    def test_other_processes_say_nothing(self, capsys: pytest.CaptureFixture[str]):
        assert list(track([7, 8], "System 2 sees", unit="episode", is_shown=False)) == [7, 8]
        assert list(track([], "System 2 sees", unit="episode")) == []
        assert capsys.readouterr().out == ""


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with Bar("policy", 3, unit="step") as bar:
        for done in (1, 2, 3):
            bar.update(done, "loss 0.1")
    shown = capsys.readouterr().out
    assert "3/3" in shown
    assert "loss 0.1" in shown
    assert "step" not in shown
