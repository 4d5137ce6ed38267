"""The contract of a `VideoBackbone`; every implementation runs through it.

To check another one, add a function that builds it to `BACKBONES`.
"""

import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import published_models
from video2act.config import (
    BackboneConfig,
    FilterConfig,
    FormerConfig,
    PretrainedBackboneConfig,
    StreamConfig,
    System2Config,
)
from video2act.system2 import System2
from video2act.system2.backbones import AnyConfig, TinyBackbone, load_video_model, make_backbone, save_video_model
from video2act.system2.backbones.pretrained import PretrainedBackbone
from video2act.types import Video
from video2act.video_backbone import VideoBackbone

FPS = 20.0
TEXT = ["push the block", "pull"]


@dataclass(frozen=True)
class Subject:
    """A small backbone, and what the tests must know of it."""

    config: AnyConfig
    latent_channels: int
    write: Callable[[Path], Path] | None = None
    """of a published model: fills a folder with a tiny one, in the authors' layout"""
    num_groups: int = 2
    """frames of features after the first"""
    size_px: int = 16
    depth: int = published_models.DEPTH
    is_lossless: bool = False
    """the codec has as many components as a block has values"""
    is_causal: bool = True
    """a frame never changes an earlier latent, not even through the statistics of a norm"""
    has_level_per_frame: bool = True
    """a clean past and a noisy future may share a clip"""
    without_gradient: tuple[str, ...] = ()
    """parts of names of weights that the output cannot depend on"""

    @property
    def is_published(self) -> bool:
        return self.write is not None

    def make(self, whole: bool = True, fresh: bool = False, **changes: Any) -> VideoBackbone:
        """Published ones are shared by tests that leave them as they are; the others ask for a `fresh` one."""
        config = replace(self.config, **changes)
        if self.is_published and not fresh:
            return _load_once(config, whole)
        torch.manual_seed(0)
        backbone = make_backbone(config, whole)
        assert isinstance(backbone, nn.Module)
        return backbone.eval()

    @property
    def num_frames(self) -> int:
        return 1 + self.num_groups * self.config.frames_per_feature

    @property
    def num_latents(self) -> int:
        return 1 + (self.num_frames - 1) // self.config.frames_per_latent

    @property
    def latent_px(self) -> int:
        return self.config.patch_px if isinstance(self.config, BackboneConfig) else self.config.grid.latent_px

    def cell(self, t: int, h: int, w: int) -> list[int]:
        """The position of the features' grid that a latent position belongs to."""
        if isinstance(self.config, BackboneConfig):
            return [t, h, w]
        grid = self.config.grid
        # an odd number of latent frames is padded in front
        return [(t + grid.latents_per_token - 1) // grid.latents_per_token, h // grid.patch, w // grid.patch]

    def pixels(self, b: int = 2, seed: int = 0, num_frames: int | None = None) -> Video:
        shape = (b, 3, num_frames or self.num_frames, self.size_px, self.size_px)
        return Video(2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1, FPS)


@cache
def _load_once(config: PretrainedBackboneConfig, whole: bool) -> Any:
    return make_backbone(config, whole)


def blocks(backbone: VideoBackbone) -> list[nn.Module]:
    """The transformer's blocks in the order in which they run."""
    if isinstance(backbone, TinyBackbone):
        return list(backbone.blocks)
    assert isinstance(backbone, PretrainedBackbone)
    return [block for name in backbone.BLOCKS for block in getattr(backbone.transformer, name)]


def published(name: Any, write: Callable[[Path], Path], latent_channels: int, size_px: int, **facts: Any) -> Subject:
    """A family of published models, tapped after its first block."""
    config = PretrainedBackboneConfig(name, "to be written", feature_layers=(1,), dtype="float32")
    return Subject(config, latent_channels, write, size_px=size_px, **facts)


def write_mochi(root: Path) -> Path:
    """The example's model, with weights that keep signals alive."""
    MOCHI["write_tiny"](root)
    for part, kind in (("transformer", MOCHI["MochiTransformer3DModel"]), ("vae", MOCHI["AutoencoderKLMochi"])):
        published_models.stir(kind.from_pretrained(root / part)).save_pretrained(root / part)
    return root


MOCHI = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "05_new_backbone.py"))

