"""A page needs nothing but itself, and a real browser shows all of it."""

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import FOUND, PLAY, SMALLEST_TEXT, Browser
from video2act.viz.charts import Line, Mark, Share, line_chart, share_chart, stacked_chart, timeline_chart
from video2act.viz.page import Page
from video2act.viz.video_writer import webm, webm_of, write_video

FRAMES = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(content, format="png")
    return content.getvalue()


def whole_page() -> Page:
    page = Page("A <title> & more", "What this is.")
    page.section("Charts", "Each of them.")
    page.figure(share_chart([Share("task", 0.9, 0.8, 0.96, "45/50")]), "Success")
    page.figure(stacked_chart([("block 1", {"text": 0.25, "image": 0.75})]), "Attention")
    page.figure(line_chart([Line([0.0, 1.0, 2.0], [3.0, 1.0, 2.0], "loss")], x_title="step", y_title="loss"), "Loss")
    page.figure(timeline_chart([Mark("first", 0.5, "held")], [("first", 1.0)], x_title="s"), "Incidents")
    page.section("Pictures")
    page.figure(png(), "A picture", is_wide=True)
    page.film(webm(FRAMES, fps=5.0), "A film")
    page.table(["name", "a column with a long name", "another one", "and a third"], [["x" * 30, "y" * 30, 1, 2]])
    page.text("Careful.", is_warning=True)
    return page


class Reader(HTMLParser):
    """Tags that are open, and the addresses that the page names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_well_formed_and_needs_no_network() -> None:
    reader = Reader()
    reader.feed(whole_page().html())
    assert reader.open == []
    assert all(address.startswith(("data:", "#")) for address in reader.addresses)
    assert "script" not in reader.tags
    assert reader.tags.count("figure") == 6


def test_text_is_escaped_everywhere() -> None:
    page, bad = Page("<script>1</script>", "<script>2</script>"), "<script>alert('\"')</script>"
    page.section(bad, bad)
    page.table([bad], [[bad]], caption=bad)
    page.figure(share_chart([Share(bad, 0.5, 0.4, 0.6, bad)]), bad)
    page.figure(timeline_chart([Mark(bad, 0.0, bad, bad)], [(bad, 1.0)], x_title=bad), bad)
    page.figure(png(), bad)
    assert "<script" not in page.html()


XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


def test_names_in_a_chart_are_escaped() -> None:
    """A page shows the charts of the package as they are: they hold no markup but their own."""
    name = '<script>1</script><a href="x" onload=y>\x08'
    page = Page("t")
    page.figure(share_chart([Share(name, 0.9, 0.8, 0.96, name)]), name)
    page.figure(stacked_chart([(name, {name: 0.25, "image": 0.75})]), name)
    page.figure(line_chart([Line([0.0, 1.0], [3.0, 1.0], name)], x_title=name, y_title=name), name)
    page.figure(timeline_chart([Mark(name, 0.5, name)], [(name, 1.0)], x_title=name), name)
    reader = Reader()
    reader.feed(page.html())
    assert not {"script", "a"} & set(reader.tags)
    assert reader.addresses == ["data:,"]


def test_other_bytes_are_refused() -> None:
    page = Page("t")
    with pytest.raises(ValueError, match="webm or mp4"):
        page.film(b"GIF89a", "c")
    with pytest.raises(ValueError, match="PNG, or SVG of"):
        page.figure(b"GIF89a", "c")
    with pytest.raises(ValueError, match="1 cells, but there are 2 columns"):
        page.table(["a", "b"], [[1]])


def test_a_film_of_another_file_becomes_webm_with_all_its_frames(tmp_path: Path) -> None:
    import av

    write_video(tmp_path / "a.mp4", FRAMES, fps=5.0)
    content = webm_of(tmp_path / "a.mp4")
    with av.open(io.BytesIO(content), "r") as container:
        assert container.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 6
    (tmp_path / "b.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a film that can be read"):
        webm_of(tmp_path / "b.mp4")


@pytest.mark.skipif(FOUND is None, reason="there is no Chromium on this machine")
def test_a_real_browser_shows_the_page_without_complaint(tmp_path: Path) -> None:
    path = whole_page().write(tmp_path / "page.html")
    browser = Browser(tmp_path / "profile")
    try:
        for width, is_dark in ((1200, False), (400, True)):
            browser.open(path, width=width, is_dark=is_dark)
            played = browser.evaluate(PLAY)
            assert [film["error"] for film in played] == [None]
            assert played[0]["time"] > 0
            assert played[0]["width"] == 64
            assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width  # no sideways scrolling
            assert browser.evaluate(SMALLEST_TEXT) >= 10
            paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            red = int(paper.partition("(")[2].split(",")[0])
            assert (red < 60) == is_dark
            assert browser.complaints == []
    finally:
        browser.close()
