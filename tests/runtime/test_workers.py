import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import get_all_start_methods
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from video2act.runtime import workers
from video2act.runtime.workers import worker_context


def tell_parent(pipe: Connection) -> None:
    pipe.send((os.getpid(), os.getppid()))


def parent_of_a_worker() -> int:
    context = worker_context(tell_parent)
    ours, theirs = context.Pipe()
    process = context.Process(target=tell_parent, args=(theirs,))
    process.start()
    assert ours.poll(60)
    own, parent = ours.recv()
    process.join(60)
    assert (process.pid, process.exitcode) == (own, 0)
    return parent


@pytest.mark.skipif("forkserver" not in get_all_start_methods(), reason="there is no fork here")
def test_workers_are_forked_from_one_server_which_is_not_this_process():
    first = parent_of_a_worker()
    assert first == parent_of_a_worker() != os.getpid()


@pytest.mark.parametrize("work", [tell_parent, partial(tell_parent)])
def test_the_module_of_the_work_is_imported_beforehand(monkeypatch: pytest.MonkeyPatch, work):
    asked = []
    context = worker_context(tell_parent)
    monkeypatch.setattr(type(context), "set_forkserver_preload", lambda self, modules: asked.append(modules))
    worker_context(work)
    assert asked == [[tell_parent.__module__]]


def test_without_fork_they_are_spawned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "get_all_start_methods", lambda: ["spawn"])
    assert worker_context(tell_parent).get_start_method() == "spawn"


POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from video2act.runtime.workers import end_with_program, worker_context

if __name__ == "__main__":
    with ProcessPoolExecutor(1, worker_context(time.sleep), end_with_program) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="is read to see who lives")
def test_a_program_that_was_killed_leaves_no_worker_that_waits_for_work(tmp_path: Path):
    (tmp_path / "program.py").write_text(POOL)
    program = subprocess.Popen([sys.executable, tmp_path / "program.py"], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    worker = Path("/proc", program.stdout.readline().strip())
    assert worker.exists()
    program.send_signal(signal.SIGKILL)
    program.wait()
    deadline = time.monotonic() + 30
    while worker.exists():
        assert time.monotonic() < deadline, "the worker outlived its program"
        time.sleep(0.05)
