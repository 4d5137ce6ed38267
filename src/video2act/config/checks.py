"""Checks of every config by its annotations: the choices of a `Literal` and the bounds of numbers."""

import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Bound:
    """A marker in `Annotated`: what must hold of the value, in words and as a test."""

    words: str
    holds: Callable[[Any], bool]

    def problem(self, value: Any) -> str:
        return "" if self.holds(value) else self.words


@dataclass(frozen=True)
class Between:
    """A marker in `Annotated`: the least and the greatest number. A file of a kilobyte must not ask for a terabyte."""

    least: int
    most: int

    def problem(self, value: Any) -> str:
        if value < self.least:
            return f"must be at least {self.least}" if self.least else "must not be negative"
        return f"must be at most {self.most}" if value > self.most else ""


ANY_INT = Between(-(10**6), 10**6)
"""bound of a whole number without a bound of its own"""
MAX_LETTERS, MAX_ITEMS = 10_000, 1_000
"""of a text, and of a tuple"""

FINITE = Bound("must be finite", math.isfinite)
CountingInt = Annotated[int, Between(1, 10**6)]
NonNegativeInt = Annotated[int, Between(0, 10**6)]
Layers = Annotated[int, Between(1, 256)]
Width = Annotated[int, Between(1, 2**16)]
TextWidth = Annotated[int, Between(4, 2**16)]
"""of a text encoder with four heads"""
Pixels = Annotated[int, Between(1, 2**13)]
TrainingSteps = Annotated[int, Between(0, 10**9)]
Seed = Annotated[int, Between(0, 2**32 - 1)]
Processes = Annotated[int, Between(1, 1024)]
PoolName = Annotated[
    str,
    Bound(
        "must be local, ray or ray://HOST:PORT",
        lambda value: re.fullmatch(r"local|ray|ray://[^\s/]+:\d{1,5}", value) is not None,
    ),
]
POSITIVE = Bound("must be positive", lambda value: value > 0)
Positive = Annotated[float, POSITIVE, FINITE]
NonNegative = Annotated[float, Bound("must not be negative", lambda value: value >= 0), FINITE]
Fraction = Annotated[float, Bound("must lie in [0, 1)", lambda value: 0 <= value < 1)]


def check_divisible(config: Any, name: str, by: str) -> None:
    """Raise ValueError unless one field is a multiple of another."""
    value, part = getattr(config, name), getattr(config, by)
    check(value % part == 0, f"{name}={value} is not divisible by {by}={part}")


def check(condition: bool, message: str) -> None:
    """Raise ValueError. The message holds what was expected, the value and the remedy."""
    if not condition:
        raise ValueError(message)


def check_once(values: Sequence[Any], what: str, *, why: str) -> None:
    """Raise ValueError, naming the first value that is given twice, and why that would be wrong."""
    for place, value in enumerate(values):
        check(value not in values[:place], f"{what} {value} is given twice; name it once: {why}")


def check_relative_actions(relative: Sequence[str], names: Sequence[str], *, what: str = "relative_actions") -> None:
    """Raise ValueError for an action that is said to be relative twice, or is not among the names of the actions."""
    check_once(relative, "relative action", why="each action is relative or is not")
    unknown = ", ".join(name for name in relative if name not in names)
    check(not unknown, f"{what} names {unknown}, but the actions are {', '.join(names) or 'not named'}")


def order_problem(what: str, trained: Sequence[str], given: Sequence[str]) -> str:
    """How names stand at other places than in training, where numbers have no other sign of what they mean; empty if
    none does. Names that only one side has say nothing."""
    if all(name not in given or given.index(name) == place for place, name in enumerate(trained)):
        return ""
    return f"order of the {what}: {', '.join(trained)} in training, here {', '.join(given)}"


@contextmanager
def located(where: str) -> Iterator[None]:
    """Begin the message of a ValueError with the place where it happened."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


class CheckedConfig:
    """A dataclass whose values are checked when it is made: against its annotations, then with one another."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            if problem := problem_of(hint, value):
                raise ValueError(f"{name} {problem}, got {shown(value)}")
        self._check()

    def _check(self) -> None:
        """Raise ValueError for values that contradict each other."""


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 120


def shown(value: Any) -> str:
    """A value in a message: its beginning, if it is long."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of {value.bit_length()} bits"
    try:
        text = f"[{', '.join(map(str, value[:20]))}]" if isinstance(value, tuple) else _brief.repr(value)
    except ValueError:  # Python prints no number of more than 4,300 digits
        text = type(value).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def members(arguments: tuple[Any, ...], value: Sequence[Any]) -> tuple[Any, ...]:
    """The type of each item of a tuple, from `get_args` of the tuple's own."""
    return arguments[:1] * len(value) if arguments[-1:] == (...,) else arguments


def _kind_problem(hint: Any, value: Any) -> str:
    """Whether something came that no bound could be compared with."""
    if get_origin(hint) is tuple and not isinstance(value, (tuple, list)):
        return "must be a tuple"
    if hint is int and not isinstance(value, Integral):
        return "must be a whole number"
    return "must be a number" if hint is float and not isinstance(value, Real) else ""


def problem_of(hint: Any, value: Any) -> str:
    """What is wrong with a value, or nothing."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if problem := _kind_problem(arguments[0], value):
            return problem
        bounds = [bound for bound in arguments[1:] if isinstance(bound, Bound | Between)]
        closer = next((problem for bound in bounds if (problem := bound.problem(value))), "")
        is_number = arguments[0] in (int, float)  # which has a bound of its own, then
        return closer or ("" if bounds and is_number else problem_of(arguments[0], value))
    if origin is Literal:
        return "" if value in arguments else f"must be one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return ""
        problems = [problem_of(member, value) for member in arguments if member is not types.NoneType]
        return "" if "" in problems else problems[0]
    if origin in (tuple, dict):
        if problem := _kind_problem(hint, value):
            return problem
        if len(value) > MAX_ITEMS:
            return f"must have at most {MAX_ITEMS} items, not {len(value)}"
        hints = arguments * len(value) if origin is dict else members(arguments, value)
        if origin is tuple and len(hints) != len(value):
            return f"must have {len(hints)} items, not {len(value)}"
        items = chain.from_iterable(value.items()) if origin is dict else value
        pairs = zip(hints, items, strict=True)
        return next((problem for each, item in pairs if (problem := problem_of(each, item))), "")
    if hint in (int, float):
        return _kind_problem(hint, value) or (ANY_INT if hint is int else FINITE).problem(value)
    if hint in (str, Path):
        return f"must have at most {MAX_LETTERS} letters" if len(str(value)) > MAX_LETTERS else ""
    return ""
