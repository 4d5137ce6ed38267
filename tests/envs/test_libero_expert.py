"""LIBERO's scripted expert: where it holds things, what it reads of the scene, and how often it succeeds.

Tests without the mark are about geometry and need no simulator.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from video2act.envs.experts.libero import TASKS, LiberoExpert
from video2act.envs.experts.libero_grasp import (
    DOWN,
    RIM_DEPTH_M,
    WIDEST_M,
    Grasp,
    Heights,
    choose_grasp,
    hand_rotation,
    has_room,
    rotation_vector,
)
from video2act.envs.libero import Libero
from video2act.evaluation.episodes import play_expert

UP = -DOWN
BASE = np.array([-0.7, 0, 0])
RIM_RADIUS, RIM_HEIGHT = 0.05, 0.053

Shape = Callable[[np.ndarray], np.ndarray]
"""heights of one thing, and 0 beside it"""


def box(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    """The corners of a box that stands on z = 0."""
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (0, 1)]) * (x, y, z)
    cos, sin = np.cos(yaw), np.sin(yaw)
    return corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])


def block(x: float, y: float, z: float, at: tuple[float, float] = (0.0, 0.0)) -> Shape:
    """The heights of such a box, not turned."""
    return lambda places: np.where((np.abs(places - at) <= (x / 2, y / 2)).all(axis=1), z, 0.0)


def bowl(places: np.ndarray) -> np.ndarray:
    """A wall of 6 mm around a floor of 7 mm."""
    far = np.linalg.norm(places, axis=1)
    return np.where(np.abs(far - RIM_RADIUS) <= 0.003, RIM_HEIGHT, np.where(far < RIM_RADIUS, 0.007, 0.0))


def rim(tilt: float = 0.0) -> np.ndarray:
    """Corners of the bowl, tilted about x."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = [
        [r * np.cos(a), r * np.sin(a), z]
        for a in angles
        for r, z in ((0.053, RIM_HEIGHT), (0.047, RIM_HEIGHT), (0.035, 0))
    ]
    cos, sin = np.cos(tilt), np.sin(tilt)
    return np.array(points) @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])


def scene(*shapes: Shape) -> Heights:
    return lambda places: np.max([shape(places) for shape in shapes], axis=0)


EMPTY = scene(block(0, 0, 0))


class TestSideGrasp:
    def choose(self, points: np.ndarray, heights: Heights = EMPTY) -> Grasp:
        return choose_grasp(points, UP, heights, base=BASE)

    def test_a_box_is_held_across_its_narrow_side(self):
        for yaw in (-0.6, -0.2, 0.0, 0.3, 0.6):
            assert self.choose(box(0.08, 0.04, 0.02, yaw)).yaw == pytest.approx(yaw, abs=0.09)
        assert abs(self.choose(box(0.04, 0.12, 0.02)).yaw) == pytest.approx(np.pi / 2)

    def test_the_hand_does_not_turn_for_little(self):
        assert self.choose(box(0.036, 0.053, 0.15)).yaw == 0

    def test_a_tall_thing_is_held_where_the_palm_does_not_rest_on_it(self):
        """The wine bottle: the palm came down on its top and pushed it over."""
        bottle, low = self.choose(box(0.03, 0.03, 0.16)), self.choose(box(0.03, 0.03, 0.04))
        assert (bottle.position[2], low.position[2]) == pytest.approx((0.126, 0.02))
        assert has_room(bottle, scene(block(0.03, 0.03, 0.16)))

    def test_the_palm_needs_room_beside_a_tall_neighbour(self):
        """The cream cheese: the palm came to rest on a can beside it, 2 cm too high to hold anything."""
        grasp, cheese = self.choose(box(0.08, 0.04, 0.02)), block(0.08, 0.04, 0.02)

        def has(x: float, y: float, height: float = 0.08) -> bool:
            return has_room(grasp, scene(cheese, block(0.066, 0.066, height, at=(x, y))))

        assert [has(0, -0.107), has(0, 0.107)] == [False, False]
        assert [has(0, -0.15), has(0.09, -0.1), has(0, -0.107, height=0.04)] == [True, True, True]

    def test_the_hand_turns_where_the_palm_would_meet_a_neighbour(self):
        """The orange juice: 5 cm wide both ways, with a bottle behind it that the palm would rest on."""
        carton, own = box(0.053, 0.053, 0.13), block(0.053, 0.053, 0.13)
        near, far = (scene(own, block(0.05, 0.05, 0.19, at=(0, y))) for y in (0.09, 0.29))
        assert self.choose(carton, scene(own)).yaw == self.choose(carton, far).yaw == 0
        turned = self.choose(carton, near)
        assert abs(turned.yaw) > 0.4
        assert [has_room(grasp, near) for grasp in (self.choose(carton), turned)] == [False, True]

    def test_without_room_anywhere_the_cheapest_grasp_is_tried(self):
        walls = scene(block(1, 1, 0.5))
        assert self.choose(box(0.08, 0.04, 0.02), walls).yaw == self.choose(box(0.08, 0.04, 0.02)).yaw


