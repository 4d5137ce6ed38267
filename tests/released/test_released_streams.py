"""Which latents a stream of the released code reads, in our config; that the numbers are theirs, the fixtures show."""

from typing import Any

import pytest
import torch
from released_checkpoint import FEATURES, as_model, as_video, released_state, settings_yaml

from video2act.config import BackboneConfig, StreamConfig
from video2act.system2.filters import make_filter
from video2act.types import Video
from video2act_released.config import Robot, denoising_config, former_config, stream_config
from video2act_released.settings import Schedule, VideoSettings
from video2act_released.streams import filter_config, latents_of, stream_names

BACKBONE = BackboneConfig(feature_layers=(1,), hidden=FEATURES, depth=2, num_heads=4, latent_channels=16, text_dim=16)


def model(raw: dict[str, Any] | None = None, motion: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The yaml's model section; clips of the motion stream have eight latents."""
    settings = settings_yaml()["model"] | fields
    settings["dual_stream_framepack"]["motion_stream"] |= {"num_frames": 29} | (motion or {})
    settings["dual_stream_framepack"]["raw_stream"] |= raw or {}
    return settings


def converted(name: str, settings: dict[str, Any]) -> StreamConfig:
    return stream_config(
        name,
        released_state(),
        model=as_model(settings),
        video=as_video(settings["video"]),
        backbone=BACKBONE,
        robot=Robot(),
    )


class TestSelection:
    @pytest.mark.parametrize(
        ("word", "count", "frames"),
        [
            ("last", 4, (4, 5, 6, 7)),
            (None, 4, (4, 5, 6, 7)),
            ("first", 3, (0, 1, 2)),
            ("center", 3, (2, 3, 4)),
            # 3.5 is rounded to the even number
            ("uniform", 3, (0, 4, 7)),
            ("uniform", 1, (0,)),
            ("uniform", 8, ()),
            ("whatever", 8, ()),
        ],
    )
    def test_latents_are_chosen_as_the_yaml_says(self, word: str | None, count: int, frames: tuple[int, ...]):
        motion = {"latent_num_frames": count, "extraction": "sobel"} | ({"latent_frame_select": word} if word else {})
        stream = converted("motion", model(motion=motion))
        assert (stream.num_frames, stream.latent_frames) == (29, frames)

    def test_other_words_and_numbers_are_refused(self):
        with pytest.raises(ValueError, match="latent_frame_select 'middle' is not one of last, first, center, uniform"):
            converted("motion", model(motion={"latent_num_frames": 4, "latent_frame_select": "middle"}))
        with pytest.raises(ValueError, match="latent_num_frames=9, but its clips have 8 latents"):
            converted("motion", model(motion={"latent_num_frames": 9}))

    def test_latents_of_older_clips_are_refused_and_those_of_the_newest_taken(self):
        motion = {"latent_num_frames": 4, "cache_concat_chunks": 2}
        assert converted("motion", model(motion=motion)).latent_frames == (4, 5, 6, 7)
        assert converted("motion", model(motion=motion | {"latent_num_frames": 8})).latent_frames == ()
        with pytest.raises(ValueError, match="cache_concat_chunks=2: the released code reads latents of several clips"):
            converted("motion", model(motion=motion | {"latent_num_frames": 9}))

    def test_the_band_keeps_its_bins_when_latents_are_left_out(self):
        settings = model(motion={"latent_num_frames": 3, "latent_frame_select": "uniform"})
        stream = converted("motion", settings)
        # latents 0, 4 and 7 of 6.25 a second: 2 in 7 / 6.25 s
        rate = 6.25 * 2 / 7
        assert (stream.filter.low_hz, stream.filter.high_hz) == (pytest.approx(rate / 16), pytest.approx(7 * rate / 16))


class TestSource:
    def test_the_spatial_stream_may_read_the_newest_motion_latents(self):
        raw = {"latent_source": "motion_current", "video_size": [16, 16]}
        stream = converted("spatial", model(raw=raw, motion={"latent_num_frames": 3, "latent_frame_select": "center"}))
        assert (stream.num_frames, stream.frame_px, stream.latent_frames) == (29, (16, 16), (4,))
        several = converted("spatial", model(raw=raw | {"num_frames": 2}))
        assert several.latent_frames == (6, 7)

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            ({"latent_source": "motion_current", "video_size": [32, 48]}, "do not fit them"),
            ({"latent_source": "motion_current", "video_size": [16, 16], "num_frames": 9}, "do not fit them"),
            ({"latent_source": "wrist"}, "latent_source 'wrist' is not one of raw, motion_current"),
            ({"num_frames": 5}, "raw_stream.num_frames=5: the released code encodes these frames each alone"),
        ],
    )
    def test_what_has_no_clip_is_refused(self, raw: dict[str, Any], message: str):
        with pytest.raises(ValueError, match=message):
            converted("spatial", model(raw=raw))


