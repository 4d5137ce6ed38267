"""A transformer that is run up to a block."""

from threading import Barrier, Thread

import pytest
import torch
from torch import Tensor, nn

from video2act.system2.backbones.tap import Cut, Tap


class Plus(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + 1


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Plus() for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


def test_a_second_thread_is_refused_and_the_transformer_stays_whole():
    """Two threads left it cut for good, and took each other's features."""
    transformer, errors, met = Transformer(), list[str](), Barrier(2)
    tap = Tap(transformer, Cut(("blocks",), (2,)), returns_pair=False)

    def second() -> None:
        met.wait()
        try:
            with tap():
                pass
        except RuntimeError as error:
            errors.append(str(error))
        met.wait()

    thread = Thread(target=second)
    thread.start()
    with tap() as recorders:
        met.wait()
        met.wait()
        transformer(torch.zeros(1, 1, 1))
        assert recorders[0].take().item() == 2
    thread.join()
    assert "let them take turns" in errors[0]
    assert transformer(torch.zeros(1, 1, 1)).item() == 4
    with pytest.raises(KeyError), tap():
        raise KeyError
    with tap() as recorders:
        transformer(torch.zeros(1, 1, 1))
        assert recorders[0].take().item() == 2
