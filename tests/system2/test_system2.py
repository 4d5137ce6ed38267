from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from video2act.config import FilterConfig, ImagineConfig, PolicyConfig, System2Config
from video2act.system2 import System2
from video2act.system2.backbones import make_backbone
from video2act.types import Video

TEXT = ["push", "pull"]


def build(config: System2Config) -> System2:
    torch.manual_seed(0)
    return System2(config, make_backbone(config.backbone), token_dim=32).eval()


@pytest.fixture
def config(small_config: PolicyConfig) -> System2Config:
    assert small_config.system2 is not None
    return small_config.system2


@pytest.fixture
def system2(config: System2Config) -> System2:
    return build(config)


def clips(config: System2Config, b: int = 2, seed: int = 0) -> dict[str, Video]:
    generator = torch.Generator().manual_seed(seed)

    def pixels(num_frames: int, size: int) -> Tensor:
        return 2 * torch.rand(b, 3, num_frames, size, size, generator=generator) - 1

    return {s.name: Video(pixels(s.num_frames, s.size_px), 20.0 / s.stride) for s in config.streams}


def test_tokens_of_all_streams_one_after_another(config: System2Config, system2: System2):
    tokens = system2.perceive(clips(config), TEXT)
    assert tokens.data.shape == (2, 6, 32)
    assert tokens.mask.all()


@pytest.mark.parametrize("stream", [0, 1])
def test_change_one_stream_and_only_its_tokens_change(config: System2Config, system2: System2, stream: int):
    before, name = clips(config), config.streams[stream].name
    after = before | {name: clips(config, seed=1)[name]}
    change = (system2.perceive(before, TEXT).data - system2.perceive(after, TEXT).data).abs().amax(dim=(0, 2))
    own = slice(3 * stream, 3 * stream + 3)
    assert (change[own] > 1e-2).all()
    change[own] = 0
    assert (change == 0).all()


def test_streams_of_one_size_share_a_pass_of_the_video_model(config: System2Config, monkeypatch: pytest.MonkeyPatch):
    motion = config.streams[1]
    twins = tuple(replace(motion, name=name, camera=name) for name in ("left", "right"))
    system2 = build(replace(config, streams=(config.streams[0], *twins)))
    shown, alone = clips(system2.config), dict[str, Tensor]()
    for stream in system2.config.streams:
        one = replace(system2.config, streams=(stream,))
        monkeypatch.setattr(system2, "config", one)
        alone[stream.name] = system2.see({stream.name: shown[stream.name]}, TEXT)[stream.name].grid
        monkeypatch.undo()
    sizes, features = list[int](), system2.backbone.features
    monkeypatch.setattr(
        system2.backbone,
        "features",
        lambda video, *given, **named: sizes.append(len(video.grid)) or features(video, *given, **named),
    )
    seen = system2.see(shown, TEXT)
    assert sorted(size for size in sizes if size == 2 * len(TEXT)) == [2 * len(TEXT)]
    for name, grid in alone.items():
        torch.testing.assert_close(seen[name].grid, grid, rtol=0, atol=1e-5)


def test_the_order_of_the_config_counts_not_that_of_the_clips(config: System2Config, system2: System2):
    shown = clips(config)
    swapped = dict(reversed(shown.items()))
    assert torch.equal(system2.perceive(shown, TEXT).data, system2.perceive(swapped, TEXT).data)


def test_perceiving_is_seeing_then_compressing(config: System2Config, system2: System2):
    seen = system2.see(clips(config), TEXT)
    assert torch.equal(system2.compress(seen).data, system2.perceive(clips(config), TEXT).data)


