"""An encoder that goes on gives the latents that it would give of the whole; a window gives others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import published_models
from video2act.clips import FrameHistory
from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig, System2Config
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone
from video2act.system2.backbones.tiny import CodecStream
from video2act.system2.streaming import last_latents, newest_latents, open_stream
from video2act.types import EncoderMemory, EpisodeFrames, Observation, Video
from video2act.video_backbone import VideoBackbone

WRITERS: dict[str, Callable[[Path], Path]] = {
    "wan21": lambda root: published_models.write_wan21(root, text=False),
    "wan22": lambda root: published_models.write_wan22(root, text=False),
    "wan_small": lambda root: published_models.write_wan21(root, text=False),
    "cosmos": published_models.write_cosmos,
}


@pytest.fixture(scope="module", params=["tiny", *WRITERS])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "tiny":
        torch.manual_seed(0)
        return make_backbone(
            BackboneConfig(feature_layers=(1,), hidden=32, depth=2, latent_channels=16, text_dim=16)
        ).eval()  # type: ignore[attr-defined]
    source = WRITERS[request.param](tmp_path_factory.mktemp(request.param))
    return make_backbone(PretrainedBackboneConfig(request.param, str(source), (1,), dtype="float32"))


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


class LooksAhead(VideoBackbone):
    """A `VideoBackbone` and no more."""

    width = feature_dim = 1  # type: ignore[assignment]
    encode = decode = features = velocity = learn = lambda self, *arguments: arguments[0]  # type: ignore[assignment]


def test_an_encoder_that_looks_ahead_is_refused():
    with pytest.raises(ValueError, match=r"encoder of LooksAhead cannot go on .* encoding='window'"):
        open_stream(LooksAhead())


def test_the_newest_latents_and_the_first_for_what_was_before():
    latents = torch.arange(5.0)[None, None, :, None, None]
    for count, expected in ((3, [2, 3, 4]), (5, [0, 1, 2, 3, 4]), (7, [0, 0, 0, 1, 2, 3, 4]), (1, [4])):
        assert last_latents(latents, count).flatten().tolist() == expected


class TestMemory:
    """An episode's own memory: only new frames are encoded."""

    @pytest.fixture
    def backbone(self, small_backbone: BackboneConfig) -> Any:
        torch.manual_seed(0)
        return make_backbone(small_backbone)

    @pytest.fixture
    def encoded(self, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Numbers of frames that the codec was given, with the frame before, from which it goes on."""
        encoded, encode = [], backbone.codec.encode
        monkeypatch.setattr(backbone.codec, "encode", lambda clip: encoded.append(clip.grid.shape[2]) or encode(clip))
        return encoded

    @torch.no_grad()
    def test_a_growing_episode_is_encoded_once(self, backbone: Any, encoded: list[int]):
        video, memory, expected = pixels(backbone, 21), EncoderMemory(), {}
        for t in (1, 9, 13, 21):
            expected[t] = last_latents(backbone.encode(Video(video.grid[:, :, :t], 20.0)).grid, 3)
        encoded.clear()
        for begin, end in ((0, 1), (1, 9), (9, 9), (1, 13), (13, 21)):  # one clip overlaps what was encoded
            new = EpisodeFrames(video.grid[:, :, begin:end], 20.0, memory, begin)
            newest = newest_latents(backbone, new, num_latents=3)
            assert torch.allclose(newest.grid, expected[end], atol=1e-6)
            assert newest.fps == 5.0
        assert encoded == [1, 9, 5, 9]
        assert memory.num_frames == 21
        assert memory.latents is not None
        assert memory.latents.grid.shape[2] == 3

    @torch.no_grad()
    def test_a_whole_episode_needs_no_memory(self, backbone: Any):
        for other in (pixels(backbone, 13, seed=1), pixels(backbone, 5, seed=1)):
            expected = last_latents(backbone.encode(other).grid, 3)
            assert torch.allclose(newest_latents(backbone, other, num_latents=3).grid, expected, atol=1e-6)

    @torch.no_grad()
    def test_frames_that_are_missing_are_refused(self, backbone: Any):
        memory, video = EncoderMemory(), pixels(backbone, 4)
        with pytest.raises(RuntimeError, match="seen 0 frames of the episode and the clip begins with frame 5"):
            newest_latents(backbone, EpisodeFrames(video.grid, 20.0, memory, 5), num_latents=3)

    @torch.no_grad()
    def test_a_failed_refresh_is_made_up_for_by_the_next(self, backbone: Any, monkeypatch: pytest.MonkeyPatch):
        video, memory = pixels(backbone, 9), EncoderMemory()
        newest_latents(backbone, EpisodeFrames(video.grid[:, :, :1], 20.0, memory, 0), num_latents=3)
        with monkeypatch.context() as patch:
            patch.setattr(backbone.codec, "encode", lambda clip: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                newest_latents(backbone, EpisodeFrames(video.grid[:, :, 1:5], 20.0, memory, 1), num_latents=3)
        newest = newest_latents(backbone, EpisodeFrames(video.grid[:, :, 1:], 20.0, memory, 1), num_latents=3)
        assert torch.allclose(newest.grid, backbone.encode(video).grid, atol=1e-6)


def observation(step: int, seed: int = 0) -> Observation:
    image = np.random.default_rng([seed, step]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Observation({"front": image, "wrist": image}, np.zeros(3, np.float32), "push", step / 20)


class TestEpisodes:
    """Histories hand over new frames only; each has a memory of its own."""

    @pytest.fixture
    def system2(self, small_config: PolicyConfig) -> System2:
        assert small_config.system2 is not None
        torch.manual_seed(0)
        config = small_config.replace({"system2.streams.motion.encoding": "stream"}).system2
        assert config is not None
        return System2(config, make_backbone(config.backbone), token_dim=32).eval()

    @torch.no_grad()
    def test_two_clients_of_one_system_do_not_disturb_each_other(
        self, system2: System2, monkeypatch: pytest.MonkeyPatch
    ):
        """One memory for all started over whenever another client's turn came."""
        alone = []
        for seed in (0, 1):
            history = FrameHistory(system2.config.streams)
            for step in range(21):
                history.append(observation(step, seed))
            alone.append(system2.perceive(history.clips(20.0), ["push"]).data)
        pushed: list[int] = []
        push = CodecStream.push
        monkeypatch.setattr(CodecStream, "push", lambda s, clip: pushed.append(clip.grid.shape[2]) or push(s, clip))
        histories = [FrameHistory(system2.config.streams) for _ in alone]
        for step in range(21):
            for seed, history in enumerate(histories):
                history.append(observation(step, seed))
                tokens = system2.perceive(history.clips(20.0), ["push"]).data if step % 4 == 0 else None
                if step == 20:
                    assert tokens is not None
                    assert torch.allclose(tokens, alone[seed], atol=1e-4)
        assert sum(pushed) == 2 * 21
        assert max(pushed) == 4

    @torch.no_grad()
    def test_a_reset_begins_another_episode(self, system2: System2):
        history = FrameHistory(system2.config.streams)
        for step in range(9):
            history.append(observation(step, seed=1))
            system2.perceive(history.clips(20.0), ["push"])
        history.reset()
        fresh = FrameHistory(system2.config.streams)
        for each in (history, fresh):
            each.append(observation(0))
        found, expected = (system2.perceive(each.clips(20.0), ["push"]).data for each in (history, fresh))
        assert torch.equal(found, expected)

    @torch.no_grad()
    def test_a_long_episode_takes_no_more_memory_than_a_short_one(self, system2: System2):
        """The whole episode was kept, and rebuilt at every refresh."""
        history = FrameHistory(system2.config.streams)
        sizes = set()
        for step in range(400):
            history.append(observation(step % 7))
            if step % 8 == 0:
                clip = history.clips(20.0)["motion"]
                sizes.add(clip.grid.shape[2])
                system2.perceive(history.clips(20.0), ["push"])
        assert sizes == {1, 8}

    def test_a_system_2_that_never_comes_is_an_error(self, system2: System2, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("video2act.clips.MAX_WAITING_FRAMES", 5)
        history = FrameHistory(system2.config.streams)
        for step in range(5):
            history.append(observation(step))
        with pytest.raises(RuntimeError, match=r"System 2 is 5 frames behind, but its encoder .* must see all"):
            history.append(observation(5))

    def test_a_skipped_frame_is_refused(self, system2: System2):
        history = FrameHistory(system2.config.streams)
        history.append(observation(0))
        with pytest.raises(RuntimeError, match="control steps 1 to 2 are missing"):
            history.append(observation(3), control_step=3)


class TestSystem2:
    @pytest.fixture
    def config(self, small_config: PolicyConfig) -> System2Config:
        assert small_config.system2 is not None
        streamed = small_config.replace({"system2.streams.motion.encoding": "stream"}).system2
        assert streamed is not None
        return streamed

    def test_streams_look_when_a_latent_is_complete(self, config: System2Config):
        assert [(stream.encoding, stream.every) for stream in config.streams] == [("window", 4), ("stream", 4)]

    def test_what_is_seen_is_a_function_of_the_clips(self, config: System2Config):
        """Whatever was looked at before."""
        torch.manual_seed(0)
        system2 = System2(config, make_backbone(config.backbone), token_dim=32).eval()
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
        system2 = System2(config, make_backbone(config.backbone), token_dim=32).eval()
        clips = {
            "spatial": Video(torch.zeros(1, 3, 1, 16, 16), 20.0),
            "motion": Video(torch.zeros(1, 3, 7, 16, 16), 20.0),
        }
        with pytest.raises(ValueError, match=r"'motion' takes clips of .* \[3, 5, 16, 16\], got \[3, 7, 16, 16\]"):
            system2.see(clips, ["push"])

    def test_a_model_that_cannot_go_on_is_refused(self, config: System2Config):
        with pytest.raises(
            ValueError, match=r"strictly causal video VAE \(tiny, wan_small, wan21, wan22, cosmos; this is hunyuan"
        ):
            replace(
                config,
                backbone=PretrainedBackboneConfig("hunyuan", "x", (1,)),
                streams=(replace(config.streams[1], num_frames=9),),
            )

    def test_moments_between_latents_are_refused(self, config: System2Config):
        with pytest.raises(ValueError, match=r"every must be a multiple of 4 control steps .* got 6"):
            replace(config, streams=(replace(config.streams[1], every=6),))
