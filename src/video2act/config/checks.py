"""What annotations promise: the choices of a `Literal` and bounds of numbers, checked by one function for every
config."""

import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Bound:
    """A marker in `Annotated`: what must hold of the value, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]


FINITE = Bound("must be finite", math.isfinite)
CountingInt = Annotated[int, Bound("must be at least 1", lambda value: value >= 1)]
NonNegativeInt = Annotated[int, Bound("must not be negative", lambda value: value >= 0)]
Positive = Annotated[float, Bound("must be positive", lambda value: value > 0)]
NonNegative = Annotated[float, Bound("must not be negative", lambda value: value >= 0)]
Fraction = Annotated[float, Bound("must lie in [0, 1)", lambda value: 0 <= value < 1)]


def check(condition: bool, message: str) -> None:
    """Raise ValueError with a message that says what was expected, what came and what to do."""
    if not condition:
        raise ValueError(message)


class CheckedConfig:
    """A dataclass whose values are checked against its annotations when it is made."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(config: Any, where: str = "") -> None:
    """Raise ValueError for a value that its field's annotation excludes.

    Args:
        where: what the message begins with.
    """
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if problem := _problem(hint, value):
            listed = f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else repr(value)
            raise ValueError(f"{where}{name} {problem}, got {listed}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _problem(hint: Any, value: Any) -> str:
    """What is wrong with a value, or nothing."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = (bound for bound in arguments[1:] if isinstance(bound, Bound))
        broken = next((bound.words for bound in bounds if not bound.holds(value)), "")
        return _problem(arguments[0], value) or broken
    if origin is Literal:
        return "" if value in arguments else f"must be one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return ""
        problems = [_problem(member, value) for member in arguments if member is not types.NoneType]
        return "" if "" in problems else problems[0]
    if origin is tuple and arguments[-1:] == (...,):
        return next((problem for item in value if (problem := _problem(arguments[0], item))), "")
    return ""
