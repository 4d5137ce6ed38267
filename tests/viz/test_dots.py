from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from video2act.viz.dots import LEFT_MARGIN, PLOT_PX, Dots, draw_dots


def test_a_mean_stands_where_its_value_is(tmp_path: Path):
    draw_dots(tmp_path / "dots.png", [Dots("a", [0.0, 0.0]), Dots("b", [1.0, 1.0])], x_title="error")
    picture = np.asarray(Image.open(tmp_path / "dots.png")).astype(int)
    blue = (picture[..., 2] - picture[..., 0] > 60).nonzero()
    rows, columns = blue
    upper, lower = columns[rows < 12 + 26], columns[rows >= 12 + 26]
    # 5 % of room on either side
    assert lower.mean() - upper.mean() == pytest.approx(PLOT_PX / 1.1, abs=2)
    assert upper.min() > LEFT_MARGIN


def test_nothing_to_draw_is_refused(tmp_path: Path):
    for rows in ([], [Dots("a", [])]):
        with pytest.raises(ValueError, match="nothing to draw"):
            draw_dots(tmp_path / "dots.png", rows, x_title="error")
