"""The newest real frame is the position that matters most: what System 2 reads there must be what training made there.

Before, a training clip of five latents kept one to four of them clean, so the last position of a clip was never clean
in training, and always clean on the robot.
"""

from collections.abc import Callable

import pytest
import torch

from video2act.config import BackboneConfig, FilterConfig, FormerConfig, ImagineConfig, StreamConfig, VideoTrainConfig
from video2act.system2.backbones import TinyBackbone
from video2act.system2.backbones.tiny import first_clean, newest_clean
from video2act.training.video_clips import clips_of_streams
from video2act.types import Video

TEXT = ["push the puck", "pull"]
NOTHING = ImagineConfig()


@pytest.fixture
def tiny(small_backbone: BackboneConfig) -> TinyBackbone:
    torch.manual_seed(0)
    backbone = TinyBackbone(small_backbone)
    torch.nn.init.normal_(backbone.latent_out.weight)
    return backbone.eval()


def in_training(tiny: TinyBackbone, latents: Video, num_clean: int) -> torch.Tensor:
    """Features of a training clip, whose frames after the first `num_clean` are noise."""
    t = latents.grid.shape[2]
    level = torch.zeros(len(latents.grid), t)
    level[:, num_clean:] = 0.8
    noise = torch.randn(latents.grid.shape, generator=torch.Generator().manual_seed(1))
    factor = level[:, None, :, None, None]
    noisy = Video((1 - factor) * latents.grid + factor * noise, latents.fps)
    return tiny.features(noisy, TEXT, noise_level=level).grid


@torch.no_grad()
@pytest.mark.parametrize("num_clean", [1, 2, 3, 4])
def test_features_of_real_frames_are_what_they_were_in_training(tiny: TinyBackbone, num_clean: int):
    latents = Video(torch.randn(2, 16, 5, 2, 2), 5.0)
    seen = tiny.features(Video(latents.grid[:, :, :num_clean], 5.0), TEXT).grid
    assert torch.allclose(in_training(tiny, latents, num_clean)[:, :, :num_clean], seen, atol=1e-5)


@torch.no_grad()
def test_the_newest_frame_has_the_statistics_of_training_however_long_the_clip(tiny: TinyBackbone):
    """Shown 1 to 8 latents, the mean and the deviation at the newest position stay near those of training clips."""
    generator = torch.Generator().manual_seed(0)
    latents = Video(torch.randn(64, 16, 8, 2, 2, generator=generator), 5.0)
    text = ["push"] * 64
    newest = [tiny.features(Video(latents.grid[:, :, :t], 5.0), text).grid[:, :, -1] for t in range(1, 9)]
    means, deviations = (torch.stack([getattr(one, word)(dim=(0, 2, 3)) for one in newest]) for word in ("mean", "std"))
    trained = slice(0, 4)  # clips of five latents
    spread = deviations[trained].mean(dim=0)
    assert ((means - means[trained].mean(dim=0)).abs() / spread).max() < 0.5
    assert (deviations / spread - 1).abs().max() < 0.3


@torch.no_grad()
def test_real_frames_do_not_look_at_noise(tiny: TinyBackbone):
    latents = Video(torch.randn(2, 16, 5, 2, 2), 5.0)
    changed = Video(latents.grid.clone(), 5.0)
    changed.grid[:, :, 3:] += 3
    before, after = (in_training(tiny, video, 3) for video in (latents, changed))
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.allclose(before[:, :, 3:], after[:, :, 3:])


@torch.no_grad()
def test_two_attentions_equal_one_under_a_mask(tiny: TinyBackbone):
    """Clips with the same number of clean frames take the short way; beside another clip they take the long one."""
    latents = Video(torch.randn(2, 16, 5, 2, 2), 5.0)
    level = torch.tensor([[0.0, 0.0, 0.9, 0.9, 0.9], [0.0, 0.0, 0.0, 0.9, 0.9]])
    masked = tiny.features(latents, TEXT, noise_level=level).grid
    assert (first_clean(level), first_clean(level[:1]), first_clean(level[1:])) == (0, 2, 3)
    for item in range(2):
        alone = tiny.features(Video(latents.grid[[item]], 5.0), [TEXT[item]], noise_level=level[[item]]).grid
        assert torch.allclose(alone[0], masked[item], atol=1e-5)


def test_clips_that_do_not_begin_with_the_same_clean_frames_are_not_split():
    for level in ([[0.9, 0.0]], [[0.0, 0.9, 0.0]], [[0.0, 0.0]], [[0.9, 0.9]], [[0.0, 0.5], [0.5, 0.5]]):
        assert first_clean(torch.tensor(level)) == 0


def test_frames_are_numbered_from_the_newest_clean_one():
    level = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5]])
    assert newest_clean(level).tolist() == [1, 3, -1]


def test_training_clips_hold_every_frame_of_the_stream_clean_and_one_to_predict(
    make_stream: Callable[..., StreamConfig],
):
    """Also for video models whose frames all look at each other, as Wan's: all of the stream's latents can be clean."""
    training = clips_of_streams(VideoTrainConfig(), [make_stream(17)], frames_per_feature=4)
    assert (training.num_frames, training.stride) == (21, 2)
    ahead = clips_of_streams(VideoTrainConfig(), [make_stream(9, ImagineConfig(8))], frames_per_feature=4)
    assert ahead.num_frames == 17


def test_streams_of_several_strides_and_another_stride_are_refused(make_stream: Callable[..., StreamConfig]):
    slow, fast = make_stream(17), make_stream(9, name="fast", stride=1)
    with pytest.raises(ValueError, match="several \\(motion 2, fast 1\\); give them one"):
        clips_of_streams(VideoTrainConfig(), [slow, fast], frames_per_feature=4)
    with pytest.raises(ValueError, match="stride=3 is not that of stream 'motion', which has 2"):
        clips_of_streams(VideoTrainConfig(stride=3), [slow], frames_per_feature=4)


@pytest.fixture
def make_stream() -> Callable[..., StreamConfig]:
    def make(
        num_frames: int, imagine: ImagineConfig = NOTHING, *, name: str = "motion", stride: int = 2
    ) -> StreamConfig:
        given = {"filter": FilterConfig(), "former": FormerConfig(), "imagine": imagine}
        return StreamConfig(name, "front", num_frames, stride, 64, **given)

    return make
