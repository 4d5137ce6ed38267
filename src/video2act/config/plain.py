"""Plain data from json and yaml that may be damaged or hostile: every way in which a text is wrong is a ValueError."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml

from video2act.config.checks import shown


def parse_json(text: str | bytes) -> Any:
    """Raises ValueError: no json, nested too deeply, or with a name that stands twice in one object: readers would
    keep one value or the other."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """As `parse_json`, of a file in any of Unicode's forms. Raises OSError: it cannot be read."""
    return parse_json(path.read_bytes())


@contextmanager
def damage_named(path: Path, remedy: str) -> Iterator[None]:
    """Name the file in which something is not what was expected. Raises ValueError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
        raise ValueError(f"{path} is damaged ({what[:200]}); {remedy}") from error


def parse_yaml(text: str) -> Any:
    """The same for yaml, as its version 1.2 has it: `1e-4` is a number; `yes`, dates and `1:30` are texts. Values are
    written out, without aliases and tags. Raises ValueError."""
    try:
        return yaml.load(text, _YamlLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{place}{error.problem}") from error
    except (OverflowError, yaml.YAMLError) as error:  # an escaped letter beyond Unicode overflows
        raise ValueError(str(error).partition("\n")[0]) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} stands twice in one object; keep one")
    return made


class _YamlLoader(yaml.SafeLoader):
    """Plain data only, each value written out once."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # those of yaml 1.1 take sexagesimal numbers of any length

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):  # a small file can make a huge one
            raise yaml.YAMLError("it has an alias (*name); write the value out")
        if getattr(event, "tag", None):
            raise yaml.YAMLError(f"it has a tag ({shown(event.tag)}); write the plain value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        made = super().construct_mapping(node, deep=deep)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            name, line = self.construct_object(key), key.start_mark.line + 1
            if name in lines:
                twice = f"{shown(name)} stands twice in one map, in line {lines[name]} and in line {line}"
                raise yaml.YAMLError(f"{twice}; keep one")
            lines[name] = line
        return made


_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _tag, _form, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _YamlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_form})\Z"), _first)
