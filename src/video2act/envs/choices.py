"""Names that a person types: an unknown one is answered with the closest match and with everything that exists."""

from collections.abc import Collection
from difflib import get_close_matches


def check_choice(kind: str, value: str, *, choices: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`; `kind` says what the names are names of."""
    if value in choices:
        return
    close = get_close_matches(value, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {kind} {value!r}.{hint} Choose from: {', '.join(sorted(choices))}")
