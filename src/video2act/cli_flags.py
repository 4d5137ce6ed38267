"""Flags from the options that `config/` defines: a field becomes a flag, a field of a policy `--policy.PATH`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from video2act.config import PolicyConfig, SimulatedLatency, load
from video2act.config.paths import dataclass_in, differences, field_docs, replaced, value_at
from video2act.config.training_options import PolicyStart
from video2act.extras import extra
from video2act.presets import ANY_DATA, PRESETS, DataSpec, make_preset
from video2act.threads import use_threads

with extra("serve", "the command line"):  # of video2act-runtime; the whole package always has it
    import tyro
    from tyro.conf import OmitArgPrefixes, Positional, arg
    from tyro.constructors import PrimitiveConstructorSpec

Options = TypeVar("Options")

FLAT = ("training", "runtime")
"""groups whose fields are flags without a prefix"""

POLICY = "--policy."

OTHER_DATA = DataSpec(7, 6, 10.0, ("top",), "lerobot")
"""nothing is as in `ANY_DATA`: what differs between policies for both comes from the data"""

LATENCY = Annotated[
    SimulatedLatency | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="system1=MS,system2=MS,jitter=MS",
        instance_from_str=lambda words: SimulatedLatency.parse(words[0]),
        is_instance=lambda value: value is None or isinstance(value, SimulatedLatency),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""a latency as one word of the command line; not given: none"""

THREADS = (
    "threads",
    Annotated[int | None, arg(help="threads that compute; default: OMP_NUM_THREADS, or half of the cores")],
    dataclasses.field(default=None),
)


def parse(
    options: type[Options],
    words: Sequence[str],
    *,
    program: str,
    positional: tuple[str, ...] = (),
    has_threads: bool = False,
) -> Options:
    """The options that a command line holds. A user's mistake ends the process with a message; so does `--help`.

    Args:
        positional: options that are given by their place.
        has_threads: the program computes; `--threads` is one of its flags, and takes effect here.
    """
    words = list(words)
    policy, from_data = None, set[str]()
    if issubclass(options, PolicyStart):
        policy, absent, from_data = _policy_to_start_from(words)
    flags = _flags(options, positional, policy=policy, from_data=from_data, more=[THREADS] if has_threads else [])
    parsed = tyro.cli(flags, args=words, prog=program, description=options.__doc__)
    if has_threads:
        use_threads(parsed.threads)
    values: dict[str, Any] = {field.name: getattr(parsed, field.name, None) for field in _fields(options)}
    if policy is not None:
        values["changes"] = {**absent, **_changes(parsed.policy, words)}
    return options(**values)


def _fields(options: Any) -> tuple[dataclasses.Field[Any], ...]:
    """`dataclasses.fields`, of a class whose type does not say that it is a dataclass."""
    return dataclasses.fields(options)


def _flags(
    options: type,
    positional: tuple[str, ...],
    *,
    policy: PolicyConfig | None,
    from_data: set[str],
    more: Sequence[tuple[str, Any, Any]],
) -> type:
    """A dataclass whose annotations tell tyro how to show each field, and each of `more`."""
    hints, docs, flags = get_type_hints(options, include_extras=True), dict(field_docs(options)), []
    if policy is not None:
        docs["preset"] += f". One of {', '.join(PRESETS)}"
    for field in dataclasses.fields(options):
        hint = hints[field.name]
        if field.name == "changes":
            continue
        if dataclass_in(hint) is SimulatedLatency:
            hint = LATENCY
        elif dataclasses.is_dataclass(hint):
            flags.append((field.name, OmitArgPrefixes[hint] if field.name in FLAT else hint, _default(field)))
            continue
        hint = Positional[hint] if field.name in positional else hint
        flags.append((field.name, Annotated[hint, arg(help=docs.get(field.name))], _default(field)))
    flags += more
    if policy is not None:
        below = _policy_flags(policy, from_data=from_data)
        flags.append(("policy", below, dataclasses.field(default=below())))
    return _made(options.__name__, flags)


def _default(field: dataclasses.Field[Any]) -> Any:
    return dataclasses.field(default=field.default, default_factory=field.default_factory)  # type: ignore[call-overload]


