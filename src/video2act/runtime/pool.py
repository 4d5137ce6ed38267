"""A pool: where shares of work run. Local processes, or Ray's actors if one machine is not enough.

A worker is built once per process and does one task after another; results arrive as they are finished. A task is a
function of its content (a seed, the number of an episode), so the results do not depend on the pool or its size.
Scheduling is simple: a free worker gets the next task.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import ExitStack, contextmanager
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

from video2act.runtime.main_guard import check_main
from video2act.runtime.ray_workers import cluster_size, ray_slots
from video2act.runtime.workers import MakeWorker, OwnSlot, ProcessSlot, Slot, worker_context

LOCAL = "local"
"""the name of the pool of local processes; other names are Ray's"""


class Pool:
    """Workers that share tasks."""

    def __init__(self, slots: Sequence[Slot]):
        self._free = list(reversed(slots))
        self._running: dict[Future[Any], tuple[Slot, Any]] = {}

    @property
    def has_free(self) -> bool:
        return bool(self._free)

    @property
    def num_running(self) -> int:
        """Tasks whose result was not taken."""
        return len(self._running)

    def submit(self, task: Any) -> None:
        """Give a task to a free worker. `str(task)` names it in errors."""
        slot = self._free[-1]
        self._running[slot.submit(task)] = slot, task
        self._free.pop()

    def take(self) -> tuple[Any, Any]:
        """Wait for a result; returns the task and its result. Raises what the worker raised, or WorkerDiedError."""
        future = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        slot, task = self._running.pop(future)
        self._free.append(slot)
        return task, _result(slot, future, f"on {task}")

    def results(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each task with its result, as they are finished. Tasks are taken one by one, when a worker is free."""
        for task in tasks:
            self.submit(task)
            if not self.has_free:
                yield self.take()
        while self.num_running:
            yield self.take()

    def in_order(self, tasks: Iterable[Any], *, ahead: int) -> Iterator[tuple[Any, Any]]:
        """Each task with its result, in the order of the tasks. At most `ahead` tasks are begun whose results were not
        given: finished ones wait for a slow one before them."""
        source, begun, finished = iter(tasks), deque[Any](), dict[int, list[Any]]()
        while True:
            while self.has_free and len(begun) < ahead and (task := next(source, None)) is not None:
                self.submit(task)
                begun.append(task)
            if not begun:
                return
            if finished.get(id(begun[0])):
                task = begun.popleft()
                yield task, finished[id(task)].pop()
            else:
                task, result = self.take()
                finished.setdefault(id(task), []).append(result)

    def close(self) -> None:
        """End the workers, also in the middle of their tasks."""
        busy = [slot for slot, _ in self._running.values()]
        for slots, is_busy in ((busy, True), (self._free, False)):
            for slot in slots:
                slot.close(is_busy=is_busy)
        self._free, self._running = [], {}


def num_workers(asked: int | None, *, pool: str, local: int, uses_gpu: bool = False) -> int:
    """The size of a pool that was asked for; else one worker per core of a Ray cluster, or per GPU, or `local`."""
    if asked is not None:
        return asked
    return local if pool == LOCAL else cluster_size(pool, "GPU" if uses_gpu else "CPU")


def alone_by_default(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a function in Python: with one local worker, unless they say otherwise. It is this process, so a
    script needs no `if __name__ == "__main__":`."""
    return {"workers": 1, **options} if options.get("pool", LOCAL) == LOCAL else options


@contextmanager
def open_pool(
    make_worker: MakeWorker,
    size: int,
    *,
    pool: str = LOCAL,
    alone: bool = True,
    context: SpawnContext | ForkServerContext | None = None,
    folders: Sequence[Path] = (),
    uses_gpu: bool = False,
) -> Iterator[Pool]:
    """A pool whose workers are built.

    Args:
        size: number of workers.
        pool: `local`, `ray` (the cluster that this machine is in) or `ray://host:port`.
        alone: a single local worker runs in this process.
        context: how local processes are started; forked from a server, if left out.
        folders: folders that the workers read or write; every node of a cluster must see them.
        uses_gpu: each of Ray's workers gets a GPU.
    Raises:
        ImportError: Ray is not installed. ConnectionError: no Ray answers at the address. FileNotFoundError: a node
            does not see a folder. ValueError: local processes cannot import the program. Anything that `make_worker`
            raises.
    """
    with ExitStack() as stack:
        slots: Sequence[Slot]
        if pool != LOCAL:
            slots = stack.enter_context(
                ray_slots(make_worker, size, address=pool, folders=folders, num_gpus=int(uses_gpu))
            )
        elif size == 1 and alone:
            slots = [OwnSlot(make_worker)]
        else:
            check_main("pass workers=1")
            context = context or worker_context(make_worker)
            slots = [ProcessSlot(make_worker, context) for _ in range(size)]
        workers = Pool(slots)
        stack.callback(workers.close)
        built = {slot.ready: slot for slot in slots}
        for ready in as_completed(built):
            _result(built[ready], ready, "while it was set up")
        yield workers


def _result(slot: Slot, future: Future[Any], where: str) -> Any:
    error = future.exception()
    if error is None:
        return future.result()
    explained = slot.explain(error, where)
    if explained is error:
        raise error
    raise explained from error
