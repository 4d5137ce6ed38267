"""How worker processes are started: forked from a small server that has imported what they need and done nothing else.

A process forked from a program inherits the locks of torch's threads, and a dead GL or CUDA context. One that is
    spawned inherits nothing, and imports torch and diffusers anew, which takes longer than many an evaluation. The
    server of `forkserver` has neither a context nor threads, and is there for the next workers too: a System 2 that was
    killed is back as soon as its weights are.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any


def worker_context(work: Callable[..., Any]) -> SpawnContext | ForkServerContext:
    """The context in which to start processes that run `work`, whose module is imported once for all of them.

    The first one asked for in a program decides what is imported beforehand. Variables of the environment are those of
    that moment. Where there is no fork (Windows), processes are spawned.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    function = work.func if isinstance(work, partial) else work
    context.set_forkserver_preload([function.__module__])
    return context


def end_with_program() -> None:
    """In a worker, before its work: end when the program does that started it, however that ended.

    A pool's worker otherwise waits for more work for ever when its program was killed.
    """
    program = parent_process()
    assert program is not None, "this is no worker"

    def watch() -> None:
        program.join()
        os._exit(1)

    threading.Thread(target=watch, name="program", daemon=True).start()
