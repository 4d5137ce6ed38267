"""Programs as users write them: processes that are not forked import them again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POOL = """
from pool_work import Squares
from video2act.runtime.pool import open_pool
with open_pool(Squares, {size}) as pool:
    print([square for _, (square, _) in pool.results([2, 3, 4])][-1] > 3)
"""


def run(program: str, folder: Path, *, as_input: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    paths = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    return subprocess.run(
        [sys.executable, "-" if as_input else "program.py"],
        input=program if as_input else "",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )


def indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())


def test_a_program_without_a_guard_is_told_so(tmp_path: Path):
    """Its workers ran it again, and what it did before, such as a training; they died with two pages of tracebacks and
    a guess about memory."""
    answer = run(f"print('begun')\n{POOL.format(size=2)}", tmp_path)
    assert answer.stdout == "begun\n"
    assert (answer.returncode, answer.stderr.count("Traceback")) == (1, 1)
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("ValueError: processes import ")
    assert last.endswith('put line 5 and all other work under `if __name__ == "__main__":`, or pass workers=1')


def test_a_function_of_a_program_is_called_without_a_guard(tmp_path: Path):
    answer = run(f"def work():\n{indented(POOL.format(size=2))}\n\nwork()\n", tmp_path)
    assert "put line 8 and all other work under" in answer.stderr.splitlines()[-1]


def test_a_program_with_a_guard_has_workers(tmp_path: Path):
    answer = run(f"if __name__ == '__main__':\n{indented(POOL.format(size=2))}", tmp_path)
    assert (answer.returncode, answer.stdout) == (0, "True\n"), answer.stderr


@pytest.mark.parametrize("size", [1, 2])
def test_a_program_from_standard_input(size: int, tmp_path: Path):
    """The workers did not find '<stdin>'."""
    answer = run(POOL.format(size=size), tmp_path, as_input=True)
    if size == 1:
        assert (answer.returncode, answer.stdout) == (0, "True\n"), answer.stderr
    else:
        problem = "processes cannot import a program that is read from <stdin>; save it as a file, or pass workers=1"
        assert answer.stderr.splitlines()[-1] == f"ValueError: {problem}"


def test_system_2_in_a_process_without_a_guard(tmp_path: Path):
    """It was told that the process ended with code 1."""
    program = """
from video2act.runtime.process_loop import ProcessSystem2
ProcessSystem2(None, start_timeout_s=60, hang_timeout_s=60)
"""
    answer = run(program, tmp_path)
    assert answer.stderr.splitlines()[-1].endswith("or choose system2='thread'")


def test_a_plain_script_collects(tmp_path: Path):
    """`collect` had several workers, so a script without a guard failed."""
    program = """
import video2act as v2a
print(v2a.collect("moving:push", "data", episodes=2, image_size=32).num_episodes)
"""
    answer = run(program, tmp_path)
    assert (answer.returncode, answer.stdout.splitlines()[-1:]) == (0, ["2"]), answer.stderr
