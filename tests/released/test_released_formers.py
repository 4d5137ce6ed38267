import sys
from dataclasses import replace

import pytest
import torch

from video2act.config import FormerConfig
from video2act.system2.former import make_former
from video2act.types import Tokens, Video

FRAMES = FormerConfig(
    num_tokens=6, depth=2, num_heads=2, kind="frame_resampler", width=24, head_dim=8, num_frames=3, is_temporal=True
)
CONFIGS = {
    "frames": replace(FRAMES, is_temporal=False),
    "frames, temporal": FRAMES,
    "constant": FormerConfig(num_tokens=6, kind="constant", width=24),
}


def video(seed: int = 0, b: int = 2) -> Video:
    return Video(torch.randn(b, 12, 3, 2, 4, generator=torch.Generator().manual_seed(seed)), 5.0)


def tokens(name: str, seen: Video) -> Tokens:
    torch.manual_seed(0)
    return make_former(CONFIGS[name], feature_dim=12, token_dim=32)(seen)


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_have_the_promised_number_and_width(name: str):
    assert tokens(name, video()).data.shape == (2, 6, 32)


@pytest.mark.parametrize("name", CONFIGS)
def test_items_of_a_batch_are_alone(name: str):
    both = tokens(name, video()).data
    alone = torch.cat([tokens(name, Video(item[None], 5.0)).data for item in video().grid])
    assert torch.allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_change_the_video_and_the_tokens_change_but_of_the_constant_one(name: str):
    assert torch.equal(tokens(name, video(0)).data, tokens(name, video(1)).data) == (name == "constant")


@pytest.mark.parametrize("name", ["frames", "frames, temporal"])
def test_a_frames_queries_read_that_frame_and_only_temporal_ones_hear_of_others(name: str):
    seen = video()
    changed = Video(seen.grid.clone(), 5.0)
    changed.grid[:, :, 1] = seen.grid[:, :, 1].flip(1)
    difference = (tokens(name, seen).data - tokens(name, changed).data).abs().amax(dim=(0, 2)).view(3, 2)
    assert difference[1].min() > 1e-5
    heard = difference[[0, 2]]
    assert (heard > 1e-6).all() if name == "frames, temporal" else (heard == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_learns(name: str):
    torch.manual_seed(0)
    former = make_former(CONFIGS[name], feature_dim=12, token_dim=32)
    former(video()).data.square().sum().backward()
    assert [name for name, p in former.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_features_that_cannot_be_shared_out_are_refused():
    torch.manual_seed(0)
    former = make_former(replace(FRAMES, num_frames=2), feature_dim=12, token_dim=32)
    with pytest.raises(ValueError, match="1 x 1 x 3 features cannot be shared out among num_frames=2"):
        former(Video(torch.zeros(1, 12, 1, 1, 3), 5.0))


def test_without_the_distribution_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "video2act_released.formers", None)
    with pytest.raises(ImportError, match=r"kind 'frame_resampler' .* pip install -e video2act_released"):
        make_former(FRAMES, feature_dim=12, token_dim=32)
