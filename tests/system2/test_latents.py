from dataclasses import replace

import pytest
import torch

from video2act.config import PolicyConfig, System2Config
from video2act.config.system2 import chosen_rate
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone
from video2act.system2.latents import show
from video2act.types import Video


def video(t: int, h: int = 4, w: int = 6) -> Video:
    grid = torch.randn(2, 3, t, h, w, generator=torch.Generator().manual_seed(0))
    return Video(grid, 8.0)


def test_all_latents_as_they_are_unless_told_otherwise():
    shown = video(5)
    assert show(shown, (), size=()) is shown
    assert show(shown, (), size=(4, 6)) is shown


def test_chosen_latents_keep_their_order_and_their_rate():
    whole = video(8)
    newest = show(whole, (5, 6, 7), size=())
    assert torch.equal(newest.grid, whole.grid[:, :, 5:])
    assert newest.fps == 8.0
    spread = show(whole, (0, 2, 5, 7), size=())
    assert torch.equal(spread.grid, whole.grid[:, :, [0, 2, 5, 7]])
    assert spread.fps == pytest.approx(8.0 * 3 / 7)
    assert chosen_rate(8.0, (3,)) == 8.0


def test_latents_are_resized_frame_by_frame():
    whole = video(3)
    resized = show(whole, (), size=(2, 3)).grid
    expected = torch.nn.functional.interpolate(whole.grid[:, :, 1], size=(2, 3), mode="bilinear", align_corners=False)
    assert torch.equal(resized[:, :, 1], expected)


def test_a_latent_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="asks for latent 7 of a clip that has 5"):
        show(video(5), (6, 7), size=())


class TestSystem2:
    """The motion stream of `small_config` has nine frames: three latents of 2 x 2."""

    @pytest.fixture
    def config(self, small_config: PolicyConfig) -> System2Config:
        assert small_config.system2 is not None
        return replace(small_config.system2, filter_on="latents")

    def with_motion(self, config: System2Config, **fields) -> System2Config:
        spatial, motion = config.streams
        return replace(config, streams=(spatial, replace(motion, **fields)))

    def see(self, config: System2Config) -> Video:
        torch.manual_seed(0)
        system2 = System2(config, make_backbone(config.backbone), token_dim=32).eval()
        generator = torch.Generator().manual_seed(1)
        clips = {
            stream.name: Video(2 * torch.rand(2, 3, stream.num_frames, 16, 16, generator=generator) - 1, 20.0)
            for stream in config.streams
        }
        return system2.see(clips, ["push", "pull"])["motion"]

    def test_the_transformer_is_shown_the_chosen_latents_only(self, config: System2Config):
        assert self.see(config).grid.shape[2:] == (3, 2, 2)
        chosen = self.see(self.with_motion(config, latent_frames=(0, 2)))
        assert chosen.grid.shape[2:] == (2, 2, 2)
        assert chosen.fps == pytest.approx(20.0 / 4 / 2)
        assert self.see(self.with_motion(config, latent_size=(4, 2))).grid.shape[2:] == (3, 4, 2)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"latent_frames": (1, 3)}, "asks for latent 3, but 9 frames make 3 latents"),
            ({"latent_frames": (2, 1)}, "each once, oldest first"),
            ({"latent_frames": (-1, 1)}, "numbers from 0"),
            ({"latent_frames": (2,)}, "needs several latents"),
            ({"latent_size": (4,)}, "must be height and width"),
        ],
    )
    def test_what_cannot_be_shown_is_refused(self, config: System2Config, fields: dict, message: str):
        with pytest.raises(ValueError, match=message):
            self.with_motion(config, **fields)
