import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from video2act.config import FilterConfig, FilterName
from video2act.system2.filters import laplacian, make_filter, moft, scharr, sobel, temporal_bandpass
from video2act.types import Video

FPS = 5.0
Filter = Callable[[Video], Video]

FILTERS: dict[str, Filter] = {
    "none": make_filter(FilterConfig()),
    "sobel": make_filter(FilterConfig("sobel")),
    "scharr": make_filter(FilterConfig("scharr")),
    "laplacian": make_filter(FilterConfig("laplacian")),
    "temporal_bandpass": make_filter(FilterConfig("temporal_bandpass", low_hz=0.5, high_hz=2.5)),
    "moft": make_filter(FilterConfig("moft", keep=0.5)),
}
SPATIAL: dict[str, Filter] = {"sobel": sobel, "scharr": scharr, "laplacian": laplacian}


def noise(b: int = 2, c: int = 4, t: int = 10, size: int = 6, seed: int = 0) -> Video:
    return Video(torch.randn(b, c, t, size, size, generator=torch.Generator().manual_seed(seed)), FPS)


@pytest.fixture(params=FILTERS)
def keep(request: pytest.FixtureRequest) -> Filter:
    return FILTERS[request.param]


class TestEveryFilter:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_shape_dtype_and_rate_stay(self, keep: Filter, dtype: torch.dtype):
        video = noise().to("cpu", dtype)
        filtered = keep(video)
        assert filtered.grid.shape == video.grid.shape
        assert filtered.grid.dtype == dtype
        assert filtered.fps == FPS

    def test_items_of_a_batch_are_alone(self, keep: Filter):
        video = noise(b=3)
        # were channels chosen over the whole batch, the loud item would choose for all
        loud = video.grid.clone()
        loud[0] *= 100 * torch.arange(1, 5)[:, None, None, None]
        together = keep(Video(loud, FPS)).grid
        for item in (1, 2):
            assert torch.allclose(together[item], keep(Video(video.grid[item : item + 1], FPS)).grid[0], atol=1e-6)

    def test_the_input_is_left_as_it_was(self, keep: Filter):
        video = noise()
        before = video.grid.clone()
        keep(video)
        assert torch.equal(video.grid, before)

    def test_mixed_precision_does_not_reach_inside(self, keep: Filter):
        """System 2 looks under autocast where bf16 is fast; a filter takes differences, of which bf16 leaves little."""
        video = noise()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = keep(video)
        assert torch.equal(mixed.grid, keep(video).grid)

    def test_half_precision_input_is_computed_in_full_precision(self, keep: Filter):
        video = noise().to("cpu", torch.bfloat16)
        exact = keep(video.to("cpu", torch.float32)).grid
        assert torch.equal(keep(video).grid, exact.to(torch.bfloat16))

    def test_a_gradient_is_finite_where_nothing_changes(self, keep: Filter):
        grid = torch.zeros(1, 2, 5, 4, 4, requires_grad=True)
        keep(Video(grid, FPS)).grid.sum().backward()
        assert grid.grad is not None
        assert grid.grad.isfinite().all()


