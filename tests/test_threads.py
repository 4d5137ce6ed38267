"""How many threads a program computes with: one place decides, a flag and the user's environment override it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from video2act import cli, threads


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Eight cores, no quota, nothing in the environment; the numbers of before come back."""
    before = torch.get_num_threads()
    monkeypatch.setenv(threads.VARIABLE, "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(threads, "CPU_QUOTA", tmp_path / "cpu.max")
    yield tmp_path / "cpu.max"
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), ("max 100000", 8), ("400000 100000", 4), ("50000 100000", 1), ("", 8), ("x y", 8)]
)
def test_cores_are_those_of_the_affinity_and_of_the_containers_quota(clean: Path, quota: str | None, cores: int):
    if quota is not None:
        clean.write_text(quota)
    assert threads.usable_cores() == cores
    assert threads.default_threads() == max(1, cores // 2)


def test_a_program_leaves_half_of_the_cores_to_others(clean: Path):
    assert threads.use_threads(None) == torch.get_num_threads() == int(os.environ[threads.VARIABLE]) == 4


def test_one_thread_on_two_cores(clean: Path, monkeypatch: pytest.MonkeyPatch):
    """Two threads beside another program train three to four times slower than one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert threads.use_threads(None) == 1


def test_the_environment_and_the_flag_override_in_this_order(clean: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert threads.use_threads(None) == 3
    assert threads.use_threads(2) == torch.get_num_threads() == 2
    assert os.environ[threads.VARIABLE] == "2"


@pytest.mark.parametrize("count", [0, -1, 10**6])
def test_no_number_of_threads_is_refused(clean: Path, count: int):
    with pytest.raises(ValueError, match=f"threads is {count}, which is not in 1..1024; leave it out for 4"):
        threads.use_threads(count)


@pytest.mark.parametrize("verb", [name for name, verb in cli.VERBS.items() if verb.computes])
def test_every_verb_that_computes_has_the_flag(verb: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.run([*verb.split(), "--help"])
    assert "--threads" in capsys.readouterr().out


def test_the_flag_takes_effect_before_the_program_begins(clean: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    bench = cli.Verb(cli.VERBS["bench"].options, lambda _: seen.append(torch.get_num_threads()))
    monkeypatch.setitem(cli.VERBS, "bench", bench)
    cli.run(["bench", "--threads", "2"])
    cli.run(["bench"])
    assert seen == [2, 2], "what was set for the process stays"
    assert "torch" in sys.modules
