"""Running the first blocks of a published video diffusion transformer, and taking what leaves some of them.

The transformer is diffusers' own class, built without memory from its config, compared with the checkpoint, cut, and
only then given weights: blocks behind the cut are neither loaded nor run. Each tap is an `InputRecorder`, so the
transformer's own `forward` does everything before the blocks (patches, positions, noise level, text) as it was trained.
The head after them runs too: it is small, and leaving a forward pass by an exception would rule out compilation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from video2act.system2.backbones.checkpoint import check_checkpoint, fill
from video2act.system2.backbones.sources import Component


class InputRecorder(nn.Module):
    """A block that changes nothing and remembers what it was given.

    Args:
        returns_pair: the model's blocks return video and text, not video alone.
    """

    def __init__(self, returns_pair: bool):
        super().__init__()
        self.returns_pair = returns_pair
        self._given: list[Tensor] = []

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *rest: Any, **named: Any
    ) -> Any:
        self._given = [hidden_states]
        return (hidden_states, encoder_hidden_states) if self.returns_pair else hidden_states

    def hook(self, attention: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Remember the input of another module."""
        self._given = [named["hidden_states"] if "hidden_states" in named else given[0]]

    def take(self) -> Float[Tensor, "b n d"]:
        """What the block was given, once: it is not kept."""
        return self._given.pop()


ATTENTIONS = ("attn1", "attn")
"""names of a block's self-attention, which reads what the block's norm and modulation made of its input"""


@dataclass(frozen=True)
class Cut:
    """Which blocks of a diffusers transformer run."""

    lists: tuple[str, ...]
    """the attributes that hold its blocks, in the order in which they run"""
    layers: tuple[int, ...]
    """it is tapped after so many blocks; the last number of them run"""
    is_modulated: bool = False
    """one more is kept, for the norm and modulation of its input"""

    def apply(self, transformer: nn.Module) -> None:
        """Drop the other blocks. Raises ValueError if there are fewer."""
        _replace(transformer, self.blocks(transformer))

    def blocks(self, transformer: nn.Module) -> dict[str, nn.ModuleList]:
        """The kept blocks. Raises ValueError if there are fewer."""
        available = count_blocks(transformer, self.lists)
        last = self.layers[-1]
        if last > available:
            raise ValueError(f"feature_layers must lie in 0..{available} (this model's blocks), got {last}")
        if self.is_modulated and last == available:
            raise ValueError(
                f"feature_norm='modulated' takes the norm of the block after block {last}, which is this model's last; "
                "choose feature_norm='layer' or lower feature_layers"
            )
        kept, left = {}, last + self.is_modulated
        for name in self.lists:
            kept[name] = nn.ModuleList(list(getattr(transformer, name))[:left])
            left -= len(kept[name])
        return kept


class Tap:
    """A transformer that can be run up to a block and tapped on the way; by one thread at a time.

    Args:
        returns_pair: blocks return video and text.
    Raises:
        ValueError: the transformer has too few blocks, or no norm can be found.
    """

    def __init__(self, transformer: nn.Module, cut: Cut, *, returns_pair: bool):
        self.transformer = transformer
        self._is_in_use = False
        self._recorders = {layer: InputRecorder(returns_pair) for layer in cut.layers}
        # the same modules in shorter lists, so that moving or training the transformer moves and trains these
        self._cut = cut.blocks(transformer)
        self._attentions: dict[int, nn.Module] = {}
        """of the blocks after the taps, whose input is taken"""
        blocks = [block for kept in self._cut.values() for block in kept]
        if cut.is_modulated:
            self._attentions = {layer: _attention(blocks[layer]) for layer in cut.layers}
            return
        number = 0
        for name, kept in self._cut.items():
            tapped = nn.ModuleList()
            for block in kept:
                tapped.extend([self._recorders[number]] if number in self._recorders else [])
                tapped.append(block)
                number += 1
            self._cut[name] = tapped
        self._cut[cut.lists[-1]].append(self._recorders[cut.layers[-1]])

    @contextmanager
    def __call__(self) -> Iterator[list[InputRecorder]]:
        """Inside, the transformer ends with the last tapped block; `take` from the recorders what left each. Raises
        RuntimeError: another thread is inside."""
        if self._is_in_use:
            raise RuntimeError("two threads use one video model at a time; let them take turns (runtime.refresh.turn)")
        whole = {name: getattr(self.transformer, name) for name in self._cut}
        hooks = [
            attention.register_forward_pre_hook(self._recorders[layer].hook, with_kwargs=True)
            for layer, attention in self._attentions.items()
        ]
        self._is_in_use = True
        try:
            _replace(self.transformer, self._cut)
            yield list(self._recorders.values())
        finally:
            _replace(self.transformer, whole)
            for hook in hooks:
                hook.remove()
            self._is_in_use = False


def _attention(block: nn.Module) -> nn.Module:
    """A block's self-attention. Raises ValueError: it has none by a known name."""
    for name in ATTENTIONS:
        if hasattr(block, name):
            return getattr(block, name)
    raise ValueError(
        f"feature_norm='modulated' takes a block's attention input, but {type(block).__name__} has none named "
        f"{' or '.join(ATTENTIONS)}; choose feature_norm='layer'"
    )


def _replace(transformer: nn.Module, lists: dict[str, Any]) -> None:
    for name, blocks in lists.items():
        setattr(transformer, name, blocks)


def count_blocks(transformer: nn.Module, lists: tuple[str, ...]) -> int:
    return sum(len(getattr(transformer, name)) for name in lists)


def empty(network: Any, config: dict[str, Any]) -> nn.Module:
    """A diffusers network without memory for its weights. Small tables that are computed, not loaded, are real."""
    with init_empty_weights(include_buffers=False):
        return network.from_config({name: value for name, value in config.items() if not name.startswith("_")}).eval()


def described(network: Any, component: Component) -> nn.Module:
    """`empty`, of a config that may be wrong.

    Raises:
        ValueError: diffusers can make no such network of it; its file is named.
    """
    try:
        return empty(network, component.config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{component.path} describes no {network.__name__} that can be built ({type(error).__name__}: {error}); "
            f"download it again"
        ) from error


def load_transformer(network: Any, component: Component, *, cut: Cut | None, dtype: torch.dtype) -> nn.Module:
    """A transformer with the blocks of a cut (all, if None).

    Raises:
        ValueError: the checkpoint does not hold exactly what the config describes (blocks behind the cut included), or
            there are fewer blocks.
    """
    transformer = described(network, component)
    check_checkpoint(transformer, component.checkpoint)
    if cut is not None:
        cut.apply(transformer)
    fill(transformer, component.checkpoint, dtype=dtype, in_float32=frozenset(network._keep_in_fp32_modules or ()))
    return transformer


def fold(tokens: Float[Tensor, "b n d"], t: int, *, h: int, w: int) -> Float[Tensor, "b d t h w"]:
    """Tokens in raster order, time first and width last, back to their grid."""
    return rearrange(tokens, "b (t h w) d -> b d t h w", t=t, h=h, w=w)
