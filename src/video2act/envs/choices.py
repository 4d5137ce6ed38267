"""Errors for unknown names."""

from collections.abc import Collection
from difflib import get_close_matches

SHOWN = 30
"""names of a family that are listed; of more, only their number is"""
ALL = "video2act info environments"


def check_choice(kind: str, value: str, *, choices: Collection[str]) -> None:
    """Raise ValueError, with the closest match and the choices, unless `value` is one of them; `kind` is their noun.
    Choices whose last numbers follow each other (`suite/0`, `suite/1`) are listed as one (`suite/0..1`); of
    `family:name` those of the same family, if they are few."""
    if value not in choices:
        close = _closest(value, choices)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        listed = _families(value, choices) if any(":" in each for each in choices) else _listed(choices)
        raise ValueError(f"unknown {kind} {value!r}.{hint} {listed}")


def _closest(value: str, choices: Collection[str]) -> list[str]:
    """The nearest choice. Where a family was forgotten or is not known, those with the nearest name in any family."""
    family = value.partition(":")[0]
    is_known = any(each.startswith(f"{family}:") for each in choices)
    names = {each.partition(":")[2]: each for each in choices if ":" in each}
    near = get_close_matches(value.rpartition(":")[2], names, n=1)
    if near and not is_known:
        return sorted(each for each in choices if each.partition(":")[2] == near[0])
    return get_close_matches(value, choices, n=1)


def _families(value: str, choices: Collection[str]) -> str:
    families: dict[str, list[str]] = {}
    for each in choices:
        families.setdefault(each.partition(":")[0], []).append(each)
    same = ranges(families.get(value.partition(":")[0], ()))
    own = f"{_listed(same)}. " if 0 < len(same) <= SHOWN else ""
    counts = ", ".join(f"{family} ({len(names)})" for family, names in sorted(families.items()))
    return f"{own}There are families {counts}; this lists all: {ALL}"


def _listed(choices: Collection[str]) -> str:
    return f"Choose from: {', '.join(ranges(choices))}"


def ranges(choices: Collection[str]) -> list[str]:
    """Sorted, those whose last numbers follow each other as one: `suite/0..1`."""
    numbers: dict[str, list[int]] = {}
    plain = []
    for choice in choices:
        name, slash, number = choice.rpartition("/")
        if slash and number.isdigit():
            numbers.setdefault(name, []).append(int(number))
        else:
            plain.append(choice)
    return sorted([*plain, *(f"{name}/{run}" for name, found in numbers.items() for run in _runs(sorted(found)))])


def _runs(numbers: list[int]) -> list[str]:
    """1, 2, 3, 7 -> 1..3, 7."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return [f"{start}..{end}" if end > start else f"{start}" for start, end in zip(starts, ends, strict=True)]