TINY = BackboneConfig(
    feature_layers=(1,),
    hidden=32,
    depth=3,
    num_heads=4,
    latent_channels=16,
    patch_px=8,
    frames_per_latent=4,
    text_dim=16,
)
SEES_ALL = {"is_causal": False, "has_level_per_frame": False}
BACKBONES: dict[str, Subject] = {
    "tiny": Subject(TINY, 16),
    "tiny_lossless": Subject(
        replace(TINY, patch_px=4, frames_per_latent=2, latent_channels=96, hidden=48),
        96,
        num_groups=3,
        is_lossless=True,
    ),
    "wan21": published("wan21", published_models.write_wan21, 16, 32),
    "wan22": published("wan22", published_models.write_wan22, 48, 64),
    "hunyuan": published("hunyuan", published_models.write_hunyuan, 4, 32, **SEES_ALL),
    "cogvideox": published("cogvideox", published_models.write_cogvideox, 4, 32, **SEES_ALL),
    "cogvideox15": published(
        "cogvideox15", published_models.write_cogvideox15, 4, 32, is_causal=False, has_level_per_frame=False
    ),
    "ltx": published("ltx", published_models.write_ltx, 8, 64),
    "cosmos": published("cosmos", published_models.write_cosmos, 16, 32),
    # the example of how to add one
    "mochi": published("mochi", write_mochi, 4, 32, num_groups=1, **SEES_ALL),
}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Subject], Subject]:
    """A published model's folder, written once; the subject then names it."""
    done: dict[str, Path] = {}

    def write(subject: Subject) -> Subject:
        if subject.write is None:
            return subject
        name = subject.config.name
        if name not in done:
            done[name] = subject.write(tmp_path_factory.mktemp(name))
        return replace(
            subject, config=replace(subject.config, source=str(done[name]), text_cache=str(done[name] / "text"))
        )

    return write


@pytest.fixture(params=BACKBONES)
def subject(request: pytest.FixtureRequest, written: Callable[[Subject], Subject]) -> Subject:
    return written(BACKBONES[request.param])


@pytest.fixture
def backbone(subject: Subject) -> Iterator[VideoBackbone]:
    with torch.no_grad():
        yield subject.make()


def noised(latents: Video, level: Tensor, seed: int = 5) -> Video:
    noise = torch.randn(latents.grid.shape, generator=torch.Generator().manual_seed(seed))
    factor = level[:, None, :, None, None]
    return Video((1 - factor) * latents.grid + factor * noise, latents.fps)


