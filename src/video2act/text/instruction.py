"""Which instructions an encoder takes: not empty, and not longer than its limit. Nothing is cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MAX_BYTES = 1000
"""longest instruction of the encoder that reads bytes; with its end mark it fits into RDT-1B's 1,024 positions"""


def check_instruction(instruction: str, max_bytes: int | None = MAX_BYTES) -> None:
    """Raise ValueError where an instruction is empty, or longer than `max_bytes` bytes of UTF-8 (None: any length)."""
    if not any(letter.isprintable() and not letter.isspace() for letter in instruction):
        raise ValueError(f"the instruction is empty ({instruction!r}); say what the robot shall do")
    num_bytes = len(instruction.encode())
    if max_bytes is not None and num_bytes > max_bytes:
        raise ValueError(
            f"the instruction has {num_bytes} bytes, the encoder takes {max_bytes}: {instruction[:60]!r}...; shorten it"
        )


def byte_tokens(instruction: str) -> list[int]:
    """ByT5's numbers of the bytes, and of the end. Raises ValueError as `check_instruction`."""
    check_instruction(instruction)
    return [3 + byte for byte in instruction.encode()] + [1]


_is_written = ContextVar("is_written", default=True)


def is_written() -> bool:
    """Whether embeddings of new instructions are written to disk, in this thread."""
    return _is_written.get()


@contextmanager
def in_memory_only() -> Iterator[None]:
    """Within it, embeddings of new instructions are not written to disk: others could fill it with what they say."""
    before = _is_written.set(False)
    try:
        yield
    finally:
        _is_written.reset(before)
