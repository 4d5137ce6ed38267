"""The contract of looking ahead; every video model whose latent frames may have their own noise level runs through it.

Change the past and what is imagined changes; the true future never leaks in; the same past gives the same features.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_backbones import BACKBONES, FPS, TEXT, Subject, written

from video2act.config import FilterConfig, FormerConfig, ImagineConfig, StreamConfig, System2Config
from video2act.system2 import System2
from video2act.types import Video

assert written  # a fixture

LOOKING_AHEAD = [name for name, subject in BACKBONES.items() if subject.has_level_per_frame]
LEVELS = (1.0, 0.7)


@pytest.fixture(params=LOOKING_AHEAD)
def subject(request: pytest.FixtureRequest, written: Callable[[Subject], Subject]) -> Subject:
    return written(BACKBONES[request.param])


def make(subject: Subject, whole: bool = False, **stream: Any) -> System2:
    """A System 2 of one stream that looks two latents ahead."""
    group = subject.config.frames_per_feature
    imagine = stream.pop("imagine", ImagineConfig(2 * group))
    given: dict[str, Any] = {"filter": FilterConfig(), "former": FormerConfig(num_tokens=2), "imagine": imagine}
    one = StreamConfig("motion", "front", subject.num_frames, 1, subject.size_px, **given | stream)
    config = System2Config(subject.config, (one,), reference="none")
    torch.manual_seed(0)
    return System2(config, subject.make(whole=whole), token_dim=16).eval()


def see(system2: System2, pixels: Video, text: list[str] = TEXT) -> torch.Tensor:
    return system2.see({"motion": pixels}, text)["motion"].grid


def test_past_and_future_stand_on_one_time_axis(subject: Subject):
    system2 = make(subject)
    seen = system2.see({"motion": subject.pixels()}, TEXT)["motion"]
    side = subject.size_px // subject.config.patch_px
    assert seen.grid.shape == (2, system2.backbone.feature_dim, 1 + subject.num_groups + 2, side, side)
    assert seen.fps == FPS / subject.config.frames_per_feature


@pytest.mark.parametrize(("keep", "first", "last"), [("past", 0, -2), ("future", -2, None), ("all", 0, None)])
def test_kept_positions(subject: Subject, keep: Any, first: int, last: int | None):
    whole = see(make(subject), subject.pixels())
    imagine = ImagineConfig(2 * subject.config.frames_per_feature, keep=keep)
    assert torch.equal(see(make(subject, imagine=imagine), subject.pixels()), whole[:, :, first:last])


@pytest.mark.parametrize("level", LEVELS)
def test_change_the_past_and_what_is_imagined_changes(subject: Subject, level: float):
    imagine = ImagineConfig(2 * subject.config.frames_per_feature, level, "future")
    system2 = make(subject, imagine=imagine)
    first, second = (see(system2, subject.pixels(seed=seed)) for seed in (0, 1))
    assert (first - second).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_past_gives_the_same_features(subject: Subject, level: float):
    system2 = make(subject, imagine=ImagineConfig(2 * subject.config.frames_per_feature, level))
    first = see(system2, subject.pixels())
    torch.rand(3)  # whatever the global generator does in between
    assert torch.equal(first, see(system2, subject.pixels()))
    again = make(subject, imagine=ImagineConfig(2 * subject.config.frames_per_feature, level))
    assert torch.equal(first, see(again, subject.pixels()))


def test_an_item_of_a_batch_sees_what_it_sees_alone(subject: Subject):
    system2, pixels = make(subject), subject.pixels()
    together = see(system2, pixels)
    for i in range(2):
        alone = see(system2, Video(pixels.grid[i : i + 1], pixels.fps), TEXT[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=2e-5, rtol=1e-5)


def test_the_filter_reads_past_and_future_at_their_rate(subject: Subject):
    """A band-pass over the five latents removes what stands still over all of them."""
    moved = FilterConfig("temporal_bandpass")
    plain, filtered = see(make(subject), subject.pixels()), see(make(subject, filter=moved), subject.pixels())
    expected = plain - plain.mean(dim=2, keepdim=True)
    assert torch.allclose(filtered, expected, atol=1e-4)


def test_several_layers_stand_side_by_side(subject: Subject):
    one, two = (replace(subject, config=replace(subject.config, feature_layers=(layer,))) for layer in (0, 1))
    both = replace(subject, config=replace(subject.config, feature_layers=(0, 1)))
    expected = torch.cat([see(make(one), subject.pixels()), see(make(two), subject.pixels())], dim=1)
    assert torch.allclose(see(make(both), subject.pixels()), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, subject in BACKBONES.items() if not subject.has_level_per_frame])
def test_a_model_of_one_level_per_clip_is_refused(written: Callable[[Subject], Subject], name: str):
    subject = written(BACKBONES[name])
    with pytest.raises(ValueError, match=f"{subject.config.name} knows one noise level per clip"):
        make(subject)
