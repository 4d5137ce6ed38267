"""Parts of a published transformer that depend on the instruction and the noise level alone, computed once for them.

A robot's instruction stays while the picture changes. A part keeps its last output, with what it was computed from,
and returns it while inputs, weights and precision are the same. Nothing is kept where gradients are recorded, or while
a graph is traced.
"""

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from video2act.precision import autocast_now

MAX_BYTES = 8 * 2**20
"""of inputs: one sentence of 512 tokens of 4096 numbers. For larger batches nothing is kept"""


def keep_outputs(transformer: nn.Module, patterns: tuple[str, ...]) -> None:
    """Let the modules whose names match a pattern keep their outputs; names of weights stay."""
    for name, module in transformer.named_modules():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            kind = type(module)
            module.__class__ = _KINDS.setdefault(kind, type(f"Keeping{kind.__name__}", (_Keeping, kind), {}))


_KINDS: dict[type, type] = {}


class _Keeping(nn.Module):
    """Mixed into a module's class."""

    _kept: tuple[Any, Any, Any] | None = None
    """inputs, weights and precision, output"""

    def forward(self, *given: Any, **named: Any) -> Any:
        inputs = [*given, *named.items()]
        size = sum(one.nbytes for one in (*given, *named.values()) if isinstance(one, Tensor))
        is_traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if torch.is_grad_enabled() or is_traced or size > MAX_BYTES:
            self._kept = None
            return super().forward(*given, **named)
        weights: list[Any] = [(weight.data_ptr(), weight._version) for weight in self.parameters()]
        weights.append(autocast_now())
        if self._kept is None or self._kept[1] != weights or not _are_same(self._kept[0], inputs):
            self._kept = inputs, weights, super().forward(*given, **named)
        return self._kept[2]


def _are_same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(map(_is_same, before, now))


def _is_same(before: Any, now: Any) -> bool:
    if isinstance(before, tuple) and isinstance(now, tuple):
        return _are_same(list(before), list(now))
    if not (isinstance(before, Tensor) and isinstance(now, Tensor)):
        return type(before) is type(now) and before == now
    is_alike = before.shape == now.shape and before.dtype == now.dtype and before.device == now.device
    return before is now or (is_alike and torch.equal(before, now))
