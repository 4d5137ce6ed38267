from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from video2act.config import BackboneConfig, TuningConfig
from video2act.system2.backbones import TinyBackbone
from video2act.system2.video_training import continue_video, diffusion_loss
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

TEXT = ["push", "pull", "push", "lift"]


@pytest.fixture
def backbone(small_backbone: BackboneConfig) -> TinyBackbone:
    torch.manual_seed(0)
    return TinyBackbone(replace(small_backbone, depth=2))


def latents(b: int = 4, t: int = 3, seed: int = 0) -> Video:
    return Video(torch.randn(b, 16, t, 2, 2, generator=torch.Generator().manual_seed(seed)), 5.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Spy(VideoBackbone):
    """A backbone whose flow is right up to an error of one on chosen frames; remembers what it was asked."""

    def __init__(self, clean: Tensor, wrong: Tensor):
        super().__init__()
        self.clean, self.wrong = clean, wrong
        self.noise_level = torch.empty(0)
        self.noisy = torch.empty(0)

    width = feature_dim = 1  # type: ignore[assignment]
    objective = TinyBackbone.objective

    def learn(self, tuning: TuningConfig) -> None:
        raise NotImplementedError

    def encode(self, pixels: Video) -> Video:
        raise NotImplementedError

    def decode(self, latents: Video) -> Video:
        raise NotImplementedError

    def features(self, latents: Video, instruction: list[str]) -> Video:
        raise NotImplementedError

    def velocity(self, noisy: Video, noise_level: Tensor, instruction: list[str]) -> Video:
        self.noise_level, self.noisy = noise_level, noisy.grid
        level = noise_level[:, None, :, None, None]
        noise = torch.where(level > 0, (noisy.grid - (1 - level) * self.clean) / level.clamp(min=1e-6), 0.0)
        return Video(noise - self.clean + self.wrong[:, None, :, None, None], noisy.fps)


class TestLoss:
    def test_it_is_a_function_of_the_generator(self, backbone: TinyBackbone):
        first = diffusion_loss(backbone, latents(), instruction=TEXT, generator=seeded(1))
        assert first.isfinite()
        assert first == diffusion_loss(backbone, latents(), instruction=TEXT, generator=seeded(1))
        assert first != diffusion_loss(backbone, latents(), instruction=TEXT, generator=seeded(2))

    def test_only_noised_frames_count(self):
        clean = latents(b=64, t=5)
        spy = Spy(clean.grid, torch.zeros(64, 5))
        assert diffusion_loss(spy, clean, instruction=["push"] * 64, generator=seeded()) < 1e-6
        is_clean = spy.noise_level == 0
        assert is_clean[:, 0].all()
        assert not is_clean[:, -1].any()
        assert torch.equal(spy.noisy.movedim(1, -1)[is_clean], clean.grid.movedim(1, -1)[is_clean])
        wrong_where_clean = Spy(clean.grid, 100.0 * is_clean)
        assert diffusion_loss(wrong_where_clean, clean, instruction=["push"] * 64, generator=seeded()) < 1e-6
        wrong_where_noised = Spy(clean.grid, 1.0 * ~is_clean)
        ahead = (~is_clean).cumsum(dim=1).clamp(min=1)
        expected = (spy.noise_level.square() / ahead)[~is_clean].mean()
        assert torch.allclose(
            diffusion_loss(wrong_where_noised, clean, instruction=["push"] * 64, generator=seeded()),
            expected,
            atol=1e-4,
        )

    def test_the_past_is_clean_and_the_future_noised_to_one_level(self):
        clean = latents(b=64, t=5)
        spy = Spy(clean.grid, torch.zeros(64, 5))
        diffusion_loss(spy, clean, instruction=["push"] * 64, generator=seeded())
        for level in spy.noise_level:
            num_clean = int((level == 0).sum())
            assert 1 <= num_clean <= 4
            assert (level[:num_clean] == 0).all()
            assert len(level[num_clean:].unique()) == 1
        assert {int((level == 0).sum()) for level in spy.noise_level} == {1, 2, 3, 4}
        assert spy.noise_level.max() <= 1

    def test_a_clip_without_a_future_is_refused(self, backbone: TinyBackbone):
        with pytest.raises(ValueError, match="1 latent frame has no future"):
            diffusion_loss(backbone, latents(t=1), instruction=TEXT, generator=seeded())

    def test_it_falls_when_one_batch_is_learned_by_heart(self, backbone: TinyBackbone):
        optimizer = torch.optim.AdamW(backbone.parameters(), lr=3e-3)
        losses = []
        for _ in range(60):
            loss = diffusion_loss(backbone, latents(), instruction=TEXT, generator=seeded())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.3 * losses[0]


class TestContinueVideo:
    @pytest.mark.parametrize("num_steps", [1, 4])
    def test_the_past_stays_to_the_bit(self, backbone: TinyBackbone, num_steps: int):
        past = latents(t=2)
        whole = continue_video(backbone, past, num_frames=3, instruction=TEXT, num_steps=num_steps, generator=seeded())
        assert whole.grid.shape[2] == 5
        assert whole.fps == past.fps
        assert torch.equal(whole.grid[:, :, :2], past.grid)

    @pytest.mark.parametrize("num_steps", [1, 2, 8])
    def test_a_model_that_knows_the_future_reaches_it(self, num_steps: int):
        future = latents(t=5)
        spy = Spy(future.grid, torch.zeros(4, 5))
        past = Video(future.grid[:, :, :2], future.fps)
        assert torch.allclose(
            continue_video(spy, past, num_frames=3, instruction=TEXT, num_steps=num_steps, generator=seeded()).grid,
            future.grid,
            atol=1e-4,
        )

    def test_untrained_it_imagines_that_nothing_moves(self, backbone: TinyBackbone):
        imagined = continue_video(
            backbone, latents(t=2), num_frames=2, instruction=TEXT, num_steps=4, generator=seeded()
        ).grid[:, :, 2:]
        assert torch.allclose(imagined[:, :, 0], imagined[:, :, 1], atol=1e-4)
        assert torch.allclose(imagined[:, :, 0], backbone.codec.hold(latents(t=2).grid[:, :, 1]), atol=1e-4)

    def test_it_is_deterministic(self, backbone: TinyBackbone):
        nn.init.normal_(backbone.latent_out.weight)
        first, again, other = (
            continue_video(
                backbone, latents(), num_frames=2, instruction=TEXT, num_steps=2, generator=seeded(seed)
            ).grid
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