class TestSpatial:
    @pytest.mark.parametrize("name", SPATIAL)
    @pytest.mark.parametrize("value", [0.0, 0.7, -3.0])
    def test_a_constant_image_has_no_edge_not_even_at_its_border(self, name: str, value: float):
        filtered = SPATIAL[name](Video(torch.full((1, 2, 1, 5, 7), value), FPS)).grid
        assert filtered.abs().max() < 1e-6

    def test_sobel_is_that_of_the_textbook(self):
        video = noise(b=1, c=2, t=3)
        found = sobel(video).grid
        for c in range(2):
            for t in range(3):
                p = np.pad(video.grid[0, c, t].numpy(), 1, mode="edge")
                smooth_rows = p[:-2] + 2 * p[1:-1] + p[2:]
                smooth_columns = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
                expected = np.hypot(smooth_rows[:, 2:] - smooth_rows[:, :-2], smooth_columns[2:] - smooth_columns[:-2])
                assert np.allclose(found[0, c, t].numpy(), expected, atol=2e-3)

    def test_laplacian_is_that_of_the_textbook(self):
        frame = noise(b=1, c=1, t=1)
        p = np.pad(frame.grid[0, 0, 0].numpy(), 1, mode="edge")
        expected = abs(p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * p[1:-1, 1:-1])
        assert np.allclose(laplacian(frame).grid[0, 0, 0].numpy(), expected, atol=1e-5)

    @pytest.mark.parametrize("name", SPATIAL)
    @pytest.mark.parametrize("is_vertical", [True, False])
    def test_an_edge_is_found_where_it_is_and_only_there(self, name: str, is_vertical: bool):
        frame = torch.zeros(6, 8)
        frame[:, 4:] = 1.0
        grid = (frame if is_vertical else frame.T)[None, None, None]
        found = SPATIAL[name](Video(grid.contiguous(), FPS)).grid[0, 0, 0]
        found = found if is_vertical else found.T
        strength = found.mean(dim=0)
        assert torch.allclose(
            found, strength.expand_as(found), atol=1e-6
        )  # the same along the whole edge, corners included
        assert strength[[3, 4]].min() > 0.9
        assert strength[[0, 1, 2, 5, 6, 7]].abs().max() < 1e-6

    @pytest.mark.parametrize(("name", "side"), [("sobel", (1, 2, 1)), ("scharr", (3, 10, 3))])
    def test_a_step_of_one_by_hand(self, name: str, side: tuple[int, int, int]):
        """At a straight edge, one cell outside a corner of ones, and in that corner."""
        grid = torch.zeros(1, 1, 1, 6, 6)
        grid[..., 3:, 3:] = 1.0
        found = SPATIAL[name](Video(grid, FPS)).grid[0, 0, 0]
        assert found[5, 3].item() == pytest.approx(sum(side), abs=2e-3)
        assert found[2, 2].item() == pytest.approx(math.hypot(side[0], side[0]), abs=2e-3)
        assert found[3, 3].item() == pytest.approx(math.hypot(side[0] + side[1], side[0] + side[1]), abs=2e-3)

    @pytest.mark.parametrize("name", SPATIAL)
    def test_frames_and_channels_do_not_mix(self, name: str):
        video = noise()
        changed = video.grid.clone()
        changed[0, 1, 2] += 1000 * torch.rand(6, 6)
        difference = (SPATIAL[name](Video(changed, FPS)).grid - SPATIAL[name](video).grid).abs().amax(dim=(3, 4))
        assert difference[0, 1, 2] > 1
        difference[0, 1, 2] = 0
        assert difference.max() == 0


def sine(hz: float, t: int, fps: float) -> Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(t) / fps + 0.3)[None, None, :, None, None].expand(1, 2, t, 3, 3)


class TestTemporalBandpass:
    @pytest.mark.parametrize("fps", [16.0, 20.0, 50.0])
    def test_it_keeps_what_is_in_the_band_in_hz_of_its_own_time_axis(self, fps: float):
        t = int(2 * fps)  # bins of half a hertz
        video = Video(5.0 + sine(4, t, fps) + sine(7, t, fps) + sine(1, t, fps), fps)
        assert torch.allclose(temporal_bandpass(video, 3.0, high_hz=5.0).grid, sine(4, t, fps), atol=1e-4)

    def test_the_same_samples_at_another_rate_hold_other_frequencies(self):
        grid = sine(4, 32, 16.0)
        assert torch.allclose(temporal_bandpass(Video(grid, 16.0), 3.0, high_hz=5.0).grid, grid, atol=1e-5)
        # a codec that merges four frames divides the rate: what was 4 Hz in the samples is now 1 Hz
        assert temporal_bandpass(Video(grid, 4.0), 1.5, high_hz=2.0).grid.abs().max() < 1e-5
        assert torch.allclose(temporal_bandpass(Video(grid, 4.0), 0.5, high_hz=1.5).grid, grid, atol=1e-5)

    def test_what_stands_still_disappears(self):
        video = noise(t=8)
        moved = Video(video.grid + 100 * torch.rand(2, 4, 1, 6, 6), FPS)
        assert torch.allclose(
            temporal_bandpass(moved, 0.1, high_hz=FPS).grid, video.grid - video.grid.mean(2, keepdim=True), atol=1e-4
        )

    def test_both_ends_of_the_band_belong_to_it(self):
        video = Video(sine(4, 20, 10.0), 10.0)
        for low, high in ((4.0, 4.5), (3.6, 4.0)):
            assert torch.allclose(temporal_bandpass(video, low, high_hz=high).grid, video.grid, atol=1e-5)

    @pytest.mark.parametrize("t", [1, 2, 5])
    def test_a_band_that_holds_no_bin_is_refused_with_the_bins_there_are(self, t: int):
        bins = {1: "which has 0 Hz", 2: "which has 0, 2.5 Hz", 5: "which has 0, 1, 2 Hz"}[t]
        with pytest.raises(
            ValueError, match=rf"the band 3.0-4.0 Hz holds no frequency of a grid of {t} frames at 5 Hz, {bins}"
        ):
            temporal_bandpass(noise(t=t), 3.0, high_hz=4.0)


