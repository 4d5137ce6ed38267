"""Lists the package's own error messages, by module, from the source: docs/troubleshooting.md shows them.

    python scripts/error_messages.py [text]    # all of them, or those that contain the text

Values that are filled in at run time stand as `...`.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "video2act"
INTERNAL = {"AttributeError", "KeyboardInterrupt", "NotImplementedError", "StopIteration", "SystemExit", "YAMLError"}
"""errors that no user reads: they are caught, or end an iteration"""
RAISING = {"check", "Bound", "exit"}
"""calls whose texts become errors: `check(condition, message)`, the bounds of a config's fields, `sys.exit`"""
GROUP = re.compile(r"<!-- errors: (.+?) -->")


@functools.cache
def exceptions(source: Path = SOURCE) -> dict[str, str]:
    """Names of the package's own exceptions, with the first line of their docstrings."""
    classes = (node for file in files(source) for node in ast.walk(parse(file)) if isinstance(node, ast.ClassDef))
    found = (node for node in classes if node.name.endswith("Error") and node.bases)
    return {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in found}


@functools.cache
def messages(source: Path = SOURCE) -> dict[str, list[str]]:
    """Module (`data/check.py`) -> the texts of its errors, in the order of the file."""
    found = {file.relative_to(source).as_posix(): list(dict.fromkeys(_texts(parse(file)))) for file in files(source)}
    return {module: texts for module, texts in found.items() if texts}


def groups(page: str, modules: list[str]) -> dict[str, list[str]]:
    """`<!-- errors: data/*.py -->` of a page -> the modules it covers."""
    left, found = list(modules), dict[str, list[str]]()
    # a group that names a module goes before one with a pattern that fits it
    for mark in sorted(GROUP.findall(page), key=lambda mark: mark.count("*")):
        found[mark] = [name for name in left if any(Path(name).match(pattern) for pattern in mark.split())]
        left = [name for name in left if name not in found[mark]]
    return found


def expand(page: str, source: Path = SOURCE) -> str:
    """The page with the messages of each group below its text."""
    texts = messages(source)
    covered = groups(page, list(texts))

    def listed(match: re.Match[str]) -> str:
        lines = [f"    - {_as_code(text)}" for module in covered[match[1]] for text in texts[module]]
        return "\n".join([f'??? note "All {len(lines)} messages of this group"', "", *lines])

    return GROUP.sub(listed, page)


def files(source: Path) -> list[Path]:
    return sorted(source.rglob("*.py"))


@functools.cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if (name.endswith("Error") and name not in INTERNAL) or name in RAISING:
                for argument in node.args:
                    yield from (text for text in literals(argument, tree) if len(re.findall("[a-z]{2}", text)) > 3)


def literals(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The texts that an argument may be: also both sides of `a if b else c`, and what is assigned to a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield " ".join(node.value.split())
    elif isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
        yield " ".join("".join(parts).split())
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body, tree)
        yield from literals(node.orelse, tree)
    elif isinstance(node, ast.BinOp):
        left, right = (" ".join(literals(side, tree)) or "..." for side in (node.left, node.right))
        yield left + right
    elif isinstance(node, ast.Name):
        for found in ast.walk(tree):
            if isinstance(found, ast.Assign) and ast.unparse(found.targets[0]) == node.id:
                yield from literals(found.value, tree)


def _as_code(text: str) -> str:
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


if __name__ == "__main__":
    wanted = sys.argv[1].lower() if len(sys.argv) > 1 else ""
    for module, texts in messages().items():
        for text in texts:
            if wanted in text.lower():
                print(f"{module}: {text}")
