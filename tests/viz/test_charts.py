"""Charts show the numbers that they get, at the places where they belong."""

import math
import re

import pytest

from video2act.viz.charts import Line, Mark, Share, line_chart, share_chart, stacked_chart, timeline_chart


def paths(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each line."""
    found = re.findall(r'<path d="M([^"h]*)(?:h0.1)?" fill="none"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split() for pair in path.split("L"))] for path in found]


def test_a_line_goes_through_its_points_in_proportion() -> None:
    (points,) = paths(line_chart([Line([0.0, 1.0, 4.0], [0.0, 10.0, 5.0])], x_title="x", y_title="y"))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=0.01)
    assert (y2 - y0) / (y1 - y0) == pytest.approx(0.5, abs=0.01)
    assert y1 < y0  # larger values are higher


def test_a_logarithmic_axis_spaces_powers_evenly() -> None:
    (points,) = paths(line_chart([Line([0.0, 1.0, 2.0], [0.01, 0.1, 1.0])], x_title="x", y_title="y", is_log=True))
    assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)


def test_a_point_that_is_not_finite_interrupts_a_line() -> None:
    found = paths(line_chart([Line([0.0, 1.0, 2.0, 3.0], [1.0, math.nan, 2.0, 3.0])], x_title="x", y_title="y"))
    assert [len(run) for run in found] == [1, 2]


def test_nothing_to_draw_is_an_error_that_names_the_chart() -> None:
    with pytest.raises(ValueError, match="'loss'"):
        line_chart([Line([0.0], [math.nan])], x_title="x", y_title="loss")
    with pytest.raises(ValueError, match="no share"):
        share_chart([])
    with pytest.raises(ValueError, match="unknown rows: b"):
        timeline_chart([Mark("b", 0.0, "late")], [("a", 1.0)], x_title="s")


def test_a_share_is_drawn_between_the_ends_of_its_interval() -> None:
    svg = share_chart([Share("a", 0.5, 0.25, 0.75)])
    low, high = (float(number) for number in re.findall(r'd="M([\d.]+) 30\.0H([\d.]+)"', svg)[0])
    (centre,) = (float(number) for number in re.findall(r'circle cx="([\d.]+)"', svg))
    assert centre == pytest.approx((low + high) / 2, abs=0.1)


def test_a_long_name_is_broken_and_never_runs_into_the_counts() -> None:
    name = "libero:libero_object/9, told libero_object_0 (control: another instruction)"
    svg = share_chart([Share(name, 0.5, 0.25, 0.75, "5/10"), Share("short", 0.5, 0.25, 0.75, "6/10")])
    texts = re.findall(r'y="([\d.]+)" text-anchor="(\w+)"[^>]*>([^<]+)<', svg)
    lines = [text for _, anchor, text in texts if anchor == "start" and "%" not in text]
    assert " ".join(lines[:-1]) == name
    assert max(map(len, lines)) <= 44
    rows = [float(y) for y, _, text in texts if text in (*lines, "5/10", "6/10")]
    assert rows[:3] == [18.0, 32.0, 32.0]
    assert rows[3] == rows[4] > 60, "the next begins below"


def test_parts_must_add_up() -> None:
    with pytest.raises(ValueError, match=r"add up to 0\.9000"):
        stacked_chart([("a", {"x": 0.4, "y": 0.5})])
    widths = re.findall(r'width="([\d.]+)" height="17"', stacked_chart([("a", {"x": 0.25, "y": 0.75})]))
    assert float(widths[1]) / float(widths[0]) == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("span", [1e-6, 0.3, 1.0, 7.0, 12345.0])
def test_every_span_has_readable_ticks(span: float) -> None:
    svg = line_chart([Line([0.0, span], [0.0, span])], x_title="x", y_title="y")
    assert 3 <= svg.count('text-anchor="end"') <= 8
