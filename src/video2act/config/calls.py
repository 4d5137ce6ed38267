"""What Python passes to a function, checked where annotations are not: names that are a text, options that no function
has, a config of another kind."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar

from video2act.config.nearby import meant

P = ParamSpec("P")
R = TypeVar("R")
Made = TypeVar("Made")


def check_listed(**given: Sequence[str] | None) -> None:
    """Raise TypeError for a text where names are listed: each of its letters would be a name."""
    for what, names in given.items():
        if isinstance(names, str):
            raise TypeError(f"{what} is a list of names, got the text {names!r}; give a list: [{names!r}]")


def made(options: type[Made], call: str, given: dict[str, Any]) -> Made:
    """The options of a function. Raises TypeError: it has none of that name; the nearest are named."""
    known = [field.name for field in fields(options)]  # type: ignore[arg-type]
    for name in given.keys() - known:
        raise TypeError(f"{call} has no option {name!r}; {meant(name, known)}it has {', '.join(known)}")
    return options(**given)


def takes(training: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function with an argument `training`: TypeError for a config of another kind, and for a name that is no
    argument of the function, or is a field of the config."""
    settings = [field.name for field in fields(training)]

    def checked(function: Callable[P, R]) -> Callable[P, R]:
        known = [*inspect.signature(function).parameters]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            where = f"training={training.__name__}"
            given: Any = kwargs.get("training")
            if given is not None and not isinstance(given, training):
                raise TypeError(f"{function.__name__} takes {where}(...), got a value of type {type(given).__name__}")
            for name in kwargs.keys() - known:
                near = f"give {where}({name}=...); " if name in settings else meant(name, [*known, *settings])
                listed = f"{', '.join(known)}; fields of {where}(...) are {', '.join(settings)}"
                raise TypeError(f"{function.__name__} has no argument {name!r}; {near}it has {listed}")
            return function(*args, **kwargs)

        return call

    return checked
