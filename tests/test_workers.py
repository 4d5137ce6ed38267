import os
from functools import partial
from multiprocessing import get_all_start_methods
from multiprocessing.connection import Connection

import pytest

from video2act import workers
from video2act.workers import worker_context


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
