"""Configs as json or yaml. Unknown and missing fields are errors that name the file and the place in it."""

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from video2act.config.checks import check

Config = TypeVar("Config")


def to_json(config: Any) -> str:
    """Any config as readable json."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


Complete = Callable[[dict[str, Any]], None]
"""fills in fields that files of older versions lack"""


def from_json(cls: type[Config], text: str, *, source: str, complete: Complete | None = None) -> Config:
    """The inverse of `to_json`; `source` names the file in errors. Unknown and missing fields are errors."""
    fields = _parse(text, source)
    if complete and isinstance(fields, dict):
        complete(fields)
    return build(cls, fields, where=source)


def load(cls: type[Config], path: Path, *, complete: Complete | None = None) -> Config:
    """Read a config file, json or yaml. Raises FileNotFoundError, or ValueError naming the field that is wrong."""
    return from_json(cls, _read(path), source=str(path), complete=complete)


def load_one_of(path: Path, *classes: type[Any]) -> Any:
    """As `load`, for a file that holds a config of one of several classes, told apart by their field `name`."""
    return build(typing.Union[classes], _parse(_read(path), str(path)), where=str(path))  # noqa: UP007


def _read(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a run folder holds config.json, model.safetensors and stats.json"
        )
    return path.read_text()


def _parse(text: str, source: str) -> Any:
    is_yaml = source.endswith((".yaml", ".yml"))
    try:
        return yaml.safe_load(text) if is_yaml else json.loads(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{source} is not valid {'yaml' if is_yaml else 'json'}: {error}") from error


def build(hint: Any, value: Any, *, where: str) -> Any:
    """A value of the annotated type from plain data; a config that exists already is taken as it is.

    Raises:
        ValueError: an unknown or missing field, or a value that does not fit; `where` names its place.
    """
    name = getattr(hint, "__name__", str(hint))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        check(isinstance(value, dict), f"{where}: expected an object for {name}, got {value!r}")
        hints = get_type_hints(hint)
        unknown = sorted(set(value) - set(hints))
        check(not unknown, f"{where}: unknown field {', '.join(unknown)} of {name}; it has {', '.join(hints)}")
        required = {field.name for field in dataclasses.fields(hint) if field.default is dataclasses.MISSING}
        missing = sorted(required - set(value))
        check(not missing, f"{where}: missing field {', '.join(missing)} of {name}")
        values = {key: build(hints[key], item, where=f"{where}: {key}") for key, item in value.items()}
        with located(where):
            return hint(**values)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        check(isinstance(value, list | tuple), f"{where}: expected a list, got {value!r}")
        return tuple(build(arguments[0], item, where=f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        check(isinstance(value, dict), f"{where}: expected a map, got {value!r}")
        return {key: build(arguments[1], item, where=f"{where}: {key}") for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        return build(_member(arguments, value), value, where=where)
    if origin is Literal:
        check(value in arguments, f"{where}: {value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    check(type(value) is hint, f"{where}: expected {name}, got {value!r}")
    return value


@contextmanager
def located(where: str) -> Iterator[None]:
    """Begin the message of a ValueError with the place where it happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


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
    check(name in names or anyone is not None, f"unknown name {name!r}; choose from {', '.join(names)}")
    return names.get(name, anyone)
