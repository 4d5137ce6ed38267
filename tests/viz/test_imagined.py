"""The film of a stream that looks ahead: what was imagined beside what really came."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from video2act.clips import to_frames
from video2act.config import FilterConfig, FormerConfig, ImagineConfig, StreamConfig
from video2act.types import Video
from video2act.viz import film as picture
from video2act.viz.film import PANEL_PX, Explain, Recording, film

FPS, FRAMES = 20.0, 12
AHEAD = StreamConfig("motion", "top", 5, 1, 16, FilterConfig(), FormerConfig(), imagine=ImagineConfig(4))


def recording() -> Recording:
    frames = np.stack([np.full((16, 16, 3), 20 * step, np.uint8) for step in range(FRAMES)])
    return Recording({"top": frames}, ("push",) * FRAMES, FPS, (0,), tuple(range(FRAMES)))


def explain(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
    """Three frames of features: two of the past, and a third of the future, which is bright at the left."""
    grid = torch.zeros(1, 4, 3, 2, 2)
    grid[:, :, 2, :, 0] = 1.0
    return {"motion": Video(grid, 5.0)}


def foresee(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
    """Frames of the grey value that will come, four steps ahead."""
    newest = int(to_frames(clips["motion"])[-1, 0, 0, 0])
    return {"motion": Video(torch.full((1, 3, 4, 16, 16), (newest + 80) / 127.5 - 1), FPS)}


def panels(step: int, width: int) -> np.ndarray:
    """The last panels of a picture of the film, without captions and timeline."""
    picture = list(film(recording(), [AHEAD], explain=explain, foresee=foresee))[step]
    return picture[-PANEL_PX - 70 : -70, -width:]


def test_the_imagined_frame_stands_beside_the_one_that_came():
    both = panels(3, 2 * PANEL_PX)
    imagined, came = both[60:-60, 60 : PANEL_PX - 60], both[60:-60, PANEL_PX + 60 : -60]
    assert (imagined == 20 * 7).all()
    assert (came == 20 * 7).all()


def test_the_map_of_the_imagined_shows_the_future_alone():
    left_to_right = panels(3, 2 * PANEL_PX + PANEL_PX + 52)[:, :PANEL_PX].astype(float).sum(axis=2)
    assert left_to_right[:, :60].mean() > 2 * left_to_right[:, -60:].mean()


def test_without_a_decoder_there_is_the_map_alone():
    wide = next(film(recording(), [AHEAD], explain=explain, foresee=foresee)).shape[1]
    narrow = next(film(recording(), [AHEAD], explain=explain)).shape[1]
    assert wide - narrow == 2 * PANEL_PX


def test_unfiltered_features_are_shown_by_what_changes():
    """Normalised features are as large everywhere, so their size would be a map of nothing."""

    def moving(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        grid = torch.ones(1, 4, 3, 2, 2)
        grid[:, :, 0, 0, 0], grid[:, :, 2, 1, 1] = -1.0, -1.0
        return {"motion": Video(grid, 5.0)}

    past = panels_of(moving, slice(-2 * (PANEL_PX + 52), -(PANEL_PX + 52) - 52))
    future = panels_of(moving, slice(-(PANEL_PX + 52), -52))
    for found, (row, column) in ((past, (0, 0)), (future, (1, 1))):
        cells = found.reshape(2, PANEL_PX // 2, 2, PANEL_PX // 2, 3).astype(float).sum(axis=(1, 3, 4))
        assert np.unravel_index(cells.argmax(), (2, 2)) == (row, column)


@pytest.mark.parametrize("name", ["none", "temporal_bandpass"])
def test_what_is_imagined_is_never_shown_as_the_past(name: Any, monkeypatch: pytest.MonkeyPatch):
    """A stream with `imagine.keep=future` keeps imagined features alone, and the film called them those of the past."""
    said: list[str] = []
    drawn = picture.caption
    monkeypatch.setattr(picture, "caption", lambda image, text: (said.append(text), drawn(image, text))[1])
    stream = replace(AHEAD, filter=FilterConfig(name), imagine=ImagineConfig(4, keep="future"))

    def right(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        grid = torch.zeros(1, 4, 2, 2, 2)
        grid[:, :, 1, :, 1] = 1.0
        return {"motion": Video(grid, 5.0)}

    frame = next(film(recording(), [stream], explain=right))
    assert frame.shape[1] == PANEL_PX + 2 * (PANEL_PX + 52)  # the camera, the pixels' map, the imagined
    found = "expected change" if name == "none" else "temporal_bandpass of the imagined"
    assert [text for text in said if text.startswith("motion:")] == [f"motion: {found}"]
    left_to_right = frame[-PANEL_PX - 70 : -70, -PANEL_PX - 52 : -52].astype(float).sum(axis=2)
    if name != "none":
        assert left_to_right[:, -60:].mean() > 2 * left_to_right[:, :60].mean()


def panels_of(explain: Explain, columns: slice) -> np.ndarray:
    picture = next(film(recording(), [AHEAD], explain=explain))
    return picture[-PANEL_PX - 70 : -70, columns]
