"""Numbers to pictures: a map points where the signal is, scales are shared, and colours keep their order."""

import numpy as np
import pytest
import torch

from video2act.types import Video
from video2act.viz.pictures import (
    caption,
    colour,
    correlation,
    enlarge,
    magnitude,
    overlay,
    pixel_map,
    rescale,
    robust_range,
    scale_bar,
    tick_strip,
)


def test_the_magnitude_is_the_root_mean_square_over_channels_and_frames_of_the_first_clip():
    grid = torch.zeros(2, 2, 2, 3, 4)
    grid[0, :, :, 1, 2] = torch.tensor([[3.0, -3.0], [4.0, 4.0]])
    grid[1] = 99
    found = magnitude(Video(grid, 10.0))
    assert found[1, 2] == pytest.approx(np.sqrt((9 + 9 + 16 + 16) / 4))
    assert np.count_nonzero(found) == 1


def test_the_pixels_own_map_shows_a_squares_boundary_or_what_moved():
    grid = torch.zeros(1, 3, 5, 32, 32)
    grid[..., 8:16, 4:12] = 1.0
    edges = pixel_map(Video(grid, 10.0), "sobel", size=(8, 8))
    rows, columns = np.nonzero(edges)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 4, 0, 3)
    assert not pixel_map(Video(grid, 10.0), "temporal_bandpass", size=(8, 8)).any()
    grid[:, :, -1, 24:28, 20:24] = 1.0
    moved = pixel_map(Video(grid, 10.0), "moft", size=(8, 8))
    assert [axis.tolist() for axis in np.nonzero(moved)] == [[6], [5]]


def test_a_correlation_knows_agreement_from_its_opposite_and_says_where_there_is_none():
    ramp = np.arange(12.0).reshape(3, 4)
    assert correlation(ramp, 2 * ramp + 1) == pytest.approx(1)
    assert correlation(ramp, -ramp) == pytest.approx(-1)
    assert np.isnan(correlation(ramp, np.ones((3, 4))))


def test_a_scale_bar_gets_darker_downwards():
    bar = scale_bar(256, (0.1, 0.9)).astype(float).mean(axis=-1)
    assert bar.shape[0] == 256
    assert bar[30, 10] > bar[128, 10] > bar[225, 10]


def test_one_outlier_does_not_hide_the_rest_and_a_still_map_stays_dark_beside_a_moving_one():
    rng = np.random.default_rng(0)
    still, moving = rng.uniform(0, 0.01, (40, 40)), rng.uniform(0, 1, (40, 40))
    moving[0, 0] = 1e6
    value_range = robust_range([still, moving])
    assert rescale(still, value_range).max() < 0.05
    assert np.median(rescale(moving, value_range)) > 0.3


def test_a_constant_map_shows_nothing_rather_than_noise():
    constant = np.full((4, 4), 2.5)
    assert rescale(constant, robust_range([constant])).max() == 0


def test_the_ramp_gets_steadily_lighter():
    ramp = colour(np.linspace(0, 1, 256)[None])[0].astype(float)
    lightness = ramp @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(lightness) >= 0)
    assert lightness[-1] - lightness[0] > 200


def test_an_overlay_is_coloured_where_the_map_is_and_grey_elsewhere():
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    strength = np.zeros((8, 8), np.float32)
    strength[6, 1] = 1
    picture = overlay(frame, strength).astype(int)
    saturation = picture.max(axis=-1) - picture.min(axis=-1)
    assert saturation[52, 12] > 40
    assert saturation[:32].max() <= 1


def test_enlarging_and_captioning_keep_type_and_add_height_only():
    image = enlarge(np.zeros((8, 8, 3), np.uint8), 32)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    titled = caption(image, "motion")
    assert titled.shape[0] > 32
    assert titled.shape[1:] == (32, 3)
    assert titled[: titled.shape[0] - 32].max() > 150, "no text was drawn"


def test_the_cursor_of_the_tick_strip_moves_with_time_and_ticks_stand_apart():
    def strip(now: int) -> np.ndarray:
        return tick_strip(
            600, plan_steps=[0, 4, 8], refresh_steps=[0, 8], staleness=[i % 8 for i in range(10)], now=now
        )

    early, late = strip(2), strip(7)
    assert early.shape == late.shape
    changed = np.flatnonzero((early != late).any(axis=(0, 2)))
    columns = changed[changed >= 150]
    assert len(columns) <= 4, "only the cursor may move"
    orange = (strip(5) == (246, 170, 60)).all(axis=-1)[22:44, 150:].any(axis=0).sum()
    blue = (strip(5) == (120, 190, 255)).all(axis=-1)[:22, 150:].any(axis=0).sum()
    assert (blue, orange) == (3, 2)


def test_an_episode_of_one_step_has_a_strip():
    assert tick_strip(300, [0], refresh_steps=[0], staleness=[0], now=0).shape[1] == 300
