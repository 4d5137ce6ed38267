"""Imports point one way, a program has no library it must not have, and a file is one idea."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "video2act"

LEVEL = {
    **dict.fromkeys(("types", "interfaces", "config", "presets"), 0),
    **dict.fromkeys(("layers", "clips", "normalize", "embodiment", "text", "text_cache", "precision"), 1),
    **dict.fromkeys(("weights", "tensor_files", "frozen", "atomic", "workers", "limits"), 1),
    **dict.fromkeys(("system1", "system2", "data", "runtime", "serving", "envs", "viz"), 2),
    **dict.fromkeys(("policy", "training_loop", "interop", "suitability", "evaluation", "caching", "hub", "video_report"), 3),
    **dict.fromkeys(("train", "train_video", "evaluate", "collect", "bench", "view", "describe", "serve", "convert_robotwin"), 4),
    **dict.fromkeys(("demo", "sweep", "precompute"), 5),
    **dict.fromkeys(("cli", "cli_options", "__main__", "__init__"), 6),
}
"""part of the package -> its level; a part is a file of the package or a folder"""

LEVELS_OF_STRANGERS = {2, 4}
"""levels whose parts never import each other"""

FORBIDDEN_LIBRARIES = {
    "lerobot": "its releases exclude each other's dependencies; the format is read and written natively",
    "timm": "its norms change with its version; what is needed of them is a word of the config",
    "torchvision": "one resize for training and running: video2act.clips.resize_area",
}

FILES = sorted(SOURCE.rglob("*.py"))


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(file: Path) -> set[str]:
    """Every module a file imports, wherever the import stands, `from a import b` as `a.b`."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} line {node.lineno}: write relative imports out"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def imported_parts(file: Path) -> set[str]:
    """Parts of this package that a file imports."""
    return {module.split(".")[1] for module in imported_modules(file) if module.startswith("video2act.")}


def libraries(file: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(file)}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_module_has_a_place(file: Path):
    part = part_of(file)
    assert part in LEVEL, f"{name_of(file)}: {part!r} has no level yet; decide what it may import and add it to LEVEL"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_one_way(file: Path):
    part = part_of(file)
    own = LEVEL.get(part, 0)
    for other in imported_parts(file) - {part}:
        assert other in LEVEL, f"{name_of(file)} imports video2act.{other}, which has no level"
        assert LEVEL[other] <= own, f"{name_of(file)} (level {own}) must not import {other} (level {LEVEL[other]})"
        is_stranger = LEVEL[other] == own and own in LEVELS_OF_STRANGERS
        assert not is_stranger, f"{name_of(file)} must not import {other}: parts of level {own} do not know each other"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_forbidden_library(file: Path):
    for library, why in FORBIDDEN_LIBRARIES.items():
        assert library not in libraries(file), f"{name_of(file)} imports {library}: {why}"


@pytest.mark.parametrize("file", [*sorted((SOURCE / "config").glob("*.py")), SOURCE / "presets.py"], ids=name_of)
def test_configuration_needs_no_torch(file: Path):
    assert "torch" not in libraries(file)
    assert imported_parts(file) <= {"config"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_one_idea(file: Path):
    num_lines = len(file.read_text().splitlines())
    assert num_lines <= 400, f"{name_of(file)} has {num_lines} lines; 400 at most: a longer file is two ideas"


def test_importing_the_package_imports_none_of_its_parts():
    """Its public names come when asked for; otherwise every process of every simulator would load torch."""
    outermost = ast.parse((SOURCE / "__init__.py").read_text()).body
    modules = {node.module for node in outermost if isinstance(node, ast.ImportFrom)}
    assert modules <= {"typing"}
    assert not any(isinstance(node, ast.Import) for node in outermost)


def test_the_walk_sees_what_it_should():
    """The rules would pass on an empty list."""
    assert len(FILES) > 30
    assert {"config", "types"} <= imported_parts(SOURCE / "clips.py")
    assert "system2" in imported_parts(SOURCE / "policy.py")
