"""Where the action tokens attend: the weights of every cross-attention while a chunk is denoised.

The weights are computed again from the inputs of each layer, because the fused kernel does not return them. They are
means over the actions of the chunk, the heads and the denoising steps. They say what is read, not what decides: a
token with little weight can matter, and one with much can be ignored.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from video2act.layers import CrossAttention, KeyValue
from video2act.system1.action_dit import NUM_PREFIX, ActionDiT


def weights(cross: CrossAttention, x: Float[Tensor, "b n d"], condition: KeyValue) -> Float[Tensor, "b heads n m"]:
    """The attention weights of a layer; zero where nothing is visible. Each row adds up to 1, or to 0."""
    query = cross.query_norm(rearrange(cross.query(x), "b n (heads d) -> b heads n d", heads=cross.num_heads))
    scores = (query @ condition.key.transpose(-1, -2)).float() / query.shape[-1] ** 0.5
    if condition.mask is not None:
        scores = scores.masked_fill(~condition.mask[:, None, None], -torch.inf)
    return scores.softmax(dim=-1).nan_to_num(0.0)


class Attended:
    """The mean weights of each block, once a chunk was denoised."""

    def __init__(self, num_blocks: int):
        self._sums: list[Tensor | None] = [None] * num_blocks
        self._counts = [0] * num_blocks

    def add(self, block: int, found: Float[Tensor, "1 heads n m"]) -> None:
        mean = found[0, :, NUM_PREFIX:].mean(dim=(0, 1)).cpu()
        before = self._sums[block]
        self._sums[block] = mean if before is None else before + mean
        self._counts[block] += 1

    def blocks(self) -> list[Float[Tensor, "m"]]:
        """Raises ValueError: nothing was denoised."""
        means = [total / count for total, count in zip(self._sums, self._counts, strict=True) if total is not None]
        if len(means) < len(self._sums):
            raise ValueError("no chunk was denoised while the attention was recorded")
        return means


@contextmanager
def attention_recorded(dit: ActionDiT) -> Iterator[Attended]:
    """Record what a transformer attends to, of one chunk at a time, while the context is open."""
    attended = Attended(len(dit.blocks))

    def record(block: int, module: CrossAttention, inputs: tuple[Tensor, KeyValue]) -> None:
        attended.add(block, weights(module, *inputs))

    with ExitStack() as hooks:
        for number, block in enumerate(dit.blocks):
            hook = block.cross.register_forward_pre_hook(  # type: ignore[union-attr]
                lambda module, inputs, number=number: record(number, module, inputs)
            )
            hooks.callback(hook.remove)
        yield attended
