"""Worker processes on this machine: how they are started, and one at a time as a slot of a pool.

A process forked from a program inherits the locks of torch's threads, and a dead GL or CUDA context. A spawned one
inherits nothing, but imports torch and diffusers anew, which takes longer than many an evaluation. So workers are
forked from a small server (`forkserver`) that has imported what they need: it has neither a context nor threads, and
serves the next workers too.
"""

import copy
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing import active_children, get_all_start_methods, get_context, parent_process
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TaskWorker(Protocol):
    """Does one task after another. It is built once per process, where it loads what its tasks need."""

    def __call__(self, task: Any, /) -> Any: ...
    def close(self) -> None: ...


MakeWorker = Callable[[], TaskWorker]
"""picklable: a module's function or class, or a `partial` of one"""


class WorkerDiedError(RuntimeError):
    """A worker ended without an answer; the message names its task."""


class WorkerFailedError(RuntimeError):
    """A worker raised an exception that cannot travel between processes; the message holds its type and text."""


@runtime_checkable
class Slot(Protocol):
    """Where one worker runs."""

    ready: Future[None]
    """done when the worker is built"""

    def submit(self, task: Any) -> Future[Any]: ...
    def explain(self, error: BaseException, where: str) -> BaseException:
        """What a future of this slot raised, as the caller gets it; `where` is the task."""
        ...

    def close(self, *, is_busy: bool) -> None: ...


def worker_context(*works: Callable[..., Any]) -> SpawnContext | ForkServerContext:
    """The context in which to start processes that run these functions, whose modules are imported once for all of
    them.

    The first call in a program decides what is imported beforehand, and the variables of the environment are those of
    that moment. Where there is no fork (Windows), processes are spawned.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    functions = (work.func if isinstance(work, partial) else work for work in works)
    context.set_forkserver_preload([function.__module__ for function in functions])
    return context


def end_with_program() -> None:
    """In a worker, before its work: end when the program does that started it, however that ended.

    A pool's worker otherwise waits for more work for ever when its program was killed.
    """
    if (program := parent_process()) is None:
        raise RuntimeError("end_with_program was called outside of a worker process")

    def watch() -> None:
        program.join()
        os._exit(1)

    threading.Thread(target=watch, name="program", daemon=True).start()


def check_sees(*folders: Path | str) -> None:
    """Raises FileNotFoundError: this machine does not see a folder of the program."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise FileNotFoundError(
                f"node {socket.gethostname()} does not see {folder}: run folders and datasets must lie on a file "
                "system that all nodes of the cluster share, under the same path"
            )


class OwnSlot:
    """The worker runs in this process: `submit` returns when the task is done."""

    def __init__(self, make_worker: MakeWorker):
        self._worker = make_worker()
        self.ready: Future[None] = Future()
        self.ready.set_result(None)

    def submit(self, task: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self._worker(task))
        return future

    def explain(self, error: BaseException, where: str) -> BaseException:
        return error

    def close(self, *, is_busy: bool) -> None:
        self._worker.close()


class ProcessSlot:
    """The worker runs in a process of its own: an executor of one process, so that a death is known with its task."""

    def __init__(self, make_worker: MakeWorker, context: SpawnContext | ForkServerContext):
        before = active_children()
        self._executor = ProcessPoolExecutor(1, context, _begin)
        self.ready = self._executor.submit(_set_up, make_worker)
        self._process = next(process for process in active_children() if process not in before)

    def submit(self, task: Any) -> Future[Any]:
        try:
            return self._executor.submit(_do, task)
        except BrokenProcessPool as error:  # it ended while it waited for a task
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def explain(self, error: BaseException, where: str) -> BaseException:
        if not isinstance(error, BrokenProcessPool):
            return error
        # the executor's thread waits for its process; whoever waits beside it may be too late to learn the code
        self._executor.shutdown()
        code = self._process.exitcode or 0
        cause = f" (signal {-code}{', often a lack of memory' if code == -signal.SIGKILL else ''})" if code < 0 else ""
        remedy = "run the same command again, with fewer workers if it recurs"
        return WorkerDiedError(f"a worker ended with exit code {self._process.exitcode} {where}{cause}; {remedy}")

    def close(self, *, is_busy: bool) -> None:
        if is_busy or not self.ready.done():  # it would be waited for
            self._process.terminate()
        else:
            with suppress(BrokenProcessPool):
                self._executor.submit(_close).result()
        self._executor.shutdown(cancel_futures=True)


_worker: list[TaskWorker] = []
"""in a worker process: its worker"""


def _begin() -> None:
    # Ctrl-C reaches the whole process group; the program ends its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_program()


def _set_up(make_worker: MakeWorker) -> None:
    _worker.append(attempt(make_worker))


def _do(task: Any) -> Any:
    return attempt(_worker[0], task)


def _close() -> None:
    while _worker:
        _worker.pop().close()


def attempt(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work`. Raises what it raises, or WorkerFailedError in place of an exception that cannot be pickled."""
    try:
        return work(*arguments)
    except Exception as error:
        try:
            pickle.dumps(copy.copy(error))  # a copy is made as at the other end
        except (TypeError, AttributeError, pickle.PickleError):
            raise WorkerFailedError(f"{type(error).__name__}: {error}") from None
        raise