def test_a_spatial_filter_after_a_temporal_one_sees_only_what_moves():
    keep = make_filter(FilterConfig("temporal_bandpass", low_hz=0.5, high_hz=2.5, then="sobel"))
    video = noise()
    assert torch.equal(keep(video).grid, sobel(temporal_bandpass(video, 0.5, high_hz=2.5)).grid)


class TestBorder:
    """Zeros around the picture are for checkpoints that learned with them."""

    @pytest.mark.parametrize("name", ["sobel", "scharr", "laplacian"])
    def test_with_zeros_a_bright_wall_has_an_edge_and_otherwise_none(self, name: FilterName):
        wall = Video(torch.full((1, 1, 1, 6, 6), 5.0), FPS)
        replicated, zeros = (
            make_filter(FilterConfig(name, border=border))(wall).grid for border in ("replicate", "zeros")
        )
        assert replicated.abs().max() < 1e-6
        assert zeros[..., 0, :].min() > 1
        # what they call no edge is the constant under their square root
        inside = torch.tensor(0.0 if name == "laplacian" else 1e-3)
        assert torch.allclose(zeros[..., 1:-1, 1:-1], inside, rtol=0, atol=1e-6)


class TestMoft:
    def test_the_channels_that_move_most_are_kept_as_deviations_from_their_mean(self):
        grid = torch.ones(1, 4, 6, 3, 3) * torch.arange(4)[None, :, None, None, None]
        grid[:, 2] += sine(1, 6, FPS)[:, 0]
        grid[:, 1] += 0.1 * sine(1, 6, FPS)[:, 0]
        kept = moft(Video(grid, FPS), keep=0.25).grid
        assert torch.allclose(kept[:, 2], grid[:, 2] - grid[:, 2].mean(dim=1, keepdim=True), atol=1e-6)
        assert (kept[:, [0, 1, 3]] == 0).all()

    def test_at_least_one_channel_is_kept(self):
        assert (moft(noise(), keep=0.01).grid.abs().amax(dim=(2, 3, 4)) > 0).sum(dim=1).tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("channels", "share", "kept"), [(100, 0.29, 29), (50, 0.58, 29), (25, 0.28, 7), (16, 0.07, 1)]
    )
    def test_a_share_loses_no_channel_to_rounding(self, channels: int, share: float, kept: int):
        """.29 of 100 channels were 28: the product of floats is 28.999..."""
        changes = moft(noise(b=1, c=channels, t=3), keep=share).grid.abs().amax(dim=(2, 3, 4))
        assert int((changes > 0).sum()) == kept

    def test_a_single_frame_is_refused_and_two_are_enough(self):
        two = moft(noise(t=2), keep=1.0).grid
        assert torch.allclose(two[:, :, 0], (noise(t=2).grid[:, :, 0] - noise(t=2).grid[:, :, 1]) / 2, atol=1e-6)
        with pytest.raises(ValueError, match="at least 2 frames, got 1"):
            moft(noise(t=1), keep=0.5)
