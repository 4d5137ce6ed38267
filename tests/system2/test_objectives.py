"""What each family of video models is trained for, against its authors' own formulas."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import published_models
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones import TinyBackbone, make_backbone
from video2act.system2.objectives import circle_error, each_of, latents_error, logit_normal, shifted_uniform
from video2act.system2.video_training import diffusion_loss, given_frames
from video2act.types import Video

UNIFORM = (torch.arange(1000) + 0.5) / 1000

FAMILIES: dict[str, Callable[[Path], Path]] = {
    "wan21": published_models.write_wan21,
    "wan22": published_models.write_wan22,
    "hunyuan": published_models.write_hunyuan,
    "cogvideox": published_models.write_cogvideox,
    "cogvideox15": published_models.write_cogvideox15,
    "ltx": published_models.write_ltx,
    "cosmos": published_models.write_cosmos,
}


def load(name: Any, root: Path, **changes: Any) -> Any:
    FAMILIES[name](root)
    config = PretrainedBackboneConfig(name, str(root), (1,), dtype="float32", text_cache=str(root / "text"))
    return make_backbone(replace(config, **changes), whole=True)


class TestLevels:
    @pytest.mark.parametrize(
        "levels", [shifted_uniform(3.0), logit_normal(3.0), logit_normal(grows_with_frames=True), each_of(UNIFORM)]
    )
    def test_they_lie_between_clean_and_noise_and_grow(self, levels: Any):
        found = levels(UNIFORM, 5)
        assert (found.diff() >= 0).all()
        assert 0 <= found[0] < 0.2
        assert 0.9 < found[-1] <= 1

    def test_the_log_odds_are_normal_around_the_shift(self):
        odds = torch.logit(logit_normal(5.0)(UNIFORM, 4).double())
        assert odds.mean() == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-3)
        assert odds.std() == pytest.approx(1.0, abs=0.01)

    def test_of_cosmos_they_are_those_of_its_noise(self):
        """There, noise is added: log-normal sigma times the root of the number of latent frames."""
        sigma = torch.special.ndtri(UNIFORM.double()).exp() * 6**0.5
        found = logit_normal(grows_with_frames=True)(UNIFORM, 6)
        assert torch.allclose(found.double(), sigma / (1 + sigma), atol=1e-6)

    def test_of_cogvideox_they_are_its_thousand_timesteps(self, tmp_path: Path):
        backbone = load("cogvideox", tmp_path)
        assert torch.equal(backbone.objective.levels(UNIFORM, 3), backbone.levels)


class TestWeights:
    level = torch.tensor([[0.1, 0.5, 0.9]])

    def test_the_error_of_the_clean_latents(self):
        noise, clean, wrong = torch.randn(3, 3, 50, generator=torch.Generator().manual_seed(0))
        mixture = (1 - self.level.T) * clean + self.level.T * noise
        implied = mixture - self.level.T * wrong
        expected = (implied - clean).square().mean(dim=1)
        flow = (wrong - (noise - clean)).square().mean(dim=1)
        assert torch.allclose(latents_error(self.level)[0] * flow, expected, atol=1e-5)

    def test_the_error_of_the_velocity_on_the_circle(self):
        """CogVideoX predicts `alpha * noise - sigma * latents`, on a circle: `alpha^2 + sigma^2 = 1`."""
        noise, clean, error = torch.randn(3, 3, 50, generator=torch.Generator().manual_seed(0))
        level = self.level.T
        scale = (level**2 + (1 - level) ** 2).sqrt()
        alpha, sigma = (1 - level) / scale, level / scale
        mixture, velocity = alpha * clean + sigma * noise, alpha * noise - sigma * clean + error
        flow = (sigma * mixture + alpha * velocity) - (alpha * mixture - sigma * velocity)
        found = circle_error(self.level)[0] * (flow - (noise - clean)).square().mean(dim=1)
        assert torch.allclose(found, error.square().mean(dim=1), atol=1e-5)

    def test_the_weights_of_cosmos(self):
        """`(sigma^2 + 1) / sigma^2` on the error of the clean latents, for noise that is added."""
        sigma = self.level / (1 - self.level)
        assert torch.allclose(circle_error(self.level), latents_error(self.level) * (sigma**2 + 1) / sigma**2)


class TestFamilies:
    @pytest.mark.parametrize("name", FAMILIES)
    def test_a_clip_gets_the_noise_that_the_model_knows(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        backbone = load(name, tmp_path)
        told: list[torch.Tensor] = []
        channels = backbone.vae.config.z_dim if "z_dim" in backbone.vae.config else backbone.vae.config.latent_channels

        def remember(noisy: Video, noise_level: torch.Tensor, instruction: list[str]) -> Video:
            told.append(noise_level)
            return noisy

        monkeypatch.setattr(backbone, "velocity", remember)
        latents = Video(torch.zeros(64, channels, 4, 2, 2), 5.0)
        diffusion_loss(backbone, latents, instruction=["push"] * 64, generator=torch.Generator().manual_seed(0))
        given = {int((level == 0).sum()) for level in told[0]}
        expected = {"wan22": {0, 1}, "ltx": {0, 1, 2, 3}, "cosmos": {1, 2}}
        assert given == expected.get(name, {0})
        for level in told[0]:
            num_clean = int((level == 0).sum())
            assert (level[:num_clean] == 0).all()
            assert len(level[num_clean:].unique()) == 1

    @pytest.mark.parametrize("name", FAMILIES)
    def test_it_learns_one_batch_by_heart(self, name: str, tmp_path: Path):
        backbone = load(name, tmp_path)
        channels = backbone.vae.config.z_dim if "z_dim" in backbone.vae.config else backbone.vae.config.latent_channels
        latents = Video(torch.randn(2, channels, 4, 2, 2, generator=torch.Generator().manual_seed(0)), 5.0)
        optimizer = torch.optim.AdamW(backbone.transformer.parameters(), lr=1e-2)
        losses = []
        for _ in range(15):
            loss = diffusion_loss(
                backbone, latents, instruction=["push", "pull"], generator=torch.Generator().manual_seed(0)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_cosmos_without_the_channel_for_given_frames_gets_none(self, tmp_path: Path):
        published_models.write_cosmos(tmp_path, in_channels=16)
        backbone = make_backbone(PretrainedBackboneConfig("cosmos", str(tmp_path), (1,), dtype="float32"))
        assert given_frames(backbone.objective, 4) == (0, 0)

    def test_a_short_clip_is_given_less(self):
        assert given_frames(TinyBackbone.objective, 2) == (1, 1)
        assert given_frames(TinyBackbone.objective, 5) == (1, 4)
        with pytest.raises(ValueError, match="a clip of 1 latent frame has no future"):
            given_frames(TinyBackbone.objective, 1)
