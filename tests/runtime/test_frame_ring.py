"""The ring of frames: what is read is what was written, whole, or nothing."""

from dataclasses import replace

import numpy as np
import pytest
from runtime_fakes import FPS, MOTION, FakeSystem, observation

from video2act.config import FrameConfig
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.frame_ring import FrameRing, RingLayout
from video2act.runtime.refresh import RingReader, warm_up
from video2act.types import Observation

SIZE = {"top": (8, 8)}


def test_a_frame_comes_back_as_it_was_written():
    ring = FrameRing(RingLayout({"top": (4, 6), "wrist": (6, 4)}, 3))
    rng = np.random.default_rng(0)
    images = {"top": rng.integers(0, 256, (4, 6, 3), np.uint8), "wrist": rng.integers(0, 256, (6, 4, 3), np.uint8)}
    # a robot that has run for two weeks, to the microsecond
    seen = Observation(images, np.zeros(2, np.float32), "schieb den Würfel", 1234567.890123)
    ring.write(seen, 7, control_step=41)
    frame = ring.read(0)
    assert frame is not None
    assert frame.place == (7, 41)
    assert (frame.observation.time, frame.observation.instruction) == (1234567.890123, "schieb den Würfel")
    for camera, image in images.items():
        assert np.array_equal(frame.observation.images[camera], image)


def test_a_short_instruction_after_a_long_one_is_short():
    ring = FrameRing(RingLayout(SIZE, 2))
    for step, words in enumerate(("push the block to the left", "", "pull", "push")):
        ring.write(observation(step, words), 0, control_step=step)
        frame = ring.read(step)
        assert frame is not None
        assert frame.observation.instruction == words


def test_the_longest_instruction_passes_whole_and_a_longer_one_is_refused():
    ring = FrameRing(RingLayout(SIZE, 1))
    longest = "ü" * 2048
    ring.write(observation(0, longest), 0, control_step=0)
    frame = ring.read(0)
    assert frame is not None
    assert frame.observation.instruction == longest
    with pytest.raises(ValueError, match="an instruction may have 4096 bytes, got 4097"):
        ring.write(observation(1, longest + "."), 0, control_step=1)
    assert ring.newest == 0


def test_it_holds_the_newest_frames_and_older_ones_are_gone():
    ring = FrameRing(RingLayout(SIZE, 3))
    assert ring.newest == -1
    assert [ring.read(ticket) for ticket in range(3)] == [None] * 3
    for step in range(5):
        ring.write(observation(step), 0, control_step=step)
        assert ring.newest == step
    assert [ring.read(ticket) is None for ticket in range(6)] == [True, True, False, False, False, True]


def test_a_frame_that_was_read_does_not_change_when_its_slot_is_written_again():
    ring = FrameRing(RingLayout(SIZE, 1))
    ring.write(observation(3), 0, control_step=0)
    frame = ring.read(0)
    ring.write(observation(200), 0, control_step=1)
    assert frame is not None
    assert (frame.observation.images["top"] == 3).all()


def test_a_frame_whose_writing_broke_off_is_not_read_as_the_one_before_it():
    ring = FrameRing(RingLayout(SIZE, 1))
    ring.write(observation(3), 0, control_step=0)
    with pytest.raises(ValueError, match="broadcast"):
        ring.write(replace(observation(4), images={"top": np.zeros((5, 5, 3), np.uint8)}), 0, control_step=1)
    assert ring.read(0) is None


def test_a_frame_that_is_overwritten_while_it_is_read_is_gone():
    class Racing(dict):
        """Writes the next frame into the slot when the reader has copied the images."""

        is_racing = False

        def __iter__(self):
            yield from super().__iter__()
            if self.is_racing:
                self.is_racing = False
                ring.write(observation(9), 0, control_step=1)

    cameras = Racing(SIZE)
    ring = FrameRing(RingLayout(cameras, 1))
    ring.write(observation(3), 0, control_step=0)
    cameras.is_racing = True
    assert ring.read(0) is None


def test_a_watchdog_tells_work_from_a_hang_and_from_rest():
    ring = FrameRing(RingLayout(SIZE, 4))
    assert (ring.is_idle, ring.progress) == (True, 0)
    ring.write(observation(0), 0, control_step=0)
    assert not ring.is_idle, "a frame that nobody has seen is work"
    ring.report(is_busy=True)
    assert (ring.is_idle, ring.progress) == (False, 1)
    ring.report(is_busy=False)
    assert (ring.is_idle, ring.progress) == (True, 2)
    ring.write(observation(1), 0, control_step=1)
    ring.report(is_busy=True)
    ring.forget_reader()  # the process was killed in the middle of it
    assert not ring.is_idle
    ring.report(is_busy=False)
    assert ring.is_idle


def written(ring: FrameRing, steps: range, episode: int = 0) -> None:
    for step in steps:
        ring.write(observation(step), episode, control_step=step - steps.start)


def brightness(reader: RingReader) -> list[int]:
    return ((reader.clips()["motion"].grid[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()


def test_a_clip_begins_with_its_own_episode_however_late_it_is_read():
    """MOTION has 5 frames, one in 2 control steps: 9 control steps."""
    ring, reader = FrameRing(RingLayout(SIZE, 64)), RingReader(RefreshSpec((MOTION,), 1, FPS))
    written(ring, range(100, 110))
    written(ring, range(10, 13), episode=1)
    newest = reader.catch_up(ring)
    assert newest is not None
    assert newest.place == (1, 2)
    assert brightness(reader) == [10, 10, 10, 10, 12]


def test_another_ring_is_read_from_its_beginning():
    spec = RefreshSpec((MOTION,), 1, FPS)
    reader, first, second = RingReader(spec), FrameRing(RingLayout(SIZE, 64)), FrameRing(RingLayout(SIZE, 64))
    written(first, range(20))
    reader.catch_up(first)
    written(second, range(50, 53), episode=1)
    newest = reader.catch_up(second)
    assert newest is not None
    assert newest.place == (1, 2)
    assert brightness(reader) == [50, 50, 50, 50, 52]


def test_a_warm_up_shows_black_frames_large_enough_for_every_stream():
    large = replace(MOTION, name="large", size_px=16, width_px=24, num_frames=1)
    small = replace(MOTION, frame=FrameConfig(fit="crop"))
    system = FakeSystem()
    refreshed = warm_up(system, RefreshSpec((large, small), 1, FPS), instruction="push")
    assert refreshed.episode == -1
    (clips,) = system.clips
    assert {name: tuple(clip.grid.shape) for name, clip in clips.items()} == {
        "large": (1, 3, 1, 16, 24),
        "motion": (1, 3, 5, 8, 8),
    }
    assert (clips["motion"].grid == -1).all()
