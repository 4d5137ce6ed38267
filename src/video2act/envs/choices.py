"""Errors for unknown names."""

from collections.abc import Collection
from difflib import get_close_matches


def check_choice(kind: str, value: str, *, choices: Collection[str]) -> None:
    """Raise ValueError, with the closest match and all choices, unless `value` is one of them; `kind` is their noun.
    Choices that differ in a last number (`suite/0`, `suite/1`) are listed as one (`suite/0..1`)."""
    if value not in choices:
        close = get_close_matches(value, choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown {kind} {value!r}.{hint} Choose from: {', '.join(_ranges(choices))}")


def _ranges(choices: Collection[str]) -> list[str]:
    numbers: dict[str, list[int]] = {}
    plain = []
    for choice in choices:
        name, slash, number = choice.rpartition("/")
        if slash and number.isdigit():
            numbers.setdefault(name, []).append(int(number))
        else:
            plain.append(choice)
    return sorted([*plain, *(f"{name}/{min(found)}..{max(found)}" for name, found in numbers.items())])
