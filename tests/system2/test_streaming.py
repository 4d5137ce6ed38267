"""An encoder that goes on gives the latents that it would give of the whole; a window gives others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import published_models
from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig, System2Config, continuing
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone
from video2act.system2.streaming import LatentHistory, last_latents, open_stream
from video2act.types import Video

WRITERS: dict[str, Callable[[Path], Path]] = {
    "wan21": lambda root: published_models.write_wan21(root, text=False),
    "wan22": lambda root: published_models.write_wan22(root, text=False),
    "cosmos": published_models.write_cosmos,
}


@pytest.fixture(scope="module", params=["tiny", *WRITERS])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "tiny":
        torch.manual_seed(0)
        return make_backbone(
            BackboneConfig(feature_layer=1, hidden=32, depth=2, latent_channels=16, text_dim=16)
        ).eval()  # type: ignore[attr-defined]
    source = WRITERS[request.param](tmp_path_factory.mktemp(request.param))
    return make_backbone(PretrainedBackboneConfig(request.param, str(source), 1, dtype="float32"))


def pixels(backbone: Any, num_frames: int, seed: int = 0) -> Video:
    size = backbone.config.patch_px
    generator = torch.Generator().manual_seed(seed)
    return Video(2 * torch.rand(1, 3, num_frames, size, size, generator=generator) - 1, 20.0)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(17,), (1, 4, 4, 4, 4), (5, 12), (1, 8, 8)], ids=str)
def test_pieces_give_the_latents_of_the_whole(backbone: Any, pieces: tuple[int, ...]):
    video = pixels(backbone, 17)
    whole = backbone.encode(video)
    stream = open_stream(backbone)
    parts = [stream.push(Video(grid, 20.0)) for grid in video.grid.split(list(pieces), dim=2)]
    assert all(part.fps == whole.fps for part in parts)
    assert torch.allclose(torch.cat([part.grid for part in parts], dim=2), whole.grid, atol=2e-6)


@torch.no_grad()
def test_streams_do_not_disturb_each_other_nor_clips_between(backbone: Any):
    one, two = pixels(backbone, 9, seed=1), pixels(backbone, 9, seed=2)
    streams = [open_stream(backbone), open_stream(backbone)]
    found: list[list[torch.Tensor]] = [[], []]
    for piece in (slice(0, 1), slice(1, 5), slice(5, 9)):
        for stream, video, latents in zip(streams, (one, two), found, strict=True):
            latents.append(stream.push(Video(video.grid[:, :, piece], 20.0)).grid)
            backbone.encode(pixels(backbone, 5, seed=3))
    for video, latents in zip((one, two), found, strict=True):
        assert torch.allclose(torch.cat(latents, dim=2), backbone.encode(video).grid, atol=2e-6)


@torch.no_grad()
def test_a_window_is_not_the_tail_of_a_stream(backbone: Any):
    """Its first frame stands alone and has no past, of which every later latent of a deep encoder knows."""
    video = pixels(backbone, 17)
    tail = backbone.encode(video).grid[:, :, -3:]
    window = backbone.encode(Video(video.grid[:, :, -9:], 20.0)).grid
    error = [float((window[:, :, k] - tail[:, :, k]).norm() / tail[:, :, k].norm()) for k in range(3)]
    assert error[0] > 0.05
    # the codec of the tiny model has no memory beyond a block, the others have
    assert (error[2] < 1e-5) == isinstance(backbone.config, BackboneConfig)


def test_what_does_not_fill_latents_is_refused(backbone: Any):
    stream = open_stream(backbone)
    with pytest.raises(ValueError, match=r"1 \+ a multiple of 4 frames"):
        stream.push(pixels(backbone, 4))


class LooksAhead:
    """A `VideoBackbone` and no more."""

    feature_dim, objective = 1, None
    encode = decode = features = velocity = learn = lambda self, *arguments: arguments[0]


def test_an_encoder_that_looks_ahead_is_refused():
    with pytest.raises(ValueError, match=r"encoder of LooksAhead cannot go on .* encoding='window'"):
        open_stream(LooksAhead())  # type: ignore[arg-type]


class TestHistory:
    @pytest.fixture
    def backbone(self, small_backbone: BackboneConfig) -> Any:
        torch.manual_seed(0)
        return make_backbone(small_backbone)

    @torch.no_grad()
    def test_a_growing_episode_is_encoded_once(self, backbone: Any, monkeypatch: pytest.MonkeyPatch):
        video, history, encoded = pixels(backbone, 21), LatentHistory(backbone), []
        encode = backbone.codec.encode
        monkeypatch.setattr(backbone.codec, "encode", lambda clip: encoded.append(clip.grid.shape[2]) or encode(clip))
        for t in (1, 9, 9, 13, 21):
            newest = history.newest(Video(video.grid[:, :, :t], 20.0), 3)
            assert torch.allclose(
                newest.grid, last_latents(encode(Video(video.grid[:, :, :t], 20.0)).grid, 3), atol=1e-6
            )
            assert newest.fps == 5.0
        assert encoded == [1, 9, 5, 9]  # with the frame before, from which the codec goes on

    @torch.no_grad()
    def test_another_episode_starts_over(self, backbone: Any):
        history = LatentHistory(backbone)
        history.newest(pixels(backbone, 9, seed=0), 3)
        for other in (pixels(backbone, 13, seed=1), pixels(backbone, 5, seed=1)):
            expected = last_latents(backbone.encode(other).grid, 3)
            assert torch.allclose(history.newest(other, 3).grid, expected, atol=1e-6)


class TestSystem2:
    @pytest.fixture
    def config(self, small_config: PolicyConfig) -> System2Config:
        assert small_config.system2 is not None
        return continuing(small_config.system2)

    def test_streams_look_when_a_latent_is_complete(self, config: System2Config):
        assert [(stream.encoding, stream.every) for stream in config.streams] == [("window", 4), ("stream", 4)]

    def test_what_is_seen_is_a_function_of_the_clips(self, config: System2Config):
        """Whatever was looked at before."""
        torch.manual_seed(0)
        system2 = System2(config, make_backbone(config.backbone)).eval()
        generator = torch.Generator().manual_seed(0)
        episode = 2 * torch.rand(1, 3, 13, 16, 16, generator=generator) - 1

        def clips(t: int) -> dict[str, Video]:
            return {"spatial": Video(episode[:, :, t - 1 : t], 20.0), "motion": Video(episode[:, :, :t], 20.0)}

        one_by_one = [system2.see(clips(t), ["push"]) for t in (1, 5, 9, 13)]
        backwards = [system2.see(clips(t), ["push"]) for t in (13, 9, 5, 1)][::-1]
        for a, b in zip(one_by_one, backwards, strict=True):
            assert a["motion"].grid.shape[2] == 3
            for name in a:
                assert torch.allclose(a[name].grid, b[name].grid, atol=1e-2)

    def test_frames_that_fill_no_latent_are_refused(self, config: System2Config):
        torch.manual_seed(0)
        system2 = System2(config, make_backbone(config.backbone)).eval()
        clips = {
            "spatial": Video(torch.zeros(1, 3, 1, 16, 16), 20.0),
            "motion": Video(torch.zeros(1, 3, 7, 16, 16), 20.0),
        }
        with pytest.raises(ValueError, match=r"'motion' takes clips of .* \[3, 5, 16, 16\], got \[3, 7, 16, 16\]"):
            system2.see(clips, ["push"])

    def test_a_model_that_cannot_go_on_is_refused(self, config: System2Config):
        with pytest.raises(
            ValueError, match=r"needs a strictly causal video VAE \(tiny, wan21, wan22, cosmos; this is hunyuan"
        ):
            replace(
                config,
                backbone=PretrainedBackboneConfig("hunyuan", "x", 1),
                streams=(replace(config.streams[1], num_frames=9),),
            )

    def test_moments_between_latents_are_refused(self, config: System2Config):
        with pytest.raises(ValueError, match=r"every must be a multiple of 4 control steps .* got 6"):
            replace(config, streams=(replace(config.streams[1], every=6),))
