"""Two json documents compared, value by value."""

from typing import Any

SHOWN = 120
"""characters of a value that a message shows"""


def differences(before: Any, now: Any, *, words: tuple[str, str], place: str = "") -> list[str]:
    """`streams.motion.stride: 1 then, 2 now`, for every value that is not the same. One that is missing is the same as
    null; of an object that only one of them has, the fields are not listed.

    Args:
        words: what stands after the first value, and after the second.
        place: of the values in the whole documents.
    """
    first, second = _by_name(before), _by_name(now)
    if isinstance(first, dict) and isinstance(second, dict):
        found = []
        for name in dict.fromkeys((*second, *first)):
            inner = f"{place}.{name}" if place else name
            found += differences(first.get(name), second.get(name), words=words, place=inner)
        return found
    if first == second or (_is_empty(first) and _is_empty(second)):
        return []
    then, there = ("nothing" if value is None else short(value) for value in (before, now))
    return [f"{place}: {then} {words[0]}, {there} {words[1]}"]


def short(value: Any) -> str:
    """The beginning of a value's text; of an object, the names of its fields."""
    text = f"{{{', '.join(map(str, value))}}}" if isinstance(value, dict) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_empty, value.values())))


def _by_name(value: Any) -> Any:
    """Entries of a list go by their `name`, if they have one."""
    is_named = isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value)
    return {item["name"]: item for item in value} if is_named else value
