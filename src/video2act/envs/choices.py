"""Errors for unknown names."""

from collections.abc import Collection
from difflib import get_close_matches


def check_choice(kind: str, value: str, *, choices: Collection[str]) -> None:
    """Raise ValueError, with the closest match and all choices, unless `value` is one of them; `kind` is their noun."""
    if value not in choices:
        close = get_close_matches(value, choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown {kind} {value!r}.{hint} Choose from: {', '.join(sorted(choices))}")