class TestRimGrasp:
    def choose(self, *neighbours: Shape, tilt: float = 0.0) -> Grasp:
        axis = np.array([0, -np.sin(tilt), np.cos(tilt)])
        return choose_grasp(rim(tilt), axis, scene(bowl, *neighbours), base=BASE)

    def test_a_bowl_is_wider_than_the_hand_and_held_at_its_rim(self):
        assert 2 * RIM_RADIUS > WIDEST_M
        grasp = self.choose()
        assert np.linalg.norm(grasp.position[:2]) == pytest.approx(RIM_RADIUS, abs=0.001)
        # held 12 mm deep it crept out of the fingers on the way, 15 mm down
        assert RIM_HEIGHT - 0.025 < grasp.position[2] < RIM_HEIGHT - 0.015

    def test_one_finger_is_inside_and_one_outside(self):
        grasp = self.choose()
        outwards = np.append(grasp.position[:2], 0) / RIM_RADIUS
        assert abs(grasp.rotation[:, 0] @ outwards) == pytest.approx(1, abs=0.01)

    def test_the_side_that_the_robot_reaches_best_is_taken(self):
        """The arm is straight at 75 cm: a bowl on the cabinet was missed by 1.5 cm at its far side."""
        grasp = self.choose()
        assert grasp.position[0] < -0.02

    def test_a_neighbour_moves_the_grasp_around_the_rim(self):
        ramekin = block(0.08, 0.12, 0.06, at=(-0.12, 0))
        grasp = self.choose(ramekin)
        assert has_room(grasp, scene(bowl, ramekin))
        assert not has_room(self.choose(), scene(bowl, ramekin))

    def test_in_a_drawer_the_fingers_go_along_it(self):
        """Walls a little higher than the bowl, 10.5 and 7.6 cm from its middle."""
        walls = [block(0.3, 0.01, 0.06, at=(0, y)) for y in (-0.081, 0.081)]
        walls += [block(0.01, 0.16, 0.06, at=(x, 0)) for x in (-0.11, 0.11)]
        grasp = self.choose(*walls)
        assert has_room(grasp, scene(bowl, *walls))
        assert abs(grasp.position[0]) > abs(grasp.position[1])

    def test_the_rim_of_a_tilted_bowl_is_found(self):
        tilt = 0.28
        grasp = self.choose(tilt=tilt)
        axis = np.array([0, -np.sin(tilt), np.cos(tilt)])
        above = grasp.position + RIM_DEPTH_M * UP
        assert above @ axis == pytest.approx(RIM_HEIGHT, abs=0.001)
        assert np.linalg.norm(above - RIM_HEIGHT * axis) == pytest.approx(RIM_RADIUS, abs=0.001)


class TestRotation:
    @pytest.mark.parametrize("angle", [0.0, 0.01, 1.0, -1.5, 3.0])
    def test_a_turn_about_an_axis_is_found_again(self, angle: float):
        turned = hand_rotation(DOWN, np.array([-np.sin(angle), np.cos(angle), 0]))
        neutral = hand_rotation(DOWN, np.array([0.0, 1.0, 0.0]))
        np.testing.assert_allclose(rotation_vector(turned @ neutral.T), [0, 0, angle], atol=1e-9)

    def test_a_hand_is_a_right_handed_frame(self):
        assert np.linalg.det(Grasp(np.zeros(3), 0.3).rotation) == pytest.approx(1)
        np.testing.assert_allclose(Grasp(np.zeros(3), 0.0).rotation[:, 0], [0, 1, 0], atol=1e-12)


@pytest.fixture(scope="module")
def drawer() -> Iterator[Libero]:
    """The bowl stands in an open drawer."""
    pytest.importorskip("libero", reason="needs the extra libero")
    made = Libero("libero_spatial/4", ())
    made.reset(0)
    yield made
    made.close()


@pytest.mark.libero
class TestScene:
    def test_heights_see_the_drawer_and_not_the_robot(self, drawer: Libero):
        expert: Any = LiberoExpert(drawer)
        scene, bowl = expert._scene, expert._scene.points("akita_black_bowl_1")
        middle = (bowl.min(axis=0) + bowl.max(axis=0)) / 2
        inside, over_table = scene.heights(np.array([middle[:2], scene.hand().position[:2]]))
        assert inside == pytest.approx(bowl[:, 2].min() + 0.005, abs=0.01)
        assert over_table < 0.96 < scene.hand().position[2]

    def test_actions_have_the_environments_form(self, drawer: Libero):
        drawer.reset(1)
        expert = LiberoExpert(drawer)
        expert.reset()
        for _ in range(30):
            action = expert.act()
            assert (action.shape, action.dtype) == ((7,), np.float32)
            assert np.abs(action).max() <= 1
            assert action[6] in (-1, 1)
            drawer.step(action)

    def test_a_task_without_a_script_is_refused_with_the_list(self):
        plate = Libero("libero_goal/5", ())
        with pytest.raises(ValueError, match=r"'libero_goal/5'.*libero_goal/0\.\.4, libero_goal/6\.\.9"):
            LiberoExpert(plate)
        plate.close()


@pytest.mark.slow
@pytest.mark.libero
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_official_states(task: str):
    """On states that it was not tuned on."""
    pytest.importorskip("libero", reason="needs the extra libero")
    environment = Libero(task, ())
    assert sum(play_expert(environment, LiberoExpert(environment), seed) for seed in range(20, 25)) >= 4
    environment.close()