class TestSingleStream:
    def test_one_stream_is_the_released_default(self):
        settings = model()
        del settings["use_dual_stream_framepack"]
        assert stream_names(as_model(settings)) == ("spatial",)
        assert converted("spatial", settings).filter.name == "none"

    def test_its_latents_are_resized_to_the_size_of_the_yaml(self):
        settings = model(use_dual_stream_framepack=False)
        settings["video"]["video_size"] = [224, 240]
        stream = converted("spatial", settings)
        assert (stream.frame_px, stream.latent_size) == ((480, 832), (14, 15))
        del settings["video"]["video_size"]
        assert converted("spatial", settings).latent_size == ()
        assert latents_of("spatial", as_model(settings), video=VideoSettings(), num_latents=1).size == (30, 52)


class TestHeads:
    def test_their_number_is_read_off_the_tensors(self):
        state = released_state("formers")
        former = former_config(state, "motion")
        assert (former.num_heads, former.head_dim) == (2, 64)

    def test_half_a_head_is_refused(self):
        state = released_state("formers")
        state["motion_token_compressor.layers.0.0.to_q.weight"] = torch.zeros(96, 24)
        with pytest.raises(ValueError, match="has 96 channels, which are not whole heads of 64"):
            former_config(state, "motion")


class TestBand:
    def band(self, **fields: Any) -> VideoSettings:
        band = {"filter_type": "bandpass", "freq_low": 1.0, "freq_high": 7.0}
        return as_video({"fps": 16, "motion_extraction": band | fields})

    def kept(self, video: VideoSettings, num_latents: int) -> list[int]:
        """Bins that our filter lets pass."""
        keep = make_filter(filter_config("fft", video, latent_fps=5.0, frames=tuple(range(num_latents))))
        grid = torch.randn(1, 1, num_latents, 1, 1, generator=torch.Generator().manual_seed(0))
        spectrum = torch.fft.rfft(keep(Video(grid, 5.0)).grid, dim=2).abs().flatten()
        return (spectrum > 1e-4).nonzero().flatten().tolist()

    def test_a_band_of_one_frequency(self):
        assert self.kept(self.band(freq_low=2.0, freq_high=2.0), 8) == [1]

    @pytest.mark.parametrize("num_latents", [8, 16, 31, 48])
    def test_bins_at_the_ends_are_kept_as_theirs_are(self, num_latents: int):
        bins = torch.fft.rfftfreq(num_latents, d=1 / 16.0)
        theirs = ((bins >= 1.0) & (bins <= 7.0)).nonzero().flatten().tolist()
        assert self.kept(self.band(), num_latents) == theirs

    def test_a_band_without_a_frequency_is_refused_at_once(self):
        with pytest.raises(ValueError, match=r"2\.5 to 3 Hz holds no frequency of 8 latents \(0, 2, 4, 6, 8 Hz\)"):
            filter_config("fft", self.band(freq_low=2.5, freq_high=3.0), latent_fps=5.0, frames=tuple(range(8)))

    def test_of_a_single_latent_only_the_spatial_filter_is_left(self):
        video = self.band(filter_type="lowpass")
        assert filter_config("fft", video, latent_fps=5.0, frames=(7,)).name == "none"
        assert filter_config("sobel+fft", video, latent_fps=5.0, frames=(7,)).name == "sobel"


@pytest.mark.parametrize("words", [{"prediction_type": "v_prediction"}, {"beta_schedule": "linear"}])
def test_noise_schedules_that_we_lack_are_refused(words: dict[str, Any]):
    with pytest.raises(ValueError, match=f"noise_scheduler: .*{next(iter(words.values()))}"):
        denoising_config(Schedule(**words))
