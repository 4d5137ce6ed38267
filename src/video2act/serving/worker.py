"""A thread per client, so that the event loop never waits for a policy."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Worker:
    """A thread that runs jobs of an event loop in order. It is a daemon: a policy that hangs does not keep the process
    alive."""

    def __init__(self, name: str):
        self._jobs: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, job: Callable[[], Any]) -> "asyncio.Future[Any]":
        future = self._loop.create_future()
        self._jobs.put((future, job))
        return future

    def end(self) -> None:
        """End the thread after its jobs."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (entry := self._jobs.get()) is not None:
            future, job = entry
            try:
                result, error = job(), None
            except Exception as raised:  # noqa: BLE001 - raised again where the future is awaited
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(settle, future, result, error)
            except RuntimeError:  # the loop has ended
                return


def settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    """Give a future its result or its error, unless it has one."""
    if not future.done():
        _ = future.set_result(result) if error is None else future.set_exception(error)
