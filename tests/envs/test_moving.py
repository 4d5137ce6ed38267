"""The suite `moving`: what moves, what a picture and the state do not show, and who solves it."""

from collections.abc import Iterator

import numpy as np
import pytest

from video2act.envs.experts.moving import MovingExpert
from video2act.envs.moving import BALL_RADIUS_M, BALL_SPEED_M_S, DRIFT_SPEED_M_S, SHOWN_S, TASKS, WITH_VELOCITY, Moving
from video2act.evaluation.episodes import play_expert
from video2act.types import Step

STILL = np.zeros(4, dtype=np.float32)


@pytest.fixture(scope="module", params=[name for name in TASKS if not name.endswith(WITH_VELOCITY)])
def unseen(request: pytest.FixtureRequest) -> Iterator[Moving]:
    """A task without cameras."""
    made = Moving(request.param, ())
    yield made
    made.close()


@pytest.fixture(scope="module")
def intercept() -> Iterator[Moving]:
    made = Moving("intercept")
    yield made
    made.close()


def successes(environment: Moving, num_seeds: int, *, is_handicapped: bool) -> int:
    expert = MovingExpert(environment, is_handicapped=is_handicapped)
    return sum(play_expert(environment, expert, seed) for seed in range(5000, 5000 + num_seeds))


def green(image: np.ndarray) -> np.ndarray:
    """The pixels of the goal's marker."""
    red, green, blue = image.astype(int).transpose(2, 0, 1)
    return (green > 120) & (red < 80) & (blue < 80)


def play(environment: Moving, seed: int, action: np.ndarray) -> list[Step]:
    environment.reset(seed)
    steps = [environment.step(action)]
    while not steps[-1].done:
        steps.append(environment.step(action))
    return steps


class TestExperts:
    def test_an_expert_without_velocity_or_memory_falls_short(self, unseen: Moving):
        num_seeds = 4
        whole = successes(unseen, num_seeds, is_handicapped=False)
        without = successes(unseen, num_seeds, is_handicapped=True)
        assert whole == num_seeds
        assert without <= 0.75 * num_seeds

    @pytest.mark.slow
    def test_over_fifty_seeds(self, unseen: Moving):
        assert successes(unseen, 50, is_handicapped=False) >= 0.95 * 50
        assert successes(unseen, 50, is_handicapped=True) <= 0.7 * 50

    def test_a_resting_robot_solves_nothing(self, unseen: Moving):
        assert not any(step.success for seed in range(2) for step in play(unseen, seed, STILL))