def test_what_is_seen_may_be_cached(config: System2Config, system2: System2):
    first, again = system2.see(clips(config), TEXT), system2.see(clips(config), TEXT)
    for stream in config.streams:
        grid = first[stream.name].grid
        assert torch.equal(grid, again[stream.name].grid)
        assert grid.dtype == torch.float32
        assert not grid.requires_grad
    assert first["spatial"].grid.shape == (2, 32, 1, 2, 2)
    assert first["motion"].grid.shape == (2, 32, 3, 2, 2)
    assert first["motion"].fps == 5.0


def test_what_a_coarse_video_model_sees_is_handed_on_in_full_precision(
    config: System2Config, system2: System2, monkeypatch: pytest.MonkeyPatch
):
    features = system2.backbone.features
    monkeypatch.setattr(
        system2.backbone, "features", lambda latents, text: features(latents, text).to("cpu", torch.bfloat16)
    )
    assert {video.grid.dtype for video in system2.see(clips(config), TEXT).values()} == {torch.float32}


def test_training_mode_changes_nothing_that_is_seen(config: System2Config, system2: System2):
    before = system2.see(clips(config), TEXT)["motion"].grid
    assert torch.equal(system2.train().see(clips(config), TEXT)["motion"].grid, before)


def test_the_formers_learn_and_the_backbone_does_not(config: System2Config, system2: System2):
    system2.perceive(clips(config), TEXT).data.square().sum().backward()
    for name, parameter in system2.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("backbone.")), name
        assert parameter.requires_grad == (not name.startswith("backbone.")), name


class TestFilterOn:
    def test_both_sides_of_the_transformer_blocks_are_a_word_apart(self, config: System2Config, system2: System2):
        latents = build(replace(config, filter_on="latents"))
        latents.load_state_dict(system2.state_dict())
        first, second = (model.see(clips(config), TEXT) for model in (system2, latents))
        for stream in config.streams:
            assert first[stream.name].grid.shape == second[stream.name].grid.shape
            assert (first[stream.name].grid - second[stream.name].grid).abs().mean() > 0.05

    def test_on_features_what_stands_still_in_time_is_gone(self, config: System2Config, system2: System2):
        seen = system2.see(clips(config), TEXT)["motion"].grid
        assert seen.mean(dim=2).abs().max() < 0.05
        assert seen.abs().mean() > 0.01

    def test_without_a_filter_it_makes_no_difference(self, config: System2Config):
        bare = replace(config, streams=tuple(replace(stream, filter=FilterConfig()) for stream in config.streams))
        first, second = (
            build(replace(bare, filter_on=where)).see(clips(config), TEXT) for where in ("features", "latents")
        )
        assert torch.equal(first["motion"].grid, second["motion"].grid)

    def test_the_band_is_in_hz_of_latent_frames(self, config: System2Config):
        """A band that the camera's rate would hold but the latents' does not is refused."""
        spatial, motion = config.streams
        fast = replace(motion, filter=FilterConfig("temporal_bandpass", low_hz=3.0, high_hz=9.0))
        with pytest.raises(
            ValueError, match=r"holds no frequency of a grid of 3 frames at 5 Hz, which has 0, 1\.67 Hz"
        ):
            build(replace(config, streams=(spatial, fast))).see(clips(config), TEXT)

    def test_of_chosen_latents_it_is_refused_by_the_config(self, config: System2Config):
        """It was refused only when the video model had been loaded."""
        slow = {"num_frames": 33, "latent_frames": (0, 8), "filter": FilterConfig("temporal_bandpass", 3.0, 4.0)}
        chosen = replace(config, streams=(replace(config.streams[1], **slow),))
        with pytest.raises(ValueError, match=r"stream 'motion': the band 3\.0-4\.0 Hz .* of 2 frames at 0\.625 Hz"):
            chosen.check_bands(20.0)

    def test_rates_and_sizes_of_features_are_known_before(self, config: System2Config):
        """`info` and the export took the clip's, also where some latents or another size were chosen."""
        stream = replace(config.streams[1], num_frames=17, latent_frames=(0, 2, 4), latent_size=(3, 4))
        stream = replace(stream, filter=FilterConfig())
        model = build(chosen := replace(config, streams=(stream,)))
        seen = model.see({"motion": Video(torch.zeros(1, 3, 17, 16, 16), 20.0 / stream.stride)}, ["push"])["motion"]
        assert seen.grid.shape[2:] == (chosen.feature_frames(stream), *chosen.feature_size(stream)) == (3, 3, 4)
        assert seen.fps == pytest.approx(chosen.feature_rate(stream, 20.0))


