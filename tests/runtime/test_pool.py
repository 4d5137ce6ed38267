"""The local pool with real processes, and what must hold of any pool."""

import multiprocessing
import os
import re
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from pool_work import Squares

from video2act.config import EvaluateOptions
from video2act.runtime import pool as pool_module
from video2act.runtime.pool import num_workers, open_pool
from video2act.runtime.workers import WorkerDiedError, WorkerFailedError, check_sees


def test_results_do_not_depend_on_the_number_of_workers():
    for size in (1, 3):
        with open_pool(Squares, size) as pool:
            found = dict(pool.results(range(7)))
        assert {task: square for task, (square, _) in found.items()} == {number: number**2 for number in range(7)}
        pids = {pid for _, pid in found.values()}
        assert (len(pids), os.getpid() in pids) == (size, size == 1)


def test_a_worker_is_built_once_and_closed(tmp_path: Path):
    for size, alone in ((1, True), (1, False), (2, True)):
        log = tmp_path / f"{size}{alone}"
        with open_pool(partial(Squares, log=log), size, alone=alone) as pool:
            list(pool.results(range(4)))
        lines = log.read_text().split()
        assert lines.count("built") == lines.count("closed") == size
        assert sorted(set(lines) - {"built", "closed"}) == ["0", "1", "2", "3"]


def test_finished_tasks_wait_for_a_slow_one_in_a_bounded_number():
    """Conversions ran ahead of a slow episode without a bound: all others waited, encoded, on the disk."""
    taken: list[str] = []

    def tasks():
        for number in ("slow", *map(str, range(1, 12))):
            taken.append(number)
            yield number

    with open_pool(Squares, 2) as pool:
        found = pool.in_order(tasks(), ahead=4)
        assert next(found)[0] == "slow"
        assert taken == ["slow", "1", "2", "3"]
        assert [task for task, _ in found] == [str(number) for number in range(1, 12)]
    with open_pool(Squares, 1) as alone:
        assert [square for _, (square, _) in alone.in_order([3, 3, 2], ahead=2)] == [9, 9, 4]


def test_a_pool_on_ray_is_as_large_as_the_cluster(monkeypatch: pytest.MonkeyPatch):
    """It had as many workers as this machine has cores."""
    monkeypatch.setattr(pool_module, "cluster_size", lambda address, kind: {"CPU": 64, "GPU": 8}[kind])
    assert num_workers(None, pool="ray://head:10001", local=2) == 64
    assert num_workers(None, pool="ray", local=2, uses_gpu=True) == 8
    assert num_workers(None, pool="local", local=2) == 2
    assert num_workers(3, pool="ray", local=2) == 3


def test_tasks_are_taken_one_by_one_when_a_worker_is_free():
    taken: list[int] = []

    def tasks():
        for number in range(6):
            taken.append(number)
            yield number

    with open_pool(Squares, 2) as pool:
        for count, _ in enumerate(pool.results(tasks())):
            assert len(taken) <= count + 2


@pytest.mark.parametrize("size", [1, 2])
def test_an_error_arrives_as_it_was_raised(size: int):
    with open_pool(Squares, size) as pool:
        with pytest.raises(ValueError, match="scene 7 has no door"):
            list(pool.results(["raise"]))
        assert [square for _, (square, _) in pool.results([3])] == [9], "the worker goes on"


def test_an_error_that_cannot_travel_is_named():
    """It ended the pool with a message about pickles."""
    with open_pool(Squares, 2) as pool, pytest.raises(WorkerFailedError, match="OwnError: door=7"):
        list(pool.results(["own error"]))


def test_an_error_of_the_set_up_arrives_before_any_task():
    for size in (1, 2):
        with pytest.raises(ValueError, match="no weights in run7"), open_pool(partial(Squares, "raise"), size):
            raise AssertionError("the pool opened")
    with (
        pytest.raises(WorkerDiedError, match="ended with exit code 5 while it was set up"),
        open_pool(partial(Squares, "exit"), 2),
    ):
        raise AssertionError("the pool opened")


def test_a_worker_that_dies_is_named_with_its_task_and_exit_code():
    with open_pool(Squares, 2) as pool, pytest.raises(WorkerDiedError, match="ended with exit code 3 on exit;"):
        list(pool.results([1, 2, "exit", 3]))


def test_the_exit_code_is_known_also_where_the_executor_reads_it_first(monkeypatch: pytest.MonkeyPatch):
    """Only one `waitpid` learns the code of a spawned process. The pool's own one came too late and said None."""
    really = os.waitpid

    def slowly(pid: int, options: int) -> tuple[int, int]:
        is_own = threading.current_thread() is threading.main_thread()
        time.sleep(0.1 * is_own)
        found = really(pid, options)
        time.sleep(0.5 * (not is_own))
        return found

    monkeypatch.setattr(os, "waitpid", slowly)
    context = multiprocessing.get_context("spawn")
    with (
        open_pool(Squares, 1, alone=False, context=context) as pool,
        pytest.raises(WorkerDiedError, match="ended with exit code 3 on exit;"),
    ):
        list(pool.results(["exit"]))


def test_ctrl_c_is_left_to_the_program():
    """It reaches every process of the group; a worker printed a traceback, and its task was lost."""
    with open_pool(Squares, 1, alone=False) as pool:
        assert len(list(pool.results(["interrupt", 2]))) == 2


def test_an_error_does_not_wait_for_the_other_workers():
    started = time.monotonic()
    with pytest.raises(ValueError, match="no door"), open_pool(Squares, 2) as pool:
        list(pool.results(["sleep", "raise"]))
    assert time.monotonic() - started < 60


def test_a_missing_folder_names_the_machine_and_the_path(tmp_path: Path):
    check_sees(tmp_path)
    missing = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match=rf"node \S+ does not see {re.escape(str(missing))}: .*file system"):
        check_sees(tmp_path, missing)


@pytest.mark.parametrize("name", ["", "raye", "ray://head", "ray://:10001", "head:10001", "ray://head:10001/x"])
def test_a_pool_that_does_not_exist_is_refused(name: str):
    with pytest.raises(ValueError, match="pool must be local, ray or ray://HOST:PORT, got"):
        EvaluateOptions(pool=name)
    EvaluateOptions(pool="ray://[::1]:10001")


def test_without_ray_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ImportError, match=r"pool=ray needs \w+ .*pip install 'video2act\[cluster\]'"),
        open_pool(Squares, 2, pool="ray"),
    ):
        raise AssertionError("the pool opened")
