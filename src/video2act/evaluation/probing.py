"""How much do a stream's features say about the next actions? A small head is trained on a few episodes, offline.

It is what reads the stream in a policy, the former, with the state and the instruction beside it, and predicts the next
actions. Its error on episodes that it never saw costs a minute, and scatters less than success. It ranks taps for one
task; it does not say how well a policy acts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from video2act.config import FormerConfig
from video2act.layers import Mlp
from video2act.system2.former import LayerMixture, make_former
from video2act.types import Video

WIDTH, BATCH, LEARNING_RATE, WEIGHT_DECAY = 128, 32, 1e-3, 0.05


@dataclass(frozen=True)
class Moments:
    """What the probe reads and predicts, at moments of episodes."""

    features: Video | None
    """`[n d t h w]`; None: the probe is blind"""
    state: Float[Tensor, "n s"]
    """normalised"""
    sentence: Int[Tensor, "n"]
    """number of the instruction"""
    actions: Float[Tensor, "n horizon a"]
    """normalised: an error of 1 is that of predicting the mean"""
    episode: Int[np.ndarray, "n"]


class Probe(nn.Module):
    """A former and two layers.

    Args:
        feature_dim: channels of the features; None: blind.
        num_layers: layers whose features are mixed; 1: they are read as they are.
        num_sentences: different instructions in the data.
        shape: horizon and size of an action.
    """

    def __init__(
        self,
        feature_dim: int | None,
        *,
        num_layers: int,
        state_dim: int,
        num_sentences: int,
        shape: tuple[int, int],
        former: FormerConfig,
    ):
        super().__init__()
        self.shape = shape
        self.mixture = LayerMixture(num_layers) if num_layers > 1 else None
        width = 0 if feature_dim is None else WIDTH * former.num_tokens
        read_dim = (feature_dim or 0) // num_layers
        self.former = None if feature_dim is None else make_former(former, read_dim, token_dim=WIDTH)
        self.sentence = nn.Embedding(num_sentences, WIDTH)
        self.state = nn.Linear(state_dim, WIDTH)
        self.head = Mlp(width + 2 * WIDTH, 2 * WIDTH, out=shape[0] * shape[1])

    def forward(
        self, features: Video | None, state: Float[Tensor, "n s"], sentence: Int[Tensor, "n"]
    ) -> Float[Tensor, "n horizon a"]:
        parts = [self.state(state), self.sentence(sentence)]
        if self.former is not None and features is not None:
            video = features if self.mixture is None else self.mixture(features)
            parts.append(self.former(video).data.flatten(1))
        return self.head(torch.cat(parts, dim=1)).unflatten(1, self.shape)


def held_out_error(
    moments: Moments,
    make: Callable[[], Probe],
    *,
    labelled: list[int],
    held_out: list[int],
    num_steps: int,
    seed: int,
) -> float:
    """Train a probe on the labelled episodes -> its mean square error on the held-out ones.

    Args:
        make: a new probe.
        seed: of its weights and of the order in which it sees the moments.
    """
    torch.manual_seed(seed)
    probe = make()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, num_steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    train = torch.from_numpy(np.flatnonzero(np.isin(moments.episode, labelled)))
    test = torch.from_numpy(np.flatnonzero(np.isin(moments.episode, held_out)))
    for _ in range(num_steps):
        chosen = train[torch.randint(len(train), (BATCH,), generator=generator)]
        loss = _squared_error(probe, moments, chosen=chosen).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = [_squared_error(probe.eval(), moments, chosen=part) for part in test.split(256)]
    return float(torch.cat(errors).mean())


def _squared_error(probe: Probe, moments: Moments, *, chosen: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    video = moments.features
    features = None if video is None else Video(video.grid[chosen].float(), video.fps)
    found = probe(features, moments.state[chosen], moments.sentence[chosen])
    return (found - moments.actions[chosen]).square().mean(dim=(1, 2))
