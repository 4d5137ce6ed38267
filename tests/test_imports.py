"""What an import loads: what is not used is not paid for. A process of its own for each, because pytest has loaded
everything."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "video2act"

SECONDS_EACH = ("diffusers", "transformers", "scipy", "accelerate", "huggingface_hub", "pandas", "torch._dynamo")
"""libraries that take a good part of a second or more"""


def loaded_by(statement: str) -> set[str]:
    """The modules in memory after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_a_program_loads_torch_when_its_input_is_checked():
    """A program's module opens and compares its input; what computes is imported by its functions."""
    programs = sorted(path.stem for path in (SOURCE / "programs").glob("*.py") if path.stem != "__init__")
    names = ", ".join(f"video2act.programs.{name}" for name in (*programs, "info"))
    assert {"torch", *SECONDS_EACH} & loaded_by(f"import {names}") == set()


@pytest.mark.parametrize(
    "statement", ["import video2act", "import video2act.cli", "from video2act import PolicyConfig"], ids=str
)
def test_a_name_that_needs_no_torch_loads_none(statement: str):
    assert {"torch", *SECONDS_EACH} & loaded_by(statement) == set()


def test_a_policy_and_a_runner_load_torch_and_no_other_heavy_library():
    """`import torch` alone takes 1.8 s, diffusers and transformers took 4 s more."""
    modules = loaded_by("from video2act import Video2Act, Runner, Observation, ActionChunk")
    assert "torch" in modules
    assert set(SECONDS_EACH) & modules == set()
