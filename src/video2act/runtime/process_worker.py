"""What runs in System 2's own process: build it, warm it up, then answer clips with tokens until the program ends.

A failure ends the process: after some (of CUDA, say) nothing in it works any more, and the program starts another one.
"""

import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from video2act.clips import to_pixels
from video2act.interfaces import Perceiver
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.refresh import warm_up
from video2act.runtime.workers import end_with_program
from video2act.types import Tokens

DONE, FAILED = b"d", b"f"
"""first byte of a message; tokens or a traceback follow"""


@dataclass(frozen=True)
class Job:
    """What the process shall do; travels to it when it is started."""

    build: Callable[[], Perceiver]
    spec: RefreshSpec
    instruction: str
    """for the warm-up"""
    num_threads: int


def run(job: Job, pipe: Connection) -> None:
    """The process's main function."""
    import torch  # here: a program without torch imports this module, too

    end_with_program()  # even in the middle of a refresh that hangs
    torch.set_num_threads(job.num_threads)
    # Ctrl-C in a terminal reaches every process; this one ends when the program does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        system = job.build()
        warm_up(system, job.spec, instruction=job.instruction)
        pipe.send_bytes(DONE)
        while (asked := _receive(pipe)) is not None:
            clips, instruction = asked
            videos = {name: to_pixels(frames, fps) for name, (frames, fps) in clips.items()}
            with torch.no_grad():
                tokens = system.perceive(videos, instruction)
            pipe.send_bytes(DONE + pack(tokens))
    except Exception:  # noqa: BLE001 - whatever it is, the program must learn of it
        with suppress(OSError):
            pipe.send_bytes(FAILED + traceback.format_exc().encode())


def _receive(pipe: Connection) -> Any:
    """A message; None when the program has ended."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def pack(tokens: Tokens) -> bytes:
    """As safetensors, because numpy has no bfloat16."""
    from safetensors.torch import save

    return save({"data": tokens.data.cpu().contiguous(), "mask": tokens.mask.cpu().contiguous()})


def unpack(content: bytes) -> Tokens:
    """The inverse of `pack`."""
    from safetensors.torch import load

    return Tokens(**load(content))
