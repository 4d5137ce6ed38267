"""Environments and experts by name."""

import numpy as np
import pytest

from video2act.envs import list_environments, make_environment, make_expert
from video2act.envs.choices import check_choice
from video2act.envs.experts.aloha import AlohaExpert
from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.experts.moving import MovingExpert
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step


def test_every_listed_name_is_listed_once() -> None:
    names = list_environments()
    assert len(names) == len(set(names)) == 57 + 290
    assert {"metaworld:push-v3", "aloha:insertion", "aloha:transfer_cube"} <= set(names)


@pytest.mark.parametrize(
    ("name", "expert"),
    [("metaworld:reach-v3", MetaWorldExpert), ("aloha:insertion", AlohaExpert), ("moving:push", MovingExpert)],
)
def test_a_name_makes_an_environment_and_its_expert(name: str, expert: type) -> None:
    environment = make_environment(name, cameras=(), max_steps=7)
    assert (environment.spec.name, environment.spec.max_steps, environment.spec.cameras) == (name, 7, ())
    assert isinstance(make_expert(environment), expert)
    environment.close()


def test_what_is_not_said_is_as_usual() -> None:
    metaworld, aloha = make_environment("metaworld:reach-v3"), make_environment("aloha:insertion")
    assert (metaworld.spec.cameras, metaworld.spec.max_steps, metaworld.spec.image_size) == (
        ("corner4", "gripperPOV"),
        200,
        128,
    )
    assert (aloha.spec.cameras, aloha.spec.max_steps, aloha.spec.fps) == (("angle", "top"), 300, 50)


def test_an_unknown_name_is_answered_with_what_exists() -> None:
    with pytest.raises(
        ValueError, match=r"unknown environment 'metaworld:push'. Did you mean 'metaworld:push-v3'\?.*info environments"
    ):
        make_environment("metaworld:push")
    with pytest.raises(ValueError, match=r"Choose from: aloha:insertion, aloha:transfer_cube\. There are families"):
        make_environment("aloha:insert")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("push-v3", "'metaworld:push-v3'"),
        ("pusch-v3", "'metaworld:push-v3'"),
        ("sim:push-v3", "'metaworld:push-v3'"),
        ("transfer_cub", "'aloha:transfer_cube'"),
        ("libero_object/3", "'libero:libero_object/3'"),
        ("intercept", "'moving:intercept'"),
    ],
)
def test_a_forgotten_family_is_found_and_no_wall_of_names_is_printed(name: str, near: str) -> None:
    """`eval --env push-v3` listed seventy names, and not the one that was meant first."""
    with pytest.raises(ValueError, match=rf"unknown environment '{name}'. Did you mean {near}\?") as refused:
        check_choice("environment", name, choices=list_environments())
    said = str(refused.value)
    assert len(said) < 260
    assert "There are families aloha (2), libero (290), metaworld (50), moving (5); this lists all: video2act " in said


def test_a_gymnasium_id_that_nothing_has_registered_is_said_to_need_its_package() -> None:
    with pytest.raises(ValueError, match=r"unknown environment 'gym_none/PushT-v0'.*is not installed, or.*13_gym_pus"):
        make_environment("gym_none/PushT-v0")
    with pytest.raises(ValueError, match="unknown environment 'metaworld:pus-v3'") as refused:
        make_environment("metaworld:pus-v3")
    assert "Gymnasium" not in str(refused.value)


def test_a_list_of_numbered_names_shows_its_gaps() -> None:
    """`suite/0`, `suite/1` and `suite/3` were listed as `suite/0..3`."""
    with pytest.raises(ValueError, match=r"Choose from: other/7, suite/0\.\.1, suite/3\.\.5, word$"):
        check_choice(
            "task", "nothing", choices=["suite/0", "suite/1", "word", "suite/5", "suite/3", "suite/4", "other/7"]
        )


def test_an_environment_without_expert_says_which_have_one() -> None:
    class Robot:
        spec = EnvironmentSpec("robot", "arm", "wave", (), 8, ("x",), ("x",), fps=10.0, max_steps=5)

        def reset(self, seed: int) -> Observation: ...

        def step(self, action: np.ndarray) -> Step: ...

        def close(self) -> None: ...

    with pytest.raises(ValueError, match=r"no expert for 'robot' \(Robot\); MetaWorld, Aloha, Moving and Libero"):
        make_expert(Robot())


def test_experts_wait_for_no_reset_to_be_built() -> None:
    environment = make_environment("aloha:transfer_cube", cameras=())
    expert = make_expert(environment)
    environment.reset(3)
    expert.reset()
    assert np.isfinite(expert.act()).all()
    environment.close()
