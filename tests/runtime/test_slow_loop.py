"""System 2's two ways to keep up: both refresh by the same rule, neither lets one episode reach the next."""

import time

import numpy as np
import pytest
import torch
from runtime_fakes import FPS, MOTION, FakeSystem, GatedSystem, observation, wait_until

from video2act.clips import clip_indices
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.slow_loop import InlineSlowLoop
from video2act.runtime.thread_loop import ThreadSlowLoop
from video2act.types import Tokens, Video


def inline(system: FakeSystem, refresh_every: int) -> InlineSlowLoop:
    return InlineSlowLoop(system, RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS))


@pytest.fixture
def threaded():
    """Makes thread loops and ends their threads after the test."""
    loops = []

    def make(
        system: FakeSystem, refresh_every: int = 1, timeout_s: float = 10.0, hang_timeout_s: float = 10.0
    ) -> ThreadSlowLoop:
        loops.append(
            ThreadSlowLoop(
                system,
                RefreshSpec((MOTION,), refresh_every=refresh_every, control_fps=FPS),
                first_condition_timeout_s=timeout_s,
                hang_timeout_s=hang_timeout_s,
            )
        )
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


class TestInline:
    def test_refreshes_at_steps_0_n_2n_and_nowhere_else(self):
        system = FakeSystem()
        loop = inline(system, refresh_every=3)
        loop.reset(0)
        ages = []
        for step in range(10):
            loop.observe(observation(step))
            ages.append(round((step / FPS - loop.condition().observed_at) * FPS))
        assert system.newest_frames == [0, 3, 6, 9]
        assert ages == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
        assert len(loop.perceive_s) == 4

    def test_refresh_every_1_recomputes_at_every_step_unlike_the_released_cache(self):
        # with cache_ratio=1 the released code computes once, and then acts on that first frame for ever
        system = FakeSystem()
        loop = inline(system, refresh_every=1)
        loop.reset(0)
        for step in range(5):
            loop.observe(observation(step))
            assert loop.condition().tokens.data.item() == step
        assert system.newest_frames == [0, 1, 2, 3, 4]

    def test_refresh_every_0_is_refused_with_words(self):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            inline(FakeSystem(), refresh_every=0)

    def test_the_history_holds_frames_between_two_refreshes(self):
        system = FakeSystem()
        loop = inline(system, refresh_every=10)
        loop.reset(0)
        for step in range(11):
            loop.observe(observation(step))
        clip = system.clips[-1]["motion"]
        frames = ((clip.grid[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()
        assert frames == clip_indices(10, MOTION.num_frames, stride=MOTION.stride) == [2, 4, 6, 8, 10]
        assert clip.fps == FPS / MOTION.stride

    def test_a_reset_starts_at_step_0_with_an_empty_history(self):
        system = FakeSystem()
        loop = inline(system, refresh_every=4)
        loop.reset(0)
        for step in range(100, 106):
            loop.observe(observation(step))
        loop.reset(1)
        with pytest.raises(RuntimeError, match="no frame of this episode"):
            loop.condition()
        loop.observe(observation(7))
        condition = loop.condition()
        assert condition.episode == 1
        assert ((system.clips[-1]["motion"].grid + 1) * 127.5).round().unique().tolist() == [7]

    def test_a_policy_without_system_2_gets_zero_tokens(self):
        loop = InlineSlowLoop(FakeSystem(), RefreshSpec((), refresh_every=1, control_fps=FPS))
        loop.reset(0)
        loop.observe(observation(0))
        assert loop.condition().tokens.data.shape[1] == 0


class TestThread:
    def test_the_first_condition_is_waited_for_and_stamped(self, threaded):
        loop = threaded(FakeSystem())
        loop.reset(3)
        loop.observe(observation(0))
        condition = loop.condition()
        assert (condition.observed_at, condition.episode) == (0.0, 3)

    def test_nothing_is_waited_for_after_the_first_condition(self, threaded):
        system = GatedSystem()
        loop = threaded(system)
        loop.reset(0)
        system.let_pass()
        loop.observe(observation(0))
        loop.condition()
        started = time.monotonic()
        for step in range(1, 50):  # System 2 is stuck at its gate all the while
            loop.observe(observation(step))
            assert loop.condition().observed_at == 0.0
        assert time.monotonic() - started < 2
        system.let_pass(2)

    def test_after_a_long_refresh_it_takes_the_newest_frame_and_skips_none_in_the_history(self, threaded):
        system = GatedSystem()
        loop = threaded(system)
        loop.reset(0)
        loop.observe(observation(0))
        assert system.has_started.acquire(timeout=10)
        for step in range(1, 21):
            loop.observe(observation(step))
        system.let_pass(2)
        wait_until(lambda: len(system.newest_frames) == 2)
        assert system.newest_frames == [0, 20]
        frames = ((system.clips[-1]["motion"].grid[0, 0, :, 0, 0] + 1) * 127.5).round().int().tolist()
        assert frames == [12, 14, 16, 18, 20]

    def test_it_never_refreshes_more_often_than_every_n_control_steps(self, threaded):
        system = FakeSystem()
        loop = threaded(system, refresh_every=4)
        loop.reset(0)
        for step in range(13):
            loop.observe(observation(step))
            deadline = time.monotonic() + 10
            while len(system.newest_frames) <= step // 4 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.004)  # System 2 is idle long before the next frame
        loop.close()
        assert len(system.newest_frames) >= 3
        gaps = [b - a for a, b in zip(system.newest_frames, system.newest_frames[1:], strict=False)]
        assert min(gaps) >= 4

    def test_a_result_in_flight_at_a_reset_is_discarded(self, threaded):
        system = GatedSystem()
        loop = threaded(system)
        loop.reset(0)
        loop.observe(observation(200))
        assert system.has_started.acquire(timeout=10)  # the refresh of episode 0 has begun
        loop.reset(1)
        loop.observe(observation(0))
        system.let_pass(2)
        condition = loop.condition()
        assert (condition.episode, condition.tokens.data.item()) == (1, 0)
        assert system.newest_frames == [200, 0]
        assert ((system.clips[-1]["motion"].grid + 1) * 127.5).round().unique().tolist() == [0]

    def test_frames_from_before_a_reset_that_nobody_looked_at_do_not_count(self, threaded):
        system = GatedSystem()
        loop = threaded(system, refresh_every=5)
        loop.reset(0)
        loop.observe(observation(100))
        assert system.has_started.acquire(timeout=10)
        loop.observe(observation(101))
        loop.reset(1)
        loop.observe(observation(0))
        system.let_pass(2)
        loop.condition()
        assert system.newest_frames == [100, 0]

    def test_an_exception_in_the_worker_is_raised_where_the_robot_is_driven(self, threaded):
        class Broken(FakeSystem):
            def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
                raise ZeroDivisionError("a broken lens")

        loop = threaded(Broken())
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(RuntimeError, match=r"(?s)System 2 .*failed.*in perceive.*a broken lens") as raised:
            loop.condition()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)

    def test_a_missing_camera_is_told_and_does_not_hang(self, threaded):
        loop = threaded(FakeSystem())
        loop.reset(0)
        blind = observation(0)
        blind.images.clear()
        with pytest.raises(ValueError, match="reads camera 'top'"):
            loop.observe(blind)

    def test_an_episodes_number_that_was_there_before_is_refused(self, threaded):
        """A second policy over the same loop counts from 0 again, and got what was under way for the first one's
        episode."""
        loop = threaded(FakeSystem())
        loop.reset(0)
        with pytest.raises(ValueError, match="episode numbers must increase: got 0 after 0"):
            loop.reset(0)

    def test_an_image_that_is_not_bytes_is_told_and_not_converted(self, threaded):
        loop = threaded(FakeSystem())
        loop.reset(0)
        wrong = observation(0)
        wrong.images["top"] = np.zeros((8, 8, 3), np.float32)
        with pytest.raises(ValueError, match=r"camera 'top' must be uint8 .* got float32 \[8, 8, 3\]"):
            loop.observe(wrong)

    def test_a_first_condition_that_never_comes_is_an_error_not_a_hang(self, threaded):
        system = GatedSystem()
        loop = threaded(system, timeout_s=0.05)
        loop.reset(0)
        loop.observe(observation(0))
        with pytest.raises(TimeoutError, match=r"episode 0 within 0\.05 s"):
            loop.condition()
        system.let_pass()
        loop.close()

    def test_a_refresh_that_hangs_is_left_behind_and_noted(self, threaded):
        """Closing raised after it, and an evaluation lost what it had measured."""
        system = GatedSystem()
        loop = threaded(system, hang_timeout_s=0.05)
        loop.reset(0)
        loop.observe(observation(0))
        system.has_started.acquire()
        loop.close()
        assert loop.incidents[-1].text == "System 2 (thread): it did not end within 0.05 s; a refresh hangs in it"
        system.let_pass()

    def test_between_two_failures_there_is_a_pause_that_grows(self, threaded):
        class Fails(FakeSystem):
            def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
                began.append(time.monotonic())
                if len(began) < 3:
                    raise ZeroDivisionError
                return super().perceive(clips, instruction)

        began: list[float] = []
        loop = threaded(Fails())
        loop.reset(0)
        loop.observe(observation(0))
        assert loop.condition().version == 1
        first, second, third = began
        assert second - first >= 0.1
        assert third - second >= 0.2
        assert third - first < 5

    def test_a_hang_is_said_once_and_what_takes_milliseconds_is_none(self, threaded):
        for hang_timeout_s, counts in ((0.02, {"system2_hangs": 1}), (10.0, {})):
            system = GatedSystem()
            loop = threaded(system, hang_timeout_s=hang_timeout_s)
            loop.reset(0)
            loop.observe(observation(0))
            assert system.has_started.acquire(timeout=10)
            for step in range(1, 4):
                time.sleep(0.03)
                loop.observe(observation(step))
            assert loop.incidents.counts == counts
            system.let_pass(5)

    def test_asking_before_observing_is_an_error_at_once(self, threaded):
        loop = threaded(FakeSystem())
        loop.reset(0)
        with pytest.raises(RuntimeError, match="call observe"):
            loop.condition()

    def test_no_gradient_is_recorded_in_the_worker(self, threaded):
        class Learned(FakeSystem):
            def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
                weight = torch.ones(1, 1, 1, requires_grad=True)
                return Tokens.all_visible(weight * 2)

        loop = threaded(Learned())
        loop.reset(0)
        loop.observe(observation(0))
        assert not loop.condition().tokens.data.requires_grad