def _policy_to_start_from(words: list[str]) -> tuple[PolicyConfig, dict[str, None], set[str]]:
    """The policy that the words name; the parts that they leave out (`--policy.system2 None`, taken from the words);
    and the paths of what a preset takes from the data.

    The data are not opened, so values that come from them are those of `ANY_DATA`, and help does not show them.
    """
    light = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    light.add_argument("--preset")
    light.add_argument("--config", type=Path)
    named = light.parse_known_args(words)[0]
    preset, from_data = named.preset or "tiny", set[str]()
    policy = load(PolicyConfig, named.config) if named.config else make_preset(preset, ANY_DATA)
    if not named.config:
        from_data = {path for path, _, _ in differences(policy, make_preset(preset, OTHER_DATA))}
    absent: dict[str, None] = {}
    for number, word in reversed(list(enumerate(words))):
        flag, equals, value = word.partition("=")
        following = [] if equals else words[number + 1 : number + 2]
        path = flag.removeprefix(POLICY).replace("-", "_")
        hint = _hint(policy, path) if flag.startswith(POLICY) and [value, *following][-1] in ("None", "null") else None
        if dataclass_in(hint) is not None:
            if type(None) not in get_args(hint):
                raise ValueError(f"{flag}: a policy needs this part; change its fields instead ({flag}.FIELD)")
            absent[path] = None
            del words[number : number + 1 + len(following)]
    return replaced(policy, absent), absent, from_data


def _hint(policy: PolicyConfig, path: str) -> Any:
    """The type of the field at a path, whether its value is there or None; None for an unknown path."""
    above, _, name = path.rpartition(".")
    parent = value_at(policy, above) if above else policy
    if isinstance(parent, tuple) and (part := value_at(parent, name)) is not None:
        return type(part) | None  # a stream can be left out
    return get_type_hints(type(parent)).get(name) if dataclasses.is_dataclass(parent) else None


def _policy_flags(config: Any, cls: type | None = None, *, from_data: set[str], path: str = "") -> type:
    """A dataclass with the fields of a config, tuples of named parts as groups. Of an absent part (`cls`) all fields
    may be left out; its own parts are not shown: they have no values to start from.

    Args:
        from_data: paths of fields whose values come from the data.
        path: of the config, with a dot at its end.
    """
    kind = cls or type(config)
    hints, docs, flags = get_type_hints(kind), field_docs(kind), []
    for name, hint in hints.items():
        value = None if cls else getattr(config, name)
        absent = None if cls or value is not None else dataclass_in(hint)
        if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            named = {part.name.replace("-", "_"): part for part in value}
            parts = {
                key: _policy_flags(part, from_data=from_data, path=f"{path}{name}.{key}.")
                for key, part in named.items()
            }
            group = [(key, flag, dataclasses.field(default=flag())) for key, flag in parts.items()]
            below = _made(name, group)
        elif dataclasses.is_dataclass(value) or absent is not None:
            below = _policy_flags(value, absent, from_data=from_data, path=f"{path}{name}.")
        elif (name, kind) == ("preset", PolicyConfig) or (cls and any(map(dataclass_in, (hint, *get_args(hint))))):
            continue
        else:
            leaf = hint | None if cls else hint
            shown = "(from the data)" if path + name in from_data else None
            shown_as = arg(help=docs.get(name), help_behavior_hint=shown)
            flags.append((name, Annotated[leaf, shown_as], dataclasses.field(default=value)))
            continue
        flags.append((name, below, dataclasses.field(default=below())))
    return _made(kind.__name__, flags, doc=kind.__doc__)


def _made(name: str, flags: list[tuple[str, Any, Any]], *, doc: str | None = None) -> type:
    made = dataclasses.make_dataclass(name, flags, frozen=True, kw_only=True)
    made.__doc__ = doc
    # of no file: tyro would look for comments on fields in a source that does not exist, which doubled its time
    made.__module__ = "builtins"
    return made


def _changes(parsed: Any, words: Sequence[str]) -> dict[str, Any]:
    """The fields that the words set, with their parsed values."""
    changes = {}
    for word in words:
        if word.startswith(POLICY):
            *parents, last = word.removeprefix(POLICY).partition("=")[0].replace("-", "_").split(".")
            place = value_at(parsed, ".".join(parents)) if parents else parsed
            name = last if hasattr(place, last) else last.removeprefix("no_")
            changes[".".join([*parents, name])] = getattr(place, name)
    return changes
