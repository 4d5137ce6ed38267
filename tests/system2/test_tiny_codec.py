import pytest
import torch

from video2act.system2.backbones.tiny_codec import LinearCodec
from video2act.types import Video


def pixels(seed: int = 0, b: int = 4, t: int = 5) -> Video:
    """Smooth clips: few components tell nearly all of them."""
    coarse = 2 * torch.rand(b, 3, 2, 2, 2, generator=torch.Generator().manual_seed(seed)) - 1
    return Video(torch.nn.functional.interpolate(coarse, (t, 16, 16), mode="trilinear"), 20.0)


@pytest.fixture
def fitted() -> LinearCodec:
    torch.manual_seed(0)
    codec = LinearCodec(latent_channels=24, patch_px=8, frames_per_latent=4)
    codec.fit([pixels(seed) for seed in range(8)])
    return codec


def test_fitted_to_videos_it_restores_their_like(fitted: LinearCodec):
    unseen = pixels(100)
    assert (fitted.decode(fitted.encode(unseen)).grid - unseen.grid).abs().mean() < 0.05
    unfitted = LinearCodec(latent_channels=24, patch_px=8, frames_per_latent=4)
    assert (unfitted.decode(unfitted.encode(unseen)).grid - unseen.grid).abs().mean() > 0.2


def test_latents_are_centred_and_white(fitted: LinearCodec):
    latents = torch.cat([fitted.encode(pixels(seed)).grid for seed in range(8)]).movedim(1, -1).flatten(0, -2)
    variance = latents.var(dim=0, correction=0)
    strong = slice(0, 12)  # the weakest components hold rounding errors
    assert torch.allclose(latents.mean(dim=0)[strong], torch.zeros(12), atol=1e-2)
    assert torch.allclose(variance[strong], torch.ones(12), rtol=2e-2)


def test_a_second_fit_gives_the_same_codec(fitted: LinearCodec):
    again = LinearCodec(latent_channels=24, patch_px=8, frames_per_latent=4)
    again.fit([pixels(seed) for seed in range(8)])
    assert torch.equal(again.components, fitted.components)


def test_what_it_learned_travels_with_the_weights(fitted: LinearCodec):
    other = LinearCodec(latent_channels=24, patch_px=8, frames_per_latent=4)
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.encode(pixels()).grid, fitted.encode(pixels()).grid)


def test_fitted_to_one_colour_it_stays_finite():
    codec = LinearCodec(latent_channels=8, patch_px=8, frames_per_latent=4)
    codec.fit([Video(torch.full((2, 3, 5, 16, 16), 0.25), 20.0)])
    grey = Video(torch.full((1, 3, 5, 16, 16), 0.25), 20.0)
    assert codec.encode(grey).grid.abs().max() < 1.0
    assert torch.allclose(codec.decode(codec.encode(grey)).grid, grey.grid, atol=1e-4)


def test_more_components_than_values_are_refused():
    with pytest.raises(ValueError, match="latent_channels=64 is more than the 48 values of a block"):
        LinearCodec(latent_channels=64, patch_px=4, frames_per_latent=1)
