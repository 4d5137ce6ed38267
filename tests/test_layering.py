"""Imports point one way, a program has no library it must not have, and a file is one idea."""

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "video2act"

FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "types",
        "config",
        "statistics",
        "normalize",
        "embodiment",
        "precision",
        "limits",
        "incidents",
        "frames",
        "extras",
        "threads",
        "progress",
    ),
    ("interfaces", "video_backbone", "presets", "clips", "layers", "files", "refresh_rule", "observations", "trace"),
    ("text", "training_record"),
    ("system1", "system2", "data", "envs", "runtime", "serving", "viz"),
    ("policy", "hub", "engines", "interop"),
    ("training", "evaluation"),
    ("study",),
    ("programs",),
    ("cli", "cli_flags", "__init__"),
)
"""parts (files or folders of the package) from the ground up; a file imports its own part and lower floors"""

FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}

FRIENDS = {
    "normalize": {"config", "types", "statistics"},
    "embodiment": {"config", "types"},
    "statistics": {"config"},
    "limits": {"config", "types", "statistics"},
    "frames": {"config"},
    "interfaces": {"video_backbone"},
    "presets": {"clips"},
    "trace": {"interfaces"},
    "policy": {"hub"},
    "engines": {"policy"},
    "cli": {"cli_flags"},
}
"""parts that import others of their own floor; all others are strangers to each other"""

PROGRAMS_THAT_CALL_PROGRAMS = {"demo", "sweep"}

FORBIDDEN_LIBRARIES = {
    "lerobot": "its releases exclude each other's dependencies; the format is read and written natively",
    "timm": "its norms change with its version; what is needed of them is a word of the config",
    "torchvision": "one resize for training and running: video2act.frames.fit_frames",
}

FILES = sorted(SOURCE.rglob("*.py"))
PARTS = sorted({file.relative_to(SOURCE).parts[0].removesuffix(".py") for file in FILES})


def name_of(file: Path) -> str:
    return str(file.relative_to(SOURCE))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, file: Path) -> set[str]:
    """Every module that a piece of code imports, `from a import b` as `a.b`."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} line {node.lineno}: write relative imports out"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def files_of(part: str) -> list[Path]:
    return [file for file in FILES if part_of(file) == part]


@cache
def imported_modules(file: Path) -> set[str]:
    return imports(ast.parse(file.read_text()), file)


def imported_parts(file: Path) -> set[str]:
    """Parts of this package that a file imports."""
    return {module.split(".")[1] for module in imported_modules(file) if module.startswith("video2act.")}


def libraries(file: Path) -> set[str]:
    return {module.split(".")[0] for module in imported_modules(file)}


def imported_files(file: Path) -> set[Path]:
    """Files of this package that a file imports; a package stands for its `__init__.py`."""
    found = set()
    for module in imported_modules(file):
        names = module.split(".")[1:] if module.startswith("video2act.") else []
        for size in (len(names), len(names) - 1):  # the last name may be a function
            place = SOURCE.joinpath(*names[:size])
            candidates = [place.with_suffix(".py"), place / "__init__.py"] if size > 0 else []
            existing = [candidate for candidate in candidates if candidate.is_file()]
            if existing:
                found.add(existing[0])
                break
    return found - {file}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_place(part: str):
    assert part in FLOOR, f"{part!r} has no floor yet; decide what it may import and add it to FLOORS"


@pytest.mark.parametrize("part", PARTS)
def test_imports_point_one_way(part: str):
    for file, other in ((path, other) for path in files_of(part) for other in imported_parts(path) - {part}):
        assert other in FLOOR, f"{name_of(file)} imports video2act.{other}, which has no floor"
        assert FLOOR[other] <= FLOOR[part], f"{name_of(file)} must not import {other}, which stands above it"
        if FLOOR[other] == FLOOR[part]:
            assert other in FRIENDS.get(part, set()), f"{name_of(file)} must not import {other}: they share a floor"


@pytest.mark.parametrize("file", sorted((SOURCE / "programs").glob("*.py")), ids=name_of)
def test_programs_do_not_call_programs(file: Path):
    called = {other.stem for other in imported_files(file) if other.parent == SOURCE / "programs"}
    assert file.stem in PROGRAMS_THAT_CALL_PROGRAMS or called <= {"__init__"}, f"{file.name} imports {called}"


def test_no_circle_between_files():
    """A file that is being visited and is met again closes a circle."""
    arrows = {file: sorted(imported_files(file)) for file in FILES}
    done: set[Path] = set()

    def visit(file: Path, way: tuple[Path, ...]) -> None:
        circle = " -> ".join(name_of(part) for part in (*way[way.index(file) :], file)) if file in way else ""
        assert not circle, f"a circle of imports: {circle}"
        if file not in done:
            for other in arrows[file]:
                # a package's front imports its parts, which may import the front's neighbours but not the front itself
                visit(other, (*way, file))
            done.add(file)

    for file in FILES:
        visit(file, ())


def test_no_forbidden_library():
    for library, why in FORBIDDEN_LIBRARIES.items():
        found = [name_of(file) for file in FILES if library in libraries(file)]
        assert not found, f"{found} import {library}: {why}"


@pytest.mark.parametrize("file", [*sorted((SOURCE / "config").glob("*.py")), SOURCE / "presets.py"], ids=name_of)
def test_configuration_needs_no_torch(file: Path):
    assert "torch" not in libraries(file)
    assert imported_parts(file) <= {"config"}


def test_a_file_is_one_idea():
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in FILES}
    too_long = {name: length for name, length in lengths.items() if length > 400}
    assert not too_long, "400 lines at most: a longer file is two ideas"


@pytest.mark.parametrize("part", PARTS)
def test_no_string_stands_alone(part: str):
    """A long string was broken over two lines without parentheses, and its second half was lost."""
    for file in files_of(part):
        no_string_stands_alone(file)


def no_string_stands_alone(file: Path) -> None:
    lines = file.read_text().splitlines()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.JoinedStr)
            or (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))
        ):
            text = lines[node.lineno - 1].strip()
            assert text.startswith(('"""', 'r"""')), f"{name_of(file)} line {node.lineno}: {text} is not used"


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
    assert SOURCE / "config" / "__init__.py" in imported_files(SOURCE / "clips.py")
    assert SOURCE / "observations.py" in imported_files(SOURCE / "policy.py")


RELEASED = SOURCE.parents[1] / "video2act_released" / "src" / "video2act_released"


@pytest.mark.parametrize("file", sorted(RELEASED.glob("*.py")), ids=lambda file: file.name)
def test_the_released_distribution_stands_beside_the_core(file: Path):
    """It imports the core below the programs; the core never imports it."""
    assert libraries(file).isdisjoint(FORBIDDEN_LIBRARIES)
    assert imported_parts(file).isdisjoint({"programs", "training", "evaluation", "cli", "cli_flags"})
    assert len(file.read_text().splitlines()) <= 400
    assert not [name_of(core) for core in FILES if "video2act_released" in libraries(core)]


def test_one_name_one_class():
    """No two public classes of the package share a name, so that a reader who meets the word knows the thing."""
    files: dict[str, list[str]] = {}
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files.setdefault(node.name, []).append(name_of(file))
    shared = {name: found for name, found in files.items() if len(found) > 1}
    assert not shared, f"rename all but one of each: {shared}"
