"""One rule for clips: what training reads from a recording is what the robot's frame history holds at the same
moment."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from video2act import clips
from video2act.clips import (
    FrameHistory,
    ImageHistory,
    clip_indices,
    stream_indices,
    to_frames,
    to_pixels,
)
from video2act.config import FilterConfig, FormerConfig, FrameConfig, StreamConfig
from video2act.frames import fit_frames
from video2act.types import EpisodeFrames, Observation


def stream(num_frames: int, stride: int, size_px: int = 4, name: str = "motion", camera: str = "top") -> StreamConfig:
    return StreamConfig(name, camera, num_frames, stride, size_px, FilterConfig(), FormerConfig())


def frame(number: int, size: int = 8) -> np.ndarray:
    return np.full((size, size, 3), number, np.uint8)


def observation(number: int, **cameras: np.ndarray) -> Observation:
    return Observation(cameras or {"top": frame(number)}, np.zeros(2, np.float32), "push", number / 20)


class TestClipIndices:
    def test_frames_go_back_by_strides_and_end_at_the_newest(self):
        assert clip_indices(20, num_frames=5, stride=3) == [8, 11, 14, 17, 20]

    def test_before_the_episode_the_first_frame_is_repeated(self):
        assert clip_indices(4, num_frames=5, stride=3) == [0, 0, 0, 1, 4]
        assert clip_indices(0, num_frames=3, stride=1) == [0, 0, 0]

    def test_a_clip_before_its_episode_is_refused(self):
        with pytest.raises(ValueError, match="newest=-1"):
            clip_indices(-1, 3, stride=1)


class TestFrameHistory:
    @pytest.mark.parametrize(("num_frames", "stride"), [(1, 1), (5, 1), (5, 3), (9, 2), (1, 4)])
    def test_it_holds_the_clip_that_training_would_read(self, num_frames: int, stride: int):
        recording = np.stack([frame(5 * number) for number in range(25)])
        history = FrameHistory((stream(num_frames, stride),))
        for number in range(25):
            history.append(observation(5 * number))
            clip = history.clips(control_fps=20.0)["motion"]
            chosen = recording[clip_indices(number, num_frames, stride=stride)]
            expected = to_pixels(fit_frames(chosen, (4, 4), rule=FrameConfig()), 20.0 / stride)
            assert torch.equal(clip.grid, expected.grid)
            assert clip.fps == expected.fps

    def test_a_reset_forgets_the_episode_before(self):
        history = FrameHistory((stream(3, 2),))
        for number in range(9):
            history.append(observation(number))
        history.reset()
        with pytest.raises(RuntimeError, match="no frame has been observed"):
            history.clips(20.0)
        history.append(observation(100))
        assert torch.equal(history.clips(20.0)["motion"].grid, to_pixels(np.stack([frame(100, 4)] * 3), 10.0).grid)

    def test_streams_have_cameras_and_sizes_of_their_own(self):
        history = FrameHistory((stream(1, 1, 8, "spatial"), stream(3, 1, 4, "wrist_motion", "wrist")))
        for number in range(3):
            history.append(observation(0, top=frame(number), wrist=frame(10 + number)))
        clips = history.clips(20.0)
        assert list(clips) == ["spatial", "wrist_motion"]
        assert torch.equal(clips["spatial"].grid, to_pixels(frame(2)[None], 20.0).grid)
        assert torch.equal(
            clips["wrist_motion"].grid, to_pixels(np.stack([frame(n, 4) for n in (10, 11, 12)]), 20.0).grid
        )

    def test_a_missing_camera_is_named_with_its_stream_and_those_there_are(self):
        history = FrameHistory((stream(1, 1, camera="wrist"),))
        with pytest.raises(ValueError, match="stream 'motion' reads camera 'wrist', but the observation has side, top"):
            history.append(observation(0, top=frame(0), side=frame(0)))


def test_pixels_run_from_minus_one_to_one_in_the_order_of_video():
    frames = np.zeros((2, 4, 5, 3), np.uint8)
    frames[1, 2, 3] = (255, 0, 51)
    video = to_pixels(frames, 7.5)
    assert video.grid.shape == (1, 3, 2, 4, 5)
    assert video.fps == 7.5
    assert torch.allclose(video.grid[0, :, 1, 2, 3], torch.tensor([1.0, -1.0, -0.6]))
    assert (video.grid[0, :, 0] == -1).all()


class TestPastImages:
    @pytest.mark.parametrize("is_reversed", [False, True])
    def test_each_is_as_old_as_its_name_says_and_not_older_than_the_episode(self, is_reversed: bool):
        cameras = ("top@1", "top@3", "top", "wrist@2")
        history = ImageHistory(cameras[::-1] if is_reversed else cameras)
        for episode in range(2):
            history.reset()
            for step in range(6):
                seen = observation(0, **{camera: frame(step + 10 * episode) for camera in ("top", "wrist")})
                history.append(seen)
                shown = history.complete(seen).images
                numbers = {name: int(image[0, 0, 0]) - 10 * episode for name, image in shown.items()}
                lags = {"top@1": 1, "top@3": 3, "top": 0, "wrist": 0, "wrist@2": 2}
                assert numbers == {name: max(0, step - lag) for name, lag in lags.items()}

    def test_a_policy_without_any_sees_what_there_is(self):
        history, seen = ImageHistory(("top",)), observation(3)
        history.append(seen)
        assert history.complete(seen) is seen


def test_streams_of_one_camera_and_size_share_their_frames(monkeypatch: pytest.MonkeyPatch):
    """Every stream shrank its own copy, so a camera was shrunk up to three times a control step."""
    calls = []
    monkeypatch.setattr(clips, "fit_frames", lambda images, size, rule: calls.append(size) or images)
    wide = StreamConfig("a", "top", 5, 2, 8, FilterConfig(), FormerConfig())
    history = FrameHistory((wide, replace(wide, name="b", num_frames=1), replace(wide, name="c", size_px=4)))
    for step in range(9):
        history.append(Observation({"top": np.full((8, 8, 3), step, np.uint8)}, np.zeros(1, np.float32), "", step / 10))
    assert calls == [(8, 8), (4, 4)] * 9
    newest = {name: round((float(clip.grid[0, 0, -1, 0, 0]) + 1) * 127.5) for name, clip in history.clips(10.0).items()}
    assert newest == {"a": 8, "b": 8, "c": 8}
    assert history.clips(10.0)["b"].grid.shape[2] == 1


def test_frames_that_were_skipped_still_count():
    """A stream that looks every few steps kept step with the frames that it was shown, not with the episode."""
    seldom = StreamConfig("a", "top", 2, 2, 8, FilterConfig(), FormerConfig(), every=3)

    def frame(step: int) -> Observation:
        return Observation({"top": np.full((8, 8, 3), step, np.uint8)}, np.zeros(1, np.float32), "", step / 10)

    history, behind = FrameHistory((seldom,)), FrameHistory((seldom,))
    for step in range(21):
        history.append(frame(step))
    for step in range(21 - behind.span, 21):
        behind.append(frame(step), control_step=step)
    assert (history.clips(10.0)["a"].grid == behind.clips(10.0)["a"].grid).all()


def test_how_much_older_the_frames_are_that_streams_look_at_is_in_seconds_of_the_robots_clock():
    """Nothing said how old the newest frame of a stream is that looks every few control steps."""
    every_3rd, always = replace(stream(2, 2), every=3), stream(2, 2, name="always")
    history, lags = FrameHistory((every_3rd, always)), []
    times = [0.0, 0.1, 0.25, 0.3, 0.5]
    for time_s in times:
        history.append(replace(observation(0), time=time_s))
        lags.append(history.lag_s)
    assert lags == pytest.approx([0.0, 0.1, 0.25, 0.0, 0.2])
    behind = FrameHistory((every_3rd,))
    behind.append(observation(0), control_step=5)  # begins within an episode: there is no older frame
    assert behind.lag_s == 0.0
    for free in (FrameHistory((always,)), FrameHistory(())):
        free.append(observation(0))
        assert free.lag_s == 0.0


def lit(clip: torch.Tensor) -> list[int]:
    """The number that each frame of a clip shows."""
    return ((clip[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()


class TestSeldom:
    """A stream that looks every few control steps only, by hand."""

    WINDOW = replace(stream(3, 2), every=4)
    WHOLE = replace(stream(3, 2), every=4, encoding="stream")

    @pytest.mark.parametrize(
        ("newest", "window", "whole"),
        [
            (0, [0, 0, 0], [0]),
            (3, [0, 0, 0], [0]),
            (4, [0, 2, 4], [0, 2, 4]),
            (7, [0, 2, 4], [0, 2, 4]),
            (8, [4, 6, 8], [0, 2, 4, 6, 8]),
            (13, [8, 10, 12], [0, 2, 4, 6, 8, 10, 12]),
        ],
    )
    def test_its_clip_ends_at_the_last_multiple(self, newest: int, window: list[int], whole: list[int]):
        assert stream_indices(newest, self.WINDOW) == window
        assert stream_indices(newest, self.WHOLE) == whole
        history = FrameHistory((self.WINDOW, replace(self.WHOLE, name="whole")))
        for number in range(newest + 1):
            history.append(observation(number))
        clips = history.clips(20.0)
        assert lit(clips["motion"].grid) == window
        assert lit(clips["whole"].grid) == whole
        assert (clips["motion"].fps, clips["whole"].fps) == (10.0, 10.0)

    def test_before_an_episode_there_is_none(self):
        for stream_ in (self.WINDOW, self.WHOLE):
            with pytest.raises(ValueError, match="cannot end before the first frame"):
                stream_indices(-1, stream_)

    def test_an_encoder_that_goes_on_is_handed_what_it_lacks(self):
        """Frames 0, 2, 4, ... are 0, 1, 2, ... of the stream; what lies after the last multiple of 4 waits."""
        history, handed = FrameHistory((self.WHOLE,)), []
        for number in range(15):
            history.append(observation(number))
            if number in (0, 5, 6, 14):
                clip = history.clips(20.0)["motion"]
                assert isinstance(clip, EpisodeFrames)
                handed.append((clip.first, lit(clip.grid)))
                clip.memory.num_frames = clip.first + clip.grid.shape[2]  # encoded
        # what was encoded is dropped when the next frame comes
        assert handed == [(0, [0]), (1, [2, 4]), (3, []), (3, [6, 8, 10, 12])]

    def test_a_second_episode_is_as_the_first(self):
        history = FrameHistory((self.WINDOW, replace(self.WHOLE, name="whole")))
        seen = []
        for _ in range(2):
            history.reset()
            for number in range(7):
                history.append(observation(number))
            clips = history.clips(20.0)
            assert isinstance(clips["whole"], EpisodeFrames)
            seen.append(({name: lit(clip.grid) for name, clip in clips.items()}, clips["whole"].first))
            clips["whole"].memory.num_frames = 3
        assert seen[0] == seen[1] == ({"motion": [0, 2, 4], "whole": [0, 2, 4]}, 0)

    def test_an_encoder_gets_every_frame_though_another_stream_looks_at_windows(self):
        history = FrameHistory((self.WINDOW, replace(self.WHOLE, name="whole")))
        assert history.needs_every_frame
        assert not FrameHistory((self.WINDOW,)).needs_every_frame
        history.append(observation(0))
        with pytest.raises(RuntimeError, match="control steps 1 to 3 are missing"):
            history.append(observation(4), control_step=4)

    def test_a_history_goes_as_far_back_as_its_longest_stream(self):
        short, long = stream(1, 1, name="short"), replace(stream(5, 3, name="long"), every=2)
        assert [FrameHistory(streams).span for streams in ((), (short,), (short, long), (long, short))] == [
            1,
            1,
            14,
            14,
        ]


class TestShared:
    @pytest.mark.parametrize("is_reversed", [False, True])
    def test_of_two_streams_with_the_same_frames_each_has_all_of_its_own(self, is_reversed: bool):
        streams = (stream(5, 3, name="long"), stream(2, 1, name="short"))
        history = FrameHistory(streams[::-1] if is_reversed else streams)
        for number in range(20):
            history.append(observation(number))
        clips = {name: lit(clip.grid) for name, clip in history.clips(20.0).items()}
        assert clips == {"long": [7, 10, 13, 16, 19], "short": [18, 19]}

    def test_streams_of_another_width_or_rule_have_frames_of_their_own(self):
        wide = replace(stream(1, 1, name="wide"), width_px=8)
        cropped = replace(stream(1, 1, name="cropped"), frame=FrameConfig(fit="crop"))
        picture = np.zeros((8, 16, 3), np.uint8)
        picture[:, 4:12] = 200
        history = FrameHistory((stream(1, 1, name="square"), wide, cropped))
        history.append(observation(0, top=picture))
        clips = {name: clip.grid[0, 0, 0] for name, clip in history.clips(20.0).items()}
        assert {name: tuple(clip.shape) for name, clip in clips.items()} == {
            "square": (4, 4),
            "wide": (4, 8),
            "cropped": (4, 4),
        }
        bright = 200 / 127.5 - 1
        assert torch.allclose(clips["cropped"], torch.tensor(bright))
        assert torch.allclose(clips["wide"][:, 2:6], torch.tensor(bright))
        assert (clips["wide"][:, [0, 1, 6, 7]] == -1).all()
        assert torch.allclose(clips["square"][0], torch.tensor(127 / 127.5 - 1))  # a bar

    def test_an_environment_may_draw_into_the_same_memory(self):
        drawn = frame(1, 4)
        frames, images = FrameHistory((stream(2, 1),)), ImageHistory(("top@1",))
        for number in (10, 20):
            drawn[:] = number
            seen = observation(0, top=drawn)
            frames.append(seen)
            images.append(seen)
        assert lit(frames.clips(20.0)["motion"].grid) == [10, 20]
        assert (images.complete(seen).images["top@1"] == 10).all()

    def test_frames_too_small_for_one_stream_are_taken_in_by_none(self):
        history = FrameHistory((stream(2, 1), stream(1, 1, size_px=16, name="large")))
        with pytest.raises(ValueError, match="too small"):
            history.append(observation(0))
        with pytest.raises(RuntimeError, match="no frame has been observed"):
            history.clips(20.0)
        history.append(observation(1, top=frame(9, 16)))
        assert lit(history.clips(20.0)["motion"].grid) == [9, 9]

    def test_what_was_never_seen_is_as_the_oldest_frame(self):
        """A history that begins within an episode."""
        history = FrameHistory((stream(3, 2),))
        for number in (10, 11):
            history.append(observation(number), control_step=number)
        assert lit(history.clips(20.0)["motion"].grid) == [10, 10, 11]


def test_a_waiting_encoder_may_fall_1024_frames_behind_and_no_more(monkeypatch: pytest.MonkeyPatch):
    assert clips.MAX_WAITING_FRAMES == 1024
    monkeypatch.setattr(clips, "MAX_WAITING_FRAMES", 2)
    history = FrameHistory((TestSeldom.WHOLE,))
    for number in range(4):
        history.append(observation(number))
    with pytest.raises(RuntimeError, match="System 2 is 2 frames behind"):
        history.append(observation(4))


def test_a_still_clip_is_the_newest_frame_again_and_again_in_training_and_on_the_robot():
    stream = StreamConfig("motion", "front", 5, 2, 16, FilterConfig(), FormerConfig(), is_still=True)
    assert stream_indices(7, stream) == [7] * 5
    assert stream_indices(7, replace(stream, every=4)) == [4] * 5
    history = FrameHistory((stream,))
    assert history.span == 1
    for number in range(8):
        image = np.full((16, 16, 3), 10 * number, np.uint8)
        history.append(Observation({"front": image}, np.zeros(3, np.float32), "push", number / 20))
    clip = history.clips(20.0)["motion"]
    assert (to_frames(clip) == 70).all()
    assert (clip.grid.shape[2], clip.fps) == (5, 10.0), "shape and rate are those of the moving clip"
    with pytest.raises(ValueError, match="is_still repeats the newest frame"):
        replace(stream, num_frames=1)
