"""How much do a stream's features say about the next actions? A small head is trained on a few episodes, offline.

It is what reads the stream in a policy, the former, with the state and the instruction beside it, and predicts the next
actions. Its error on episodes that it never saw costs a minute, and scatters less than success. It ranks taps for one
task; it does not say how well a policy acts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from video2act.clips import clip_indices
from video2act.config import BackboneConfig, FormerConfig
from video2act.config.probe import ProbeOptions
from video2act.data import Dataset, FrameStore
from video2act.data.batches import read_clips
from video2act.layers import Mlp
from video2act.normalize import Normalizer
from video2act.progress import track
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone, published
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.system2.former import LayerMixture, make_former
from video2act.training.new_policy import open_video_model
from video2act.training.probe_arms import Arm, Split
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

CLIPS = 16
"""clips that are seen together"""
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
    target: Float[Tensor, "n horizon a"]
    """the next actions, or dimensions of the state; normalised: an error of 1 is that of predicting the mean"""
    episode: Int[np.ndarray, "n"]


class Probe(nn.Module):
    """A former and two layers.

    Args:
        feature_dim: channels of the features; None: blind.
        num_layers: layers whose features are mixed; 1: they are read as they are.
        num_sentences: different instructions in the data.
        shape: of the target.
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
    return (found - moments.target[chosen]).square().mean(dim=(1, 2))


def places_of(dataset: Dataset, options: ProbeOptions, *, split: Split) -> list[tuple[int, int]]:
    return [(i, frame) for i in split.all for frame in range(0, dataset.lengths[i], options.every)]


def moments_of(options: ProbeOptions, dataset: Dataset, *, horizon: int, split: Split) -> Moments:
    """All but the features."""
    places = places_of(dataset, options, split=split)
    normalize = {word: Normalizer(dataset.stats[word], "mean_std") for word in ("state", "action")}
    sentences = {text: number for number, text in enumerate(dataset.tasks)}
    names = dataset.stats["state"].names or ()
    columns = [names.index(name) for name in options.predict]
    state, actions, numbers = [], [], []
    for i, frame in places:
        episode = dataset.episode(i)
        assert episode.actions is not None
        state.append(episode.state[frame])
        actions.append(episode.actions[np.minimum(frame + np.arange(horizon), episode.length - 1)])
        numbers.append(sentences[episode.instruction[frame]])
    known = normalize["state"].normalize(torch.from_numpy(np.stack(state)).float())
    target = normalize["action"].normalize(torch.from_numpy(np.stack(actions)).float())
    if columns:
        known, target = torch.zeros_like(known), known[:, None, columns]
    return Moments(None, known, torch.tensor(numbers), target, np.array([i for i, _ in places]))


def system2_of(arm: Arm, options: ProbeOptions) -> System2:
    config, backbone = open_video_model(arm.system2, options.video_model)
    if arm.weights == "random":
        randomise(backbone, seed=options.seed)
    return System2(config, backbone, token_dim=arm.system2.streams[0].former.num_heads * 8).eval()


def randomise(backbone: VideoBackbone, *, seed: int) -> None:
    """Give the blocks new random weights; the codec stays."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(backbone, TinyBackbone):
            assert isinstance(backbone.config, BackboneConfig)
            fresh = make_backbone(backbone.config).state_dict()
            codec = {f"codec.{name}": tensor for name, tensor in backbone.codec.state_dict().items()}
            backbone.load_state_dict(fresh | codec)
        else:
            published.randomise(backbone)


@torch.no_grad()
def see(
    arm: Arm, system2: System2, dataset: Dataset, *, store: FrameStore, options: ProbeOptions, split: Split
) -> Video:
    """What the stream keeps of every moment, in half precision."""
    stream, places, grids, fps = arm.stream, places_of(dataset, options, split=split), [], 0.0
    store.plan([(stream.camera, stream.frame_px, stream.frame)])
    for first in track(range(0, len(places), CLIPS), f"{arm.name}: System 2 sees", unit="batch"):
        part = places[first : first + CLIPS]
        wanted = []
        for i, frame in part:
            indices = clip_indices(frame + arm.ahead * stream.stride, stream.num_frames, stride=stream.stride)
            indices = [frame] * len(indices) if arm.weights == "still" else indices
            wanted.append((i, [min(index, dataset.lengths[i] - 1) for index in indices]))
        size, fps = stream.frame_px, dataset.fps / stream.stride
        pixels = read_clips(store, stream.camera, wanted=wanted, size=size, rule=stream.frame, fps=fps)
        sentences = [str(dataset.episode(i).instruction[frame]) for i, frame in part]
        seen = system2.see({stream.name: pixels}, sentences)[stream.name]
        grids.append(seen.grid.half())
        fps = seen.fps
        size = grids[0][0].nbytes * len(places) / 2**30
        if size > options.gib:
            raise ValueError(
                f"features of {arm.name} take {size:.1f} GiB; raise --gib or --every, or use fewer episodes"
            )
    return Video(torch.cat(grids), fps)


def measure(options: ProbeOptions, moments: Moments, *, num_layers: int, former: Any, split: Split) -> list[float]:
    def make() -> Probe:
        return Probe(
            None if moments.features is None else moments.features.grid.shape[1],
            num_layers=num_layers,
            state_dim=moments.state.shape[1],
            num_sentences=int(moments.sentence.max()) + 1,
            shape=(moments.target.shape[1], moments.target.shape[2]),
            former=former,
        )

    given: dict[str, Any] = {"held_out": split.held_out, "num_steps": options.num_steps}
    return [
        held_out_error(moments, make, labelled=labelled, seed=options.seed + number, **given)
        for number, labelled in enumerate(split.labelled)
    ]
