"""What a checkpoint holds of a training: weights, their moving average, and the optimizer's state, as named tensors.

The schedule follows from the step, and all randomness from (seed, step, rank). Under FSDP each process has its own part
of every tensor.
"""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from video2act.files.weights import check_fit, shapes_of

MOMENTS = ("exp_avg", "exp_avg_sq")
"""of AdamW, beside its `step`"""


class TrainingState:
    """The tensors of a training, to be written and to be filled again.

    Args:
        optimizer: parameter -> AdamW's tensors; a parameter that was never used has none yet.
        average: of the trainable parameters, in their order.
        elsewhere: what the names begin with of frozen weights that are left out.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: MutableMapping[Any, Any],
        average: Sequence[Tensor],
        *,
        elsewhere: tuple[str, ...],
    ):
        self._module, self._optimizer, self._average, self._elsewhere = module, optimizer, average, elsewhere

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """What this process has of each."""
        state = {f"weights.{name}": tensor for name, tensor in self._weights().items()}
        for name, average, parameter in self._trained():
            state[f"average.{name}"] = average
            state |= {f"{key}.{name}": value for key, value in self._optimizer[parameter].items()}
        return {name: own_part(tensor) for name, tensor in state.items()}

    @torch.no_grad()
    def restore(self, found: dict[str, Tensor], *, source: str) -> None:
        """The inverse of `tensors`. Raises ValueError where one is missing, unexpected or of another shape."""
        for name, _, parameter in self._trained():
            if f"step.{name}" in found:
                moments = {key: torch.zeros_like(parameter) for key in MOMENTS}
                step = torch.zeros((), device=own_part(parameter).device)
                self._optimizer[parameter] = {"step": step, **moments}
        own = self.tensors()
        check_fit(shapes_of(own), shapes_of(found), source=source)
        for name, tensor in own.items():
            tensor.copy_(found[name])

    def _weights(self) -> dict[str, Tensor]:
        parameters = dict(self._module.named_parameters())  # tied ones once
        every = set(dict(self._module.named_parameters(remove_duplicate=False)))
        buffers = {name: tensor for name, tensor in self._module.state_dict().items() if name not in every}
        return {
            name: tensor
            for name, tensor in (parameters | buffers).items()
            if tensor.requires_grad or not name.startswith(self._elsewhere)
        }

    def _trained(self) -> list[tuple[str, Tensor, nn.Parameter]]:
        named = [(name, p) for name, p in self._module.named_parameters() if p.requires_grad]
        return [(name, average, p) for (name, p), average in zip(named, self._average, strict=True)]


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, unless FSDP has divided it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
