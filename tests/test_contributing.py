"""What CONTRIBUTING.md shows works: its examples are run, and the commits in `examples/commits/` still apply."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from video2act.config import PolicyConfig
from video2act.policy import Video2Act

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
COMMITS = sorted((ROOT / "examples" / "commits").glob("*.patch"))

FILTER = """
import sys
import torch
from video2act.cli_flags import parse
from video2act.config import FilterConfig
from video2act.config.training_options import TrainOptions
from video2act.system2.filters import make_filter
from video2act.types import Video
step = torch.zeros(1, 1, 1, 5, 6)
step[..., 3:] = 1.0
found = make_filter(FilterConfig("prewitt"))(Video(step, 8.0)).grid[0, 0, 0, 2]
assert torch.allclose(found, torch.tensor([0.0, 0.0, 3.0, 3.0, 0.0, 0.0]), atol=0.01), found
options = parse(TrainOptions, sys.argv[1:], program="video2act train")
assert options.changes == {"system2.streams.spatial.filter.name": "prewitt"}, options.changes
"""
ENGINE = """
from pathlib import Path
import numpy as np
from onnx import TensorProto, helper, save
from video2act.engines.session import open_graph
pair = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", pair[:1], pair[1:])
save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), "double.onnx")
double = open_graph(Path(), "double", engine="reference", num_threads=1)
assert double({"x": np.float32([1, 2]), "unused": np.zeros(1)})["y"].tolist() == [2, 4]
"""
TRAIN = re.search(r"^video2act train (.+?)\n```", CONTRIBUTING, re.MULTILINE | re.DOTALL)
CHECKS = {"new_filter": FILTER, "new_engine": ENGINE}


@pytest.fixture
def patched(tmp_path: Path) -> Callable[[Path], dict[str, str]]:
    """A copy of the source with a commit; the environment in which Python finds it."""

    def apply(commit: Path) -> dict[str, str]:
        shutil.copytree(ROOT / "src", tmp_path / "src")  # with its bytecode
        subprocess.run(["git", "apply", "--recount", str(commit)], cwd=tmp_path, check=True)
        return {**os.environ, "PYTHONPATH": str(tmp_path / "src")}

    return apply


@pytest.mark.parametrize("commit", COMMITS, ids=lambda path: path.stem)
def test_a_commit_applies_and_does_what_it_says(
    commit: Path, patched: Callable[[Path], dict[str, str]], tmp_path: Path
):
    environment = patched(commit)
    assert TRAIN is not None
    words = shlex.split(TRAIN[1].replace("\\\n", " "))  # the command that uses the new filter
    subprocess.run([sys.executable, "-c", CHECKS[commit.stem], *words], cwd=tmp_path, env=environment, check=True)


@pytest.mark.slow
def test_the_new_engine_acts_as_pytorch_does(
    patched: Callable[[Path], dict[str, str]],
    make_policy: Callable[[PolicyConfig], Video2Act],
    small_config: PolicyConfig,
    tmp_path: Path,
):
    """`export` compares both before it leaves a folder."""
    make_policy(small_config.replace({"system1.depth": 2})).save(tmp_path / "run")
    (tmp_path / "run" / "instructions.json").write_text('["push the block"]')
    environment = patched(ROOT / "examples" / "commits" / "new_engine.patch")
    command = [sys.executable, "-m", "video2act.cli", "export", str(tmp_path / "run"), "--to", "reference"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "run" / "reference" / "engine.json").is_file()


def test_every_kind_of_addition_has_an_example_that_is_run():
    named = set(re.findall(r"`(examples/[\w/.]+)`", CONTRIBUTING))
    assert {f"examples/commits/{commit.name}" for commit in COMMITS} <= named
    assert {"examples/01_own_environment.py", "examples/05_new_backbone.py"} <= named  # test_examples.py runs these
    assert all((ROOT / name).exists() for name in named)
    assert set(CHECKS) == {commit.stem for commit in COMMITS}