def test_what_a_bgr_stream_imagines_has_the_colours_of_what_it_is_shown(config: System2Config):
    """Red and blue of imagined films were exchanged."""
    ahead = replace(config.streams[1], filter=FilterConfig(), imagine=ImagineConfig(4))
    imagined = {}
    for order in ("rgb", "bgr"):
        model = build(replace(config, streams=(replace(ahead, channel_order=order),)))
        shown = clips(config)["motion"]
        shown = replace(shown, grid=shown.grid.flip(1) if order == "bgr" else shown.grid)
        imagined[order] = model.foresee({"motion": shown}, TEXT)["motion"].grid
    assert torch.equal(imagined["bgr"].flip(1), imagined["rgb"])
    assert (imagined["bgr"] - imagined["rgb"]).abs().max() > 1e-3


class TestRefused:
    @pytest.mark.parametrize(
        "field", [{"latent_size": (2, 2)}, {"latent_frames": (0, 2)}], ids=lambda field: next(iter(field))
    )
    def test_imagining_beside_chosen_latents(self, config: System2Config, field: dict[str, Any]):
        ahead = replace(config.streams[1], filter=FilterConfig(), imagine=ImagineConfig(4), **field)
        with pytest.raises(ValueError, match=f"newest latent as it is; leave {next(iter(field))} out"):
            replace(config, streams=(ahead,))

    def test_a_stream_without_a_clip_is_named(self, config: System2Config, system2: System2):
        shown = clips(config)
        del shown["motion"]
        with pytest.raises(ValueError, match="stream 'motion' has no clip; got spatial"):
            system2.see(shown, TEXT)

    @pytest.mark.parametrize("shape", [(3, 5, 16, 16), (3, 9, 8, 8), (1, 9, 16, 16)])
    def test_a_clip_of_another_shape_is_named(self, config: System2Config, system2: System2, shape: tuple[int, ...]):
        shown = clips(config) | {"motion": Video(torch.zeros(2, *shape), 20.0)}
        expected = r"stream 'motion' takes clips of .* = \[3, 9, 16, 16\], got "
        with pytest.raises(ValueError, match=expected + str(list(shape)).replace("[", r"\[").replace("]", r"\]")):
            system2.see(shown, TEXT)


def test_its_fingerprint_tells_trainings_apart_but_not_precisions(config: System2Config, system2: System2):
    """Robot and server compare it: one may run in bfloat16, and both name another training by its weights."""
    before = system2.fingerprint()
    assert build(config).fingerprint() == before
    coarse = build(config)
    coarse.formers.to(torch.bfloat16)
    assert coarse.fingerprint() == before
    with torch.no_grad():
        system2.stream_embedding[0, 0] += 0.1
    assert system2.fingerprint() != before


def test_every_stream_has_an_embedding_of_its_own(config: System2Config, system2: System2):
    """The first stream's embedding could be added to all streams unnoticed."""
    count = config.streams[0].former.num_tokens
    before = system2.perceive(clips(config), TEXT).data
    for number in range(len(config.streams)):
        with torch.no_grad():
            system2.stream_embedding[number] += 1.0 + number
        after = system2.perceive(clips(config), TEXT).data
        moved = torch.zeros(before.shape[1])
        moved[number * count : (number + 1) * count] = 1.0 + number
        assert torch.allclose(after - before, moved[None, :, None].expand_as(before), atol=1e-5)
        before = after
