"""Workers on the nodes of a Ray cluster: one actor each. Ray places them, starts them again and repeats their task when
their node is lost.

A task may therefore be done twice: what a worker writes has a name of its own, or is written whole. The nodes have this
package installed and see the same folders. Ray's own arguments, such as the number of nodes, belong to `ray start`.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from video2act.extras import extra
from video2act.runtime.workers import MakeWorker, Slot, TaskWorker, WorkerDiedError, attempt, check_sees

ANSWER_S = 5
"""how long an address has to answer"""
RESTARTS = 3
"""times that a worker is started again; as long as it is, its task is repeated"""
VARIABLES = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "HF_HOME", "HF_HUB_OFFLINE")
"""variables of the environment that the workers get from the program"""


@contextmanager
def ray_slots(
    make_worker: MakeWorker, size: int, *, address: str, folders: Sequence[Path], num_gpus: int
) -> Iterator[list[Slot]]:
    """A slot for each of `size` actors, spread over the nodes. Raises as `open_pool` does."""
    with extra("cluster", f"pool={address}"):
        import grpc
        import ray  # type: ignore[import-not-found]
    with _connected(ray, address, grpc=grpc):
        found = int(ray.cluster_resources().get("GPU", 0))
        if size * num_gpus > found:
            raise ValueError(f"{size} workers on GPUs need {size} GPUs, the Ray cluster has {found}: lower --workers")
        place = _Place(
            os.getcwd(),
            tuple(path for path in sys.path if path and not path.startswith((sys.prefix, sys.base_prefix))),
            {name: os.environ[name] for name in VARIABLES if name in os.environ},
            tuple(str(folder) for folder in folders),
        )
        actor = ray.remote(
            # num_cpus: of a running worker. A lost node's workers find a place on nodes that are full
            num_cpus=0,
            num_gpus=num_gpus,
            max_restarts=RESTARTS,
            max_task_retries=-1,  # a call to a node that is being lost counts as one, so 3 are soon used up
            scheduling_strategy="SPREAD",
        )(_Actor)
        # Ray reads what is inside a list when the actor asks for it: its modules are found after `place` is taken
        inside = [ray.put(make_worker)]
        yield [RaySlot(actor.remote(inside, place), ray) for _ in range(size)]


@cache
def cluster_size(address: str, kind: str = "CPU") -> int:
    """Cores of a cluster, or its GPUs (`kind`); those of this machine, where none is running yet. Raises as `open_pool`
    does."""
    with extra("cluster", f"pool={address}"):
        import grpc
        import ray  # type: ignore[import-not-found]
    if kind == "CPU" and not ray.is_initialized() and not _target(address):
        return os.cpu_count() or 1  # what Ray will start on this machine has as many
    with _connected(ray, address, grpc=grpc):
        return max(1, int(ray.cluster_resources().get(kind, 0)))


@contextmanager
def _connected(ray: Any, address: str, *, grpc: Any) -> Iterator[None]:
    if ray.is_initialized():
        if address != "ray":
            raise ValueError(f"this process is connected to Ray already, so it cannot go to {address}; use pool='ray'")
        yield
        return
    target = _target(address)
    if ":" in target:
        _check_answers(target, grpc)
    try:
        ray.init(target or None, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError) as error:
        raise ConnectionError(
            f"the Ray cluster at {target or 'this machine'} cannot be used ({error}). Python and Ray must have the "
            "same version on all machines; a cluster with a token needs RAY_AUTH_MODE=token here, and the head's "
            "~/.ray/auth_token; the port of ray:// is that of --ray-client-server-port"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _target(address: str) -> str:
    """Where the cluster is; empty if none was started."""
    target = address if address != "ray" else os.environ.get("RAY_ADDRESS", "")
    # where `ray start` leaves the cluster of this machine, which may have been killed since
    found = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return found.read_text().strip() if not target and found.is_file() else target


def _check_answers(address: str, grpc: Any) -> None:
    """Raises ConnectionError where nothing answers; Ray itself would try for minutes."""
    channel = grpc.insecure_channel(address.removeprefix("ray://"), options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(ANSWER_S)
    except grpc.FutureTimeoutError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} within {ANSWER_S} s; start one with `ray start --head` on that "
            "machine, whose port for ray:// addresses is 10001, or use --pool local; `ray stop` forgets a cluster "
            "that was killed"
        ) from error
    finally:
        channel.close()


class _Place:
    """What a worker finds on its node as the program has it: folder, modules, variables."""

    def __init__(self, folder: str, modules: tuple[str, ...], variables: dict[str, str], seen: tuple[str, ...]):
        self.folder, self.modules, self.variables, self.seen = folder, modules, variables, seen

    def take(self) -> None:
        """Raises FileNotFoundError: the node does not see a folder."""
        os.environ.update(self.variables)
        check_sees(self.folder, *(os.path.join(self.folder, folder) for folder in self.seen))
        os.chdir(self.folder)
        sys.path += [path for path in self.modules if path not in sys.path]


class _Actor:
    """A worker in a process of Ray's. It is built at the first call, so that its errors come as they are."""

    def __init__(self, make_worker: list[Any], place: _Place):
        self._make_worker, self._place = make_worker, place
        self._worker: TaskWorker | None = None

    def ready(self) -> None:
        self._get()

    def do(self, task: Any) -> Any:
        return attempt(self._get(), task)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _get(self) -> TaskWorker:
        if self._worker is not None:
            return self._worker
        with extra("cluster", "a worker on Ray"):
            import ray  # type: ignore[import-not-found]

        self._place.take()
        worker: TaskWorker = attempt(ray.get(self._make_worker[0]))
        self._worker = worker
        return worker


class RaySlot:
    """One actor."""

    def __init__(self, actor: Any, ray: Any):
        self._actor, self._ray = actor, ray
        self.ready: Future[None] = actor.ready.remote().future()

    def submit(self, task: Any) -> Future[Any]:
        return self._actor.do.remote(task).future()

    def explain(self, error: BaseException, where: str) -> BaseException:
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return error.cause  # type: ignore[attr-defined]
        if isinstance(error, self._ray.exceptions.RayError):
            problem = str(error).strip().replace("\n", " ")
            return WorkerDiedError(f"a worker on Ray ended {where}, also when it was started again: {problem}")
        return error

    def close(self, *, is_busy: bool) -> None:
        if not is_busy and self.ready.done():
            with suppress(self._ray.exceptions.RayError, TimeoutError):  # it is ended in any case
                self._actor.close.remote().future().result(ANSWER_S)
        self._ray.kill(self._actor)
