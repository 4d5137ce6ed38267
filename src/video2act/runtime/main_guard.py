"""A process that is not forked imports the user's script again, under another name than `__main__`.

What the script does outside of `if __name__ == "__main__":` is done once more in each process: also the training before
an evaluation.
"""

import ast
import sys
import threading
from multiprocessing.spawn import get_preparation_data
from pathlib import Path


def check_main(remedy: str) -> None:
    """Check that processes can import the program that is running; to be called before one is started.

    Args:
        remedy: how the caller does without processes.
    Raises:
        ValueError: the program was read from standard input, or its line that is running has no guard.
    """
    main = sys.modules["__main__"]
    name, file = str(getattr(main.__spec__, "name", "")), getattr(main, "__file__", None)
    if not {"init_main_from_name", "init_main_from_path"} & set(get_preparation_data("")) or name.endswith("__main__"):
        return  # nothing is imported again: a notebook, `python -c`, `python -m` of a package
    if file is None or not Path(file).is_file():
        raise ValueError(f"processes cannot import a program that is read from {file}; save it as a file, or {remedy}")
    line = _running_line(vars(main))
    if line is not None and not _is_guarded(Path(file), line):
        raise ValueError(
            f"processes import {file} again, and would repeat what it does outside of a guard; put line {line} and all "
            f'other work under `if __name__ == "__main__":`, or {remedy}'
        )


def _running_line(names: dict[str, object]) -> int | None:
    """The line at which a module is, whose names these are; None if it has ended."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guarded(file: Path, line: int) -> bool:
    """Whether a line stands below an `if` that reads `__name__`."""
    blocks = [node for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.If)]
    around = (block for block in blocks if block.lineno <= line <= (block.end_lineno or line))
    return any("__name__" in ast.unparse(block.test) for block in around)
