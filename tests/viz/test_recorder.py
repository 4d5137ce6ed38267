"""From an episode to an mp4: what is filmed is what the policy was shown, frame by frame."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from video2act.clips import FrameHistory
from video2act.config import FilterConfig, FormerConfig, StreamConfig
from video2act.interfaces import Decision
from video2act.types import ActionChunk, Observation, Plan, Tokens, Video, VideoCondition
from video2act.viz import pictures
from video2act.viz.film import film, title
from video2act.viz.pictures import SCALE_PX
from video2act.viz.recorder import Recorder
from video2act.viz.video_writer import write_video

FPS = 80.0
STREAMS = (
    StreamConfig("spatial", "top", 1, 1, 16, FilterConfig("sobel"), FormerConfig()),
    StreamConfig("motion", "top", 5, 2, 8, FilterConfig("temporal_bandpass", 1.0, 7.0), FormerConfig()),
)


def observation(step: int) -> Observation:
    frame = np.random.default_rng(step).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Observation({"top": frame, "wrist": frame[::-1]}, np.zeros(2, np.float32), "push", step / FPS)


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


class Explained:
    """Keeps what it was asked about; explains pixels by themselves."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Video]] = []

    def __call__(self, clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        self.asked.append(clips)
        assert instruction == ["push"]
        return clips


def watch(recorder: Recorder, num_steps: int, refresh_every: int = 4) -> None:
    nothing = Tokens.all_visible(torch.zeros(1, 1, 1))
    recorder.on_reset(observation(0))
    for step in range(num_steps):
        condition = VideoCondition(nothing, step // refresh_every * refresh_every / FPS, episode=0)
        action = np.array([float(step)])
        plan = Plan(ActionChunk(action[None], step // 2 * 2 / FPS, 1 / FPS), condition)
        recorder.on_step(observation(step), Decision(action, plan, step % 2 == 0, is_held=False, is_clamped=False))


def test_a_recording_knows_when_each_system_ran():
    recorder = Recorder(STREAMS, FPS, explain=Explained())
    watch(recorder, 10)
    recording = recorder.recording()
    assert recording.plan_steps == (0, 2, 4, 6, 8)
    assert recording.condition_steps == (0, 0, 0, 0, 4, 4, 4, 4, 8, 8)
    assert list(recording.frames) == ["top", "wrist"]
    assert [action[0] for action in recorder.trace().actions] == list(range(10))


def test_a_map_is_of_the_instruction_of_its_own_control_step():
    """After another instruction, the maps and the title were still of the first one."""
    told: list[str] = []

    def explain(clips: dict[str, Video], instruction: list[str]) -> dict[str, Video]:
        told.extend(instruction)
        return clips

    recorder = Recorder(STREAMS, FPS, explain=explain)
    watch(recorder, 10)
    seen = recorder.recording()
    recording = replace(seen, instructions=(*seen.instructions[:4], *["pull"] * 6))
    assert seen.instructions == ("push",) * 10
    list(film(recording, STREAMS, explain=explain))
    assert told == ["push", "pull", "pull"]
    assert [title(recording, step).split()[0] for step in (3, 4)] == ['"push"', '"pull"']


def test_the_maps_are_made_from_the_clips_the_policy_saw():
    explained = Explained()
    recorder = Recorder(STREAMS, FPS, explain=explained)
    watch(recorder, 10)
    assert len(list(film(recorder.recording(), STREAMS, explain=explained))) == 10
    history, expected = FrameHistory(STREAMS), []
    for step in range(10):
        history.append(observation(step))
        expected += [history.clips(FPS)] if step in (0, 4, 8) else []
    assert len(explained.asked) == len(expected)
    for found, clips in zip(explained.asked, expected, strict=True):
        for name, clip in clips.items():
            assert torch.equal(found[name].grid, clip.grid)
            assert found[name].fps == clip.fps


def test_a_film_is_written_in_slow_motion_with_one_picture_per_control_step(tmp_path: Path):
    explained = Explained()
    recorder = Recorder(STREAMS, FPS, explain=explained)
    watch(recorder, 10)
    assert explained.asked == [], "nothing may be computed while the policy acts"
    recorder.write(tmp_path / "deep" / "film.mp4")
    frames = frames_of(tmp_path / "deep" / "film.mp4")
    assert len(frames) == 10
    assert len(explained.asked) == 3, "one explanation per refresh"
    assert frames[0].shape[1] == 2 * 256 + 4 * (256 + SCALE_PX)  # two cameras; two maps of either stream
    with av.open(tmp_path / "deep" / "film.mp4") as container:
        assert container.streams.video[0].average_rate == 20


def test_the_film_says_the_outcome_how_far_maps_agree_and_where_nothing_moves(monkeypatch: pytest.MonkeyPatch):
    written: list[str] = []
    drawn = pictures.caption
    monkeypatch.setattr("video2act.viz.film.caption", lambda image, text: (written.append(text), drawn(image, text))[1])
    recorder = Recorder(STREAMS, FPS, explain=Explained())
    watch(recorder, 10)
    list(film(recorder.recording("failure"), STREAMS, explain=Explained()))
    assert sum("failure" in text for text in written) == 10
    first, later = (
        next(text for text in written[start:] if text.startswith("motion:")) for start in (0, len(written) // 2)
    )
    assert "no motion yet" in first
    assert "r = " in later
    assert any(text.startswith("spatial: sobel, r = ") for text in written)
    assert {"sobel of pixels, top", "change of pixels, top"} <= set(written)


def test_a_second_episode_does_not_contain_the_first():
    recorder = Recorder(STREAMS, FPS, explain=Explained())
    watch(recorder, 10)
    watch(recorder, 6)
    assert recorder.recording().num_steps == 6
    assert len(recorder.trace().actions) == 6


def test_a_policy_without_system_2_is_filmed_by_its_cameras(tmp_path: Path):
    recorder = Recorder((), FPS, explain=Explained())
    watch(recorder, 5)
    recorder.write(tmp_path / "film.mp4")
    assert frames_of(tmp_path / "film.mp4")[0].shape[1] == 2 * 256


def test_nothing_watched_nothing_filmed(tmp_path: Path):
    with pytest.raises(ValueError, match="no step was watched"):
        Recorder(STREAMS, FPS, explain=Explained()).write(tmp_path / "film.mp4")


def test_a_video_of_odd_size_is_completed_and_starts_with_its_index(tmp_path: Path):
    path = tmp_path / "odd.mp4"
    picture = np.zeros((33, 51, 3), np.uint8)
    picture[:, 25:] = 200
    write_video(path, [picture] * 3, fps=12.5)
    frames = frames_of(path)
    assert [frame.shape for frame in frames] == [(34, 52, 3)] * 3
    assert abs(int(frames[1][10, 40, 0]) - 200) < 8
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_a_video_of_no_frames_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "empty.mp4", [], fps=10.0)


@pytest.mark.parametrize("place", ["/proc/film.mp4", "/dev/null/film.mp4"])
def test_a_film_that_cannot_be_written_names_the_file(place: str):
    with pytest.raises(OSError, match=place.removesuffix("/film.mp4")):
        write_video(Path(place), [np.zeros((16, 16, 3), np.uint8)], fps=10.0)


def test_a_film_that_breaks_off_leaves_the_older_one(tmp_path: Path):
    def broken():
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    write_video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)], fps=10.0)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", broken(), fps=10.0)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
