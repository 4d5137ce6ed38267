"""Configs as json or yaml. Unknown and missing fields are errors that name the file and the place in it."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from video2act.config.checks import MAX_ITEMS, check, located, members, shown
from video2act.config.nearby import nearby
from video2act.config.plain import parse_json, parse_yaml

Config = TypeVar("Config")

MAX_BYTES, MAX_YAML_BYTES = 2**20, 2**17
"""of a config file; yaml takes a hundred times as long to read as json"""


def to_json(config: Any) -> str:
    """Any config as readable json."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


Complete = Callable[[dict[str, Any]], None]
"""fills in fields that files of older versions lack"""


def from_json(cls: type[Config], text: str, *, source: str, complete: Complete | None = None) -> Config:
    """The inverse of `to_json`; `source` names the file in errors. Unknown and missing fields are errors."""
    return _built(cls, _parse(text, source), source=source, complete=complete)


def load(cls: type[Config], path: Path, *, complete: Complete | None = None) -> Config:
    """Read a config file, json or yaml. Raises FileNotFoundError, or ValueError naming the field that is wrong."""
    return _built(cls, read_plain(path), source=str(path), complete=complete)


def _built(cls: type[Config], fields: Any, *, source: str, complete: Complete | None) -> Config:
    try:
        if complete and isinstance(fields, dict):
            complete(fields)
    except (LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {shown(error.args[0]) if error.args else ''}"
        problem = f"{source} is in the form of no version of this program ({what})"
        raise ValueError(f"{problem}; copy it again, or undo what was edited by hand") from error
    return build(cls, fields, where=source)


def read_plain(path: Path) -> Any:
    """Plain data from a file of json, or of yaml if it is named so.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, too large or too deep; or it has a name that stands twice, or yaml's aliases or
            tags.
    """
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; name the file in it, such as {path}/config.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist{nearby(path)}; a run folder holds config.json, model.safetensors and stats.json"
        )
    size = path.stat().st_size
    most = MAX_YAML_BYTES if path.suffix in (".yaml", ".yml") else MAX_BYTES
    check(size <= most, f"{path} has {size} bytes, at most {most} are read; a config has a few thousand")
    return _parse(path.read_bytes(), str(path))


def _parse(text: str | bytes, source: str) -> Any:
    is_yaml = source.endswith((".yaml", ".yml"))
    try:
        if not is_yaml:
            return parse_json(text)
        made = parse_yaml(text if isinstance(text, str) else text.decode("utf-8-sig", errors="replace"))
    except ValueError as error:
        raise ValueError(f"{source} is not valid {'yaml' if is_yaml else 'json'}: {error}") from error
    check(made is not None, f"{source} is empty")
    return made


def build(hint: Any, value: Any, *, where: str) -> Any:
    """A value of the annotated type from plain data; a config that exists already is taken as it is.

    Raises:
        ValueError: an unknown or missing field, or a value that does not fit; `where` names its place.
    """
    name = getattr(hint, "__name__", str(hint))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        check(isinstance(value, dict), f"{where}: expected an object for {name}, got {shown(value)}")
        hints = get_type_hints(hint)
        unknown = sorted(set(map(str, value)) - set(hints))
        listed = ", ".join(shown(field).strip("'") for field in unknown[:10])
        close = get_close_matches(unknown[0], hints, n=1) if unknown else []
        it = f"did you mean {close[0]!r}? It" if close else "it"
        check(not unknown, f"{where}: unknown field {listed} of {name}; {it} has {', '.join(hints)}")
        required = {
            field.name
            for field in dataclasses.fields(hint)
            if field.default is field.default_factory is dataclasses.MISSING
        }
        missing = sorted(required - set(value))
        check(not missing, f"{where}: missing field {', '.join(missing)} of {name}")
        values = {key: build(hints[key], item, where=f"{where}: {key}") for key, item in value.items()}
        with located(where):
            return hint(**values)
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if origin is tuple:
        check(isinstance(value, list | tuple), f"{where}: expected a list, got {shown(value)}")
        check(len(value) <= MAX_ITEMS, f"{where}: expected a list of at most {MAX_ITEMS} items, got {len(value)}")
        hints = members(arguments, value)
        check(len(value) == len(hints), f"{where}: expected {len(hints)} items, got {shown(value)}")
        pairs = zip(hints, value, strict=True)
        return tuple(build(each, item, where=f"{where}[{i}]") for i, (each, item) in enumerate(pairs))
    if origin is dict:
        check(isinstance(value, dict), f"{where}: expected a map, got {shown(value)}")
        check(len(value) <= MAX_ITEMS, f"{where}: expected a map of at most {MAX_ITEMS} items, got {len(value)}")
        of_key, of_item = arguments
        return {
            build(of_key, key, where=f"{where}: name {shown(key)}"): build(of_item, item, where=f"{where}: {key}")
            for key, item in value.items()
        }
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return build(_member(arguments, value), value, where=where)
    if origin is Literal:
        check(value in arguments, f"{where}: {shown(value)} is not one of {', '.join(map(repr, arguments))}")
        return value
    if hint is float and type(value) is int:
        check(abs(value) < 2**1000, f"{where}: expected float, got {shown(value)}")
        return float(value)
    check(type(value) is hint, f"{where}: expected {name}, got {shown(value)}")
    return value


def _member(union: tuple[Any, ...], value: Any) -> Any:
    """The type in a union that the data means: of several dataclasses, the one that has the data's `name`."""
    members = [member for member in union if member is not types.NoneType]
    own = next((member for member in members if isinstance(member, type) and isinstance(value, member)), None)
    if own is not None:
        return own
    name = value.get("name") if isinstance(value, dict) else None
    if len(members) == 1 or name is None:
        return members[0]
    names = {choice: member for member in members for choice in get_args(get_type_hints(member)["name"])}
    # one that has no list of names checks them itself
    anyone = next((member for member in members if get_type_hints(member)["name"] is str), None)
    check(
        isinstance(name, str) and (name in names or anyone is not None),
        f"unknown name {shown(name)}; choose from {', '.join(names)}",
    )
    return names.get(name, anyone)
