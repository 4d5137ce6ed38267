"""Two json documents compared, value by value."""

from typing import Any

SHOWN = 120
"""characters of a value that a message shows"""


def differences(before: Any, now: Any, *, words: tuple[str, str]) -> list[str]:
    """`streams.motion.stride: 1 then, 2 now`, for every value that is not the same. One that is missing is the same as
    null.

    Args:
        words: what stands after the first value, and after the second.
    """
    first, second = _flat(before), _flat(now)
    return [
        f"{key}: {short(first.get(key, 'nothing'))} {words[0]}, {short(second.get(key, 'nothing'))} {words[1]}"
        for key in dict.fromkeys((*second, *first))
        if first.get(key) != second.get(key)
    ]


def short(value: Any) -> str:
    """The beginning of a value's text."""
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested json as one level of dotted keys; entries of lists go by their `name`, if they have one."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in _flat(item, f"{prefix}.{name}" if prefix else name).items()
    }
