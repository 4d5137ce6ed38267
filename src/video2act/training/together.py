"""The processes that train together, as accelerate launches them."""

from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState

LONGEST_WAIT = timedelta(days=1)
"""for the slowest process: it may let System 2 see long episodes, or wait for a cache that another program fills. torch
ends a training after 10 minutes of waiting, and it is not needed: where a process dies, the launcher ends the others"""


def processes() -> PartialState:
    """The processes that train together. On a CPU they must be asked for so, or several would not find each other."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def open_accelerator(**options: Any) -> Accelerator:
    """An Accelerator of these processes, which wait for each other as long as that takes."""
    processes()  # the first that joins them sets how long they wait
    return Accelerator(**options)


def highest(code: int, accelerator: Accelerator) -> int:
    """The highest code of all processes: they must stop at the same place."""
    if accelerator.num_processes == 1:
        return code
    codes = accelerator.gather(torch.tensor([code], device=accelerator.device))
    return int(codes.max())  # type: ignore[union-attr]