class TestCodec:
    def test_it_is_a_backbone(self, backbone: VideoBackbone):
        assert isinstance(backbone, VideoBackbone)

    def test_time_is_merged_and_the_rate_divided(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        side = subject.size_px // subject.latent_px
        assert latents.grid.shape == (2, subject.latent_channels, subject.num_latents, side, side)
        assert latents.fps == FPS / subject.config.frames_per_latent

    def test_a_single_frame_is_a_clip(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels(num_frames=1))
        assert latents.grid.shape[2] == 1
        if not subject.is_causal:
            return
        # the first latent frame of a clip is that of its first frame alone
        whole = subject.pixels()
        alone = backbone.encode(Video(whole.grid[:, :, :1], FPS))
        assert torch.allclose(alone.grid[:, :, 0], backbone.encode(whole).grid[:, :, 0], atol=1e-5)

    def test_decoding_restores_shape_and_rate(self, subject: Subject, backbone: VideoBackbone):
        # an even number of latent frames, too, where the model takes one
        one_group = subject.pixels(num_frames=1 + subject.config.frames_per_feature)
        for pixels in (subject.pixels(), one_group, subject.pixels(num_frames=1)):
            again = backbone.decode(backbone.encode(pixels))
            assert again.grid.shape == pixels.grid.shape
            assert again.fps == pixels.fps

    def test_what_it_decodes_it_encodes_to_the_same_latents(self, subject: Subject, backbone: VideoBackbone):
        """Where that is not so, pictures of imagined latents would show something else than was imagined."""
        if subject.is_published:
            pytest.skip("holds for linear codecs; a trained VAE comes close, a random one does not")
        latents = backbone.encode(backbone.decode(backbone.encode(subject.pixels())))
        again = backbone.encode(backbone.decode(latents))
        assert torch.allclose(again.grid[:, :, 1:], latents.grid[:, :, 1:], atol=1e-4)

    def test_a_later_frame_never_changes_an_earlier_latent(self, subject: Subject, backbone: VideoBackbone):
        if not subject.is_causal:
            pytest.skip("its norms see the whole clip")
        pixels, group = subject.pixels(), subject.config.frames_per_latent
        latents = backbone.encode(pixels).grid
        for frame in range(subject.num_frames):
            changed = pixels.grid.clone()
            changed[:, :, frame] += 0.5 * torch.rand(changed[:, :, frame].shape) + 0.1
            difference = (backbone.encode(Video(changed, FPS)).grid - latents).abs().amax(dim=(0, 1, 3, 4))
            own = -(-frame // group)
            assert (difference[:own] <= 1e-6).all()
            assert difference[own] > 1e-3

    @pytest.mark.parametrize("what", ["frames", "size"])
    def test_a_clip_that_does_not_fit_is_refused(self, subject: Subject, backbone: VideoBackbone, what: str):
        num_frames = 2 if what == "frames" else subject.num_frames
        size = subject.size_px + (2 if what == "size" else 0)
        pixels = Video(torch.zeros(1, 3, num_frames, size, size), FPS)
        with pytest.raises(ValueError, match=f"got {num_frames} frames of {size} x {size} px"):
            backbone.encode(pixels)


class TestFeatures:
    def test_they_stand_on_the_grid_of_the_latents(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        features = backbone.features(latents, TEXT)
        side = subject.size_px // subject.config.patch_px
        assert features.grid.shape == (2, backbone.feature_dim, 1 + subject.num_groups, side, side)
        assert features.fps == FPS / subject.config.frames_per_feature

    def test_they_are_deterministic_and_leave_the_latents_alone(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        before = latents.grid.clone()
        first = backbone.features(latents, TEXT).grid
        torch.rand(1)  # whatever the global generator does in between
        assert torch.equal(first, backbone.features(latents, TEXT).grid)
        assert torch.equal(before, latents.grid)

    def test_change_the_video_and_they_change(self, subject: Subject, backbone: VideoBackbone):
        first, second = (backbone.features(backbone.encode(subject.pixels(seed=seed)), TEXT).grid for seed in (0, 1))
        assert (first - second).abs().mean() > 0.05

    def test_change_the_instruction_and_they_change(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        first = backbone.features(latents, ["push", "push"]).grid
        assert (first - backbone.features(latents, ["pull it up", "pull it up"]).grid).abs().mean() > 1e-4

    def test_change_the_padding_and_nothing_changes(self, subject: Subject, backbone: VideoBackbone):
        """Beside a long instruction, a short one is padded."""
        latents = backbone.encode(subject.pixels())
        beside_short = backbone.features(latents, ["push", "pull"]).grid[0]
        beside_long = backbone.features(latents, ["push", "open the drawer and put the red block into it"]).grid[0]
        assert torch.allclose(beside_short, beside_long, atol=1e-5)

    def test_a_batch_equals_its_items(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        together = backbone.features(latents, TEXT).grid
        for i in range(2):
            alone = backbone.features(Video(latents.grid[i : i + 1], latents.fps), TEXT[i : i + 1]).grid[0]
            assert torch.allclose(together[i], alone, atol=2e-5, rtol=1e-5)

    def test_bfloat16_is_close_with_and_without_mixed_precision(self, subject: Subject):
        if not isinstance(subject.config, PretrainedBackboneConfig):
            pytest.skip("the tiny model is kept in float32")
        exact = subject.make()
        cache = f"{subject.config.text_cache}16"
        coarse = make_backbone(replace(subject.config, dtype="bfloat16", text_cache=cache))
        with torch.no_grad():
            latents = exact.encode(subject.pixels())
            with torch.autocast("cpu", torch.bfloat16):  # as in System 2; it changes nothing
                mixed, again = coarse.features(latents, TEXT).grid, coarse.encode(subject.pixels()).grid
            expected, found = exact.features(latents, TEXT).grid, coarse.features(latents, TEXT).grid
        assert torch.equal(found, mixed)
        assert torch.equal(again, latents.grid)
        assert (found - expected).norm() / expected.norm() < 0.05

    def test_truncated_equals_full(self, subject: Subject):
        """Stopping after block k gives what leaves block k of a run through all blocks, with the same weights."""
        full = subject.make(feature_layers=(subject.depth,), feature_norm="none")
        assert isinstance(full, nn.Module)
        latents = full.encode(subject.pixels())
        for layer in range(1, subject.depth + 1):
            truncated = subject.make(whole=False, feature_layers=(layer,), feature_norm="none")
            assert isinstance(truncated, nn.Module)
            if not subject.is_published:
                truncated.load_state_dict(full.state_dict())
            left: list[Any] = []
            handle = blocks(full)[layer - 1].register_forward_hook(
                lambda module, args, out, left=left: left.append(out)
            )
            with torch.no_grad():
                full.features(latents, TEXT)
                features = truncated.features(latents, TEXT).grid
            handle.remove()
            tokens = left[0][0] if isinstance(left[0], tuple) else left[0]
            b, d, t, h, w = features.shape
            expected = tokens.reshape(b, t, h, w, d).permute(0, 4, 1, 2, 3)
            assert torch.equal(features, expected)

    def test_a_layer_norm_leaves_mean_0_and_variance_1(self, subject: Subject, backbone: VideoBackbone):
        found = backbone.features(backbone.encode(subject.pixels()), TEXT).grid
        assert backbone.config.feature_norm == "layer"
        assert found.mean(dim=1).abs().max() < 1e-5
        assert torch.allclose(found.var(dim=1, unbiased=False), torch.ones(()), atol=1e-3)

    def test_a_modulated_norm_is_the_next_blocks(self, subject: Subject):
        """Per channel one scale and one shift of the normed features; per frame, where each has its own noise level."""
        raw, modulated = (subject.make(feature_norm=norm) for norm in ("none", "modulated"))
        if not subject.is_published:
            modulated.load_state_dict(raw.state_dict())
        latents = raw.encode(subject.pixels())
        before, found = (model.features(latents, TEXT).grid[0, :, 0].flatten(1).double() for model in (raw, modulated))
        centred = before - before.mean(dim=0)
        errors = []
        for normed in (centred / centred.norm(dim=0), before / before.norm(dim=0)):  # layer norm, or RMS
            x, y = (grid - grid.mean(dim=1, keepdim=True) for grid in (normed, found))
            fitted = (x * y).sum(dim=1, keepdim=True) / x.square().sum(dim=1, keepdim=True) * x
            errors.append(float((y - fitted).norm() / y.norm()))
        assert min(errors) < 1e-4
        assert not torch.allclose(found, before, atol=1e-2)

    def test_a_modulated_norm_needs_a_next_block(self, subject: Subject):
        with pytest.raises(ValueError, match=rf"block after block {subject.depth}, which is .* last; choose"):
            subject.make(feature_layers=(subject.depth,), feature_norm="modulated")

    def test_what_lies_behind_the_tap_is_not_loaded(self, subject: Subject):
        if not subject.is_published:
            pytest.skip("the tiny model is always whole")
        for layer in range(subject.depth + 1):
            assert len(blocks(subject.make(whole=False, feature_layers=(layer,)))) == layer
        cut = subject.make(whole=False)
        assert isinstance(cut, nn.Module)
        assert not any(".decoder." in name for name in cut.state_dict())
        with pytest.raises(ValueError, match="decode needs the whole model, but this one was cut after block 1"):
            cut.decode(cut.encode(subject.pixels(b=1)))

    def test_deeper_is_different(self, subject: Subject):
        depths = [subject.make(feature_layers=(layer,)) for layer in range(subject.depth + 1)]
        with torch.no_grad():
            grids = [backbone.features(backbone.encode(subject.pixels()), TEXT).grid for backbone in depths]
        for shallow, deep in pairwise(grids):
            assert (shallow - deep).abs().mean() > 1e-3

    def test_before_any_mixing_a_cell_of_the_grid_is_a_cell_of_the_latents(self, subject: Subject):
        backbone = subject.make(feature_layers=(0,))
        latents = backbone.encode(subject.pixels(b=1))
        _, _, t, h, w = latents.grid.shape
        with torch.no_grad():
            before = backbone.features(latents, TEXT[:1]).grid
            for place in ((0, 0, 1), (t - 1, h - 1, 0), (1, 0, w - 1)):
                changed = latents.grid.clone()
                changed[(0, slice(None), *place)] += 1.0
                after = backbone.features(Video(changed, latents.fps), TEXT[:1]).grid
                moved = (after - before).abs().amax(dim=(0, 1)) > 1e-6
                assert moved.nonzero().tolist() == [subject.cell(*place)]

    def test_position_is_known_to_the_blocks(self, subject: Subject, backbone: VideoBackbone):
        """Without positions, features of a permuted grid would be the permuted features."""
        latents = backbone.encode(subject.pixels())
        for axis in (2, 3, 4):
            flipped = backbone.features(Video(latents.grid.flip(axis), latents.fps), TEXT).grid.flip(axis)
            assert (flipped - backbone.features(latents, TEXT).grid).abs().mean() > 1e-3


class TestVelocity:
    def test_untrained_it_implies_a_world_that_stands_still(self, subject: Subject, backbone: VideoBackbone):
        if subject.is_published:
            pytest.skip("only the tiny model is built so")
        pixels = subject.pixels()
        latents = backbone.encode(pixels)
        t = latents.grid.shape[2]
        for num_clean in range(1, t):
            level = torch.where(torch.arange(t) < num_clean, 0.0, 0.7).expand(2, t).contiguous()
            noisy = noised(latents, level)
            flow = backbone.velocity(noisy, level, instruction=TEXT)
            assert flow.grid.shape == latents.grid.shape
            assert flow.fps == latents.fps
            implied = noisy.grid - level[:, None, :, None, None] * flow.grid
            assert torch.equal(implied[:, :, :num_clean], latents.grid[:, :, :num_clean])
            future = implied[:, :, num_clean:]
            assert torch.allclose(future, future[:, :, :1].expand_as(future), atol=1e-5)
            if subject.is_lossless:
                newest = (num_clean - 1) * subject.config.frames_per_latent
                still = pixels.grid.clone()
                still[:, :, newest + 1 :] = still[:, :, newest : newest + 1]
                assert torch.allclose(future, backbone.encode(Video(still, FPS)).grid[:, :, num_clean:], atol=1e-4)

    def test_each_item_has_its_own_clean_past(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        t = latents.grid.shape[2]
        level = torch.full((2, t), 0.5)
        level[0, :1] = 0
        level[1, : t - 1] = 0
        if not subject.has_level_per_frame:
            with pytest.raises(ValueError, match=r"one noise level per clip, got levels from 0\.0 to 0\.5 within one"):
                backbone.velocity(noised(latents, level), level, instruction=TEXT)
            return
        together = backbone.velocity(noised(latents, level), level, instruction=TEXT).grid
        for i in range(2):
            single = Video(noised(latents, level).grid[i : i + 1], latents.fps)
            assert torch.allclose(
                together[i], backbone.velocity(single, level[i : i + 1], instruction=TEXT[i : i + 1]).grid[0], atol=1e-5
            )

    def test_without_a_clean_frame_it_is_finite(self, subject: Subject, backbone: VideoBackbone):
        latents = backbone.encode(subject.pixels())
        level = torch.full((2, latents.grid.shape[2]), 1.0)
        flow = backbone.velocity(noised(latents, level), level, instruction=TEXT)
        assert flow.grid.shape == latents.grid.shape
        assert flow.fps == latents.fps
        assert flow.grid.isfinite().all()

    def test_every_weight_but_the_codec_learns(self, subject: Subject):
        backbone = subject.make(fresh=True)
        assert isinstance(backbone, nn.Module)
        latents = backbone.encode(subject.pixels())
        level = torch.full((2, latents.grid.shape[2]), 0.7)
        if subject.has_level_per_frame:
            level[:, 0] = 0.0
        backbone.velocity(noised(latents, level), level, instruction=TEXT).grid.square().sum().backward()
        without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
        excused = ("vae.", *subject.without_gradient)
        assert [name for name in without if not any(part in name for part in excused)] == []


class TestInSystem2:
    def make(self, subject: Subject) -> System2:
        stream = StreamConfig("motion", "top", subject.num_frames, 1, subject.size_px, FilterConfig(), FormerConfig())
        return System2(System2Config(subject.config, (stream,)), subject.make(fresh=True), token_dim=32)

    def test_it_is_frozen_and_stays_in_evaluation_mode(self, subject: Subject):
        system2 = self.make(subject).train()
        assert system2.training
        assert not any(module.training for module in system2.backbone.modules())
        system2.perceive({"motion": subject.pixels()}, TEXT).data.square().sum().backward()
        assert all(p.grad is None and not p.requires_grad for p in system2.backbone.parameters())
        assert all(p.grad is not None for p in system2.formers.parameters())


class TestFolder:
    def test_a_loaded_model_is_the_saved_one(self, subject: Subject, backbone: VideoBackbone, tmp_path: Path):
        assert isinstance(backbone, nn.Module)
        save_video_model(tmp_path, backbone, weights=backbone.state_dict())
        config, again = load_video_model(tmp_path)
        if subject.is_published:  # its transformer is here, the rest stays where it was
            assert config == replace(subject.config, source=str(tmp_path))
        else:
            assert config == subject.config
        assert isinstance(again, nn.Module)
        assert not again.training
        latents = backbone.encode(subject.pixels())
        assert torch.equal(again.encode(subject.pixels()).grid, latents.grid)
        assert torch.equal(again.features(latents, TEXT).grid, backbone.features(latents, TEXT).grid)

    def test_a_folder_that_is_no_model_is_named(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError, match=r"is not a video model \(backbone\.json is missing\)"):
            load_video_model(tmp_path)

    def test_weights_of_another_shape_are_named(self, subject: Subject, backbone: VideoBackbone, tmp_path: Path):
        assert isinstance(backbone, nn.Module)
        weights = {name: tensor[:1].clone() for name, tensor in backbone.state_dict().items()}
        save_video_model(tmp_path, backbone, weights=weights)
        with pytest.raises(ValueError, match=r"(?s)does not fit its config:.*the config asks for"):
            load_video_model(tmp_path)
