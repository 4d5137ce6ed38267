"""The processes that train together, as accelerate launches them."""

import torch
from accelerate import Accelerator, PartialState


def processes() -> PartialState:
    """The processes that train together. On a CPU they must be asked for so, or several would not find each other."""
    return PartialState(cpu=not torch.cuda.is_available())


def highest(code: int, accelerator: Accelerator) -> int:
    """The highest code of all processes: they must stop at the same place."""
    if accelerator.num_processes == 1:
        return code
    codes = accelerator.gather(torch.tensor([code], device=accelerator.device))
    return int(codes.max())  # type: ignore[union-attr]
