"""What a network makes of an instruction, kept while it acts: a robot hears the same sentence at every plan."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn

from video2act.precision import autocast_now

MAX_KEPT = 8
"""instructions: a server's clients may have different ones"""

T = TypeVar("T")
Own = TypeVar("Own", bound=nn.Module)


class KeepsInstructions(nn.Module, Generic[T]):
    """A module that keeps what it makes of instructions. It forgets whenever its weights may have changed: `train`,
    `eval`, `to` and the like, and when weights are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[Any, ...], T] = {}
        self.register_load_state_dict_post_hook(_forget)

    def kept(self, instruction: str, make: Callable[[], T]) -> T:
        """What `make` returned for this instruction in this precision. Only for acting: it has no gradient."""
        key = (instruction, *autocast_now())
        found = self._kept.get(key)
        if found is None:
            # also within inference mode, whose tensors a guided chunk could not use
            with torch.inference_mode(False), torch.no_grad():
                found = make()
            # a new dict: the threads of a server share this one
            self._kept = {**dict(list(self._kept.items())[1 - MAX_KEPT :]), key: found}
        return found

    def forget(self) -> None:
        self._kept = {}

    def train(self: Own, mode: bool = True) -> Own:
        _forget(self)
        return super().train(mode)  # type: ignore[misc]

    def _apply(self: Own, *args: Any, **options: Any) -> Own:
        _forget(self)
        return super()._apply(*args, **options)  # type: ignore[misc]


def _forget(module: nn.Module, _: object = None) -> None:
    """A function, since a bound method would stay that of the original in a copy."""
    cast(KeepsInstructions[Any], module).forget()
