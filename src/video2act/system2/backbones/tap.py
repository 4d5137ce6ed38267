"""Running the first blocks of a published video diffusion transformer, and taking what leaves the last of them.

The transformer is diffusers' own class, built without memory from its config, compared with the checkpoint, cut, and
only then given weights: blocks behind the cut are neither loaded nor run. A `InputRecorder` ends the list, so the
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
    layer: int
    """so many blocks run"""
    is_modulated: bool = False
    """one more is kept, for the norm and modulation of its input"""

    def apply(self, transformer: nn.Module) -> None:
        """Drop the other blocks. Raises ValueError if there are fewer."""
        _replace(transformer, self.blocks(transformer))

    def blocks(self, transformer: nn.Module) -> dict[str, nn.ModuleList]:
        """The kept blocks. Raises ValueError if there are fewer."""
        available = count_blocks(transformer, self.lists)
        if self.layer > available:
            raise ValueError(f"feature_layer must lie in 0..{available} (this model's blocks), got {self.layer}")
        if self.is_modulated and self.layer == available:
            raise ValueError(
                f"feature_norm='modulated' takes the norm of the block after feature_layer={self.layer}, which is this "
                "model's last; choose feature_norm='layer' or a lower feature_layer"
            )
        kept, left = {}, self.layer + self.is_modulated
        for name in self.lists:
            kept[name] = nn.ModuleList(list(getattr(transformer, name))[:left])
            left -= len(kept[name])
        return kept


class Tap:
    """A transformer that can be run up to a block; by one thread at a time.

    Args:
        returns_pair: blocks return video and text.
    Raises:
        ValueError: the transformer has too few blocks, or no norm can be found.
    """

    def __init__(self, transformer: nn.Module, cut: Cut, *, returns_pair: bool):
        self.transformer = transformer
        self.recorder = InputRecorder(returns_pair)
        # the same modules in shorter lists, so that moving or training the transformer moves and trains these
        self._cut = cut.blocks(transformer)
        self._attention: list[nn.Module] = []
        if not cut.is_modulated:
            self._cut[cut.lists[-1]].append(self.recorder)
            return
        last = [block for blocks in self._cut.values() for block in blocks][-1]
        self._attention = [getattr(last, name) for name in ATTENTIONS if hasattr(last, name)][:1]
        if not self._attention:
            raise ValueError(
                f"feature_norm='modulated' takes a block's attention input, but {type(last).__name__} has none "
                f"named {' or '.join(ATTENTIONS)}; choose feature_norm='layer'"
            )

    @contextmanager
    def __call__(self) -> Iterator[InputRecorder]:
        """Inside, the transformer ends with the tapped block; `take` what left it from the recorder."""
        whole = {name: getattr(self.transformer, name) for name in self._cut}
        hooks = [each.register_forward_pre_hook(self.recorder.hook, with_kwargs=True) for each in self._attention]
        try:
            _replace(self.transformer, self._cut)
            yield self.recorder
        finally:
            _replace(self.transformer, whole)
            for hook in hooks:
                hook.remove()


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
