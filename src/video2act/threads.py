"""How many threads a program computes with. This is decided once, before torch is imported.

Torch's threads meet after every operation, and wait by spinning. Where another program needs one of their cores, all of
them wait for it: on two cores, beside one busy program, two threads train three to four times slower than one thread.
On a quiet machine they train 1.3 times faster. So the default is half of the cores, and one on a machine with two.
"""

import os
import sys
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"
"""torch, numpy and the processes that are started read it"""

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""of a container: microseconds of computing, or `max`, and the period in which they may be used"""

MOST = 1024


def usable_cores() -> int:
    """The cores that this process may use, by its affinity and its container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if CPU_QUOTA.is_file():
        quota, _, period = CPU_QUOTA.read_text().strip().partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def default_threads() -> int:
    """Half of the cores, so that another program costs its share and no more."""
    return max(1, usable_cores() // 2)


def use_threads(requested: int | None) -> int:
    """Make torch and numpy compute with this many threads; None: as `OMP_NUM_THREADS` says, or the default.

    Returns:
        the number of threads.
    Raises:
        ValueError: no number of threads.
    """
    if requested is not None and not 1 <= requested <= MOST:
        raise ValueError(f"threads is {requested}, which is not in 1..{MOST}; leave it out for {default_threads()}")
    environment = os.environ.get(VARIABLE, "")
    count = requested or (int(environment) if environment.isdigit() and int(environment) else default_threads())
    os.environ[VARIABLE] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    return count
