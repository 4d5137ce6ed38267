"""Every field of a config by its path: `system2.streams.motion.filter.name`. Listed, replaced, compared.

A stream stands in its path by its name. Dashes count as underscores.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from video2act.config.checks import located
from video2act.config.files import build
from video2act.config.nearby import meant

Config = TypeVar("Config")


def replaced(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with fields changed, all at once, so that each may depend on the others.

    Args:
        changes: path -> value. A mapping as value changes several fields below a path; None takes a part out that a
            config can be without, such as one of several streams.
    Raises:
        ValueError: an unknown path, with the nearest ones; a value of another type; values that contradict each other.
    """
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        _plant(tree, path.replace("-", "_").split("."), value, path=path)
    return _changed(type(config), config, tree, where="")


def differences(config: Any, other: Any) -> list[tuple[str, Any, Any]]:
    """(path, value, the other's value) of every field in which two configs differ; a missing part is None."""
    if _children(config) and _children(other) and type(config) is type(other):
        ours, theirs = _children(config), _children(other)
        return [
            (f"{name}.{below}".rstrip("."), a, b)
            for name in {**ours, **theirs}
            for below, a, b in differences(ours.get(name), theirs.get(name))
        ]
    return [] if config == other else [("", config, other)]


def value_at(config: Any, path: str) -> Any:
    """The part or value at a path; None if there is none."""
    for name in path.split("."):
        config = _children(config).get(name)
    return config


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    docs: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]).body
        for field, doc in pairwise(body):
            is_doc = isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_doc:
                docs[field.target.id] = " ".join(str(doc.value.value).split())  # type: ignore[union-attr]
    return docs


def dataclass_in(hint: Any) -> type | None:
    """The dataclass that an optional part may hold: `PretrainedConfig | None` -> `PretrainedConfig`."""
    members = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next((member for member in members if dataclasses.is_dataclass(member)), None)  # type: ignore[return-value]


def _children(config: Any) -> dict[str, Any]:
    """The parts of a node by name; none of a value."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if isinstance(config, tuple) and config and all(dataclasses.is_dataclass(item) for item in config):
        return {item.name.replace("-", "_"): item for item in config}
    return {}


def _plant(tree: dict[str, Any], names: list[str], value: Any, *, path: str) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ValueError(f"cannot set {path}: another change replaces a part above it; remove one of the two")
    last = names[-1]
    if isinstance(value, Mapping):
        tree.setdefault(last, {})
        for key, item in value.items():
            _plant(tree, [*names[-1:], *str(key).replace("-", "_").split(".")], item, path=path)
        return
    if last in tree:
        raise ValueError(f"{path}: given twice; change it once")
    tree[last] = _Value(value)


@dataclasses.dataclass(frozen=True)
class _Value:
    content: Any


def _changed(hint: Any, config: Any, change: Any, *, where: str) -> Any:
    if isinstance(change, _Value):
        return build(hint, change.content, where=where)
    below = _children(config)
    if not below:
        absent = dataclass_in(hint)
        if config is not None or absent is None:
            raise ValueError(f"{where} is a value, {config!r}; it has no field {next(iter(change))}")
        return build(absent, _plain(change), where=where)
    unknown = next((name for name in change if name not in below), None)
    if unknown is not None:
        raise ValueError(_unknown(unknown, below, where))
    is_tuple = isinstance(config, tuple)
    hints = dict.fromkeys(below, get_args(hint)[0]) if is_tuple else get_type_hints(type(config))
    removed = {name for name, inner in change.items() if is_tuple and inner == _Value(None)}
    new = {
        name: _changed(hints[name], below[name], inner, where=f"{where}.{name}".lstrip("."))
        for name, inner in change.items()
        if name not in removed
    }
    if is_tuple:
        return tuple(item for name, item in {**below, **new}.items() if name not in removed)
    with located(where):
        return dataclasses.replace(config, **new)


def _plain(change: dict[str, Any]) -> dict[str, Any]:
    return {name: item.content if isinstance(item, _Value) else _plain(item) for name, item in change.items()}


def _unknown(name: str, below: dict[str, Any], where: str) -> str:
    return f"{where or 'the policy'} has no {name!r}; {meant(name, below, n=3)}It has {', '.join(below)}"
