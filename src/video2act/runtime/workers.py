"""How worker processes are started: forked from a small server that has imported what they need and done nothing else.

A process forked from a program inherits the locks of torch's threads, and a dead GL or CUDA context. A spawned one
inherits nothing, but imports torch and diffusers anew, which takes longer than many an evaluation. The server of
`forkserver` has neither a context nor threads, and serves the next workers too.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any


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