class TestWhatMoves:
    def test_the_ball_keeps_its_speed(self, intercept: Moving):
        intercept.reset(3)
        before, speed = intercept.object, abs(intercept.velocity[0])
        for _ in range(20):
            intercept.step(STILL)
        assert np.linalg.norm((intercept.object - before)[:2]) == pytest.approx(speed * 20 / 80, rel=0.02)

    def test_every_speed_and_both_directions_occur(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("video2act.envs.moving.SETTLE_STEPS", 0)  # the arm does not matter here
        made = Moving("intercept", ())
        velocities = []
        for seed in range(40):
            made.reset(seed)
            velocities.append(made.velocity[0])
        for low, high in BALL_SPEED_M_S:
            assert sum(low <= abs(velocity) <= high for velocity in velocities) >= 5
        assert 10 <= sum(velocity > 0 for velocity in velocities) <= 30

    def test_the_goal_drifts_at_its_velocity(self):
        made = Moving("push", ())
        made.reset(0)
        before = made.goal
        for _ in range(8):
            made.step(STILL)
        assert np.allclose(made.goal[:2] - before[:2], made.velocity * 0.1)
        assert DRIFT_SPEED_M_S[0] <= np.linalg.norm(made.velocity) <= DRIFT_SPEED_M_S[1]

    def test_a_ball_that_meets_a_resting_gripper_is_lost(self):
        made = Moving("intercept", ())
        made.reset(0)
        into_the_lane = np.array([0, 1, 0, 1], dtype=np.float32)
        step = made.step(into_the_lane)
        while made.privileged[1] < made.object[1] and not step.done:
            step = made.step(into_the_lane)
        while not step.done:
            step = made.step(STILL)
        assert made.is_struck
        assert not step.success
        assert step.observation.time < TASKS["intercept"].max_steps / 80


class TestWhatIsSeen:
    def test_the_ball_is_ten_pixels_wide(self, intercept: Moving):
        intercept.reset(0)
        for _ in range(10):
            step = intercept.step(STILL)
        image = step.observation.images["topview"].astype(int)
        yellow = (image[..., 0] > 150) & (image[..., 1] > 110) & (image[..., 2] < 60)
        columns = np.flatnonzero(yellow.any(0))
        assert columns[-1] - columns[0] + 1 >= 10

    def test_the_state_holds_no_object(self, unseen: Moving):
        states = [unseen.reset(seed).state for seed in range(3)]
        assert states[0].shape == (4,)
        assert np.array_equal(states[0], states[1])
        assert np.array_equal(states[0], states[2])

    def test_the_state_of_an_arm_that_waits_does_not_tell_the_time(self, intercept: Moving):
        """The gripper was still closing when the episode began. Time and the ball's place gave its speed away."""
        first = intercept.reset(0).state
        waits = np.array([0, 0, 0, 1], dtype=np.float32)
        later = np.stack([intercept.step(waits).observation.state for _ in range(40)])
        assert np.abs(later - first).max() < 2e-4

    def test_the_goal_is_drawn_where_it_is(self):
        """The marker stood still while the goal drifted: the simulator moves it only until the next forward pass."""
        for task in ("push", "hidden"):
            made = Moving(task, ("topview",))
            places, columns = [], []
            for seed in range(3):
                observation = made.reset(seed)
                for _ in range(24):
                    marked = np.flatnonzero(green(observation.images["topview"]).any(0))
                    if len(marked):  # a drifting goal may begin outside of the picture
                        places.append(made.goal[0])
                        columns.append(marked.mean())
                    observation = made.step(STILL).observation
            made.close()
            assert len(places) >= 24
            assert np.ptp(places) > 0.1
            assert np.corrcoef(places, columns)[0, 1] > 0.99

    def test_the_hidden_goal_is_shown_for_its_time_and_again_in_the_next_episode(self):
        made = Moving("hidden", ("topview",))
        for seed in (0, 1):
            seen = [green(made.reset(seed).images["topview"]).sum()]
            seen += [green(made.step(STILL).observation.images["topview"]).sum() for _ in range(30)]
            shown = round(SHOWN_S * 80)
            assert all(count > 0 for count in seen[:shown])
            assert not any(seen[shown:])
        made.close()


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"unknown moving task 'intercep'. Did you mean 'intercept'"):
        Moving("intercep")
    with pytest.raises(ValueError, match=r"moving:push: max_steps=300 is not in 1..260"):
        Moving("push", max_steps=300)


def test_the_ball_touches_the_table(intercept: Moving):
    intercept.reset(1)
    for _ in range(10):
        intercept.step(STILL)
    assert intercept.object[2] == pytest.approx(BALL_RADIUS_M, abs=0.01)


def test_the_true_velocity_is_in_the_state_of_the_tasks_named_after_it_and_nothing_else_differs():
    plain, told = Moving("intercept", ()), Moving("intercept_velocity", ())
    assert told.spec.state_names == (*plain.spec.state_names, "velocity_x", "velocity_y")
    for seed in range(3):
        before, same = plain.reset(seed), told.reset(seed)
        np.testing.assert_array_equal(same.state[:4], before.state)
        np.testing.assert_allclose(same.state[4:], plain.velocity, rtol=1e-6)
    action = np.full(4, 0.5, np.float32)
    np.testing.assert_array_equal(told.step(action).observation.state[:4], plain.step(action).observation.state)
    assert MovingExpert(told)
    plain.close()
    told.close()
