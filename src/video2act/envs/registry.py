"""Environments by name: `metaworld:push-v3`, `aloha:insertion`.

A Gymnasium environment has no name here: it needs a mapping from its keys to ours, so it is built as
`GymEnvironment(gymnasium.make(...), mapping)`.
"""

from video2act.envs import aloha, metaworld
from video2act.envs.aloha import Aloha
from video2act.envs.choices import check_choice
from video2act.envs.experts.aloha import AlohaExpert
from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.metaworld import MetaWorld
from video2act.interfaces import Environment, Expert


def list_environments() -> list[str]:
    """Every name that `make_environment` knows; needs no simulator."""
    return [f"metaworld:{task}" for task in metaworld.INSTRUCTIONS] + [f"aloha:{task}" for task in aloha.INSTRUCTIONS]


def make_environment(
    name: str, cameras: tuple[str, ...] | None = None, *, image_size: int = 128, max_steps: int | None = None
) -> Environment:
    """Build an environment by name; None leaves the cameras or the time limit as they usually are for it."""
    check_choice("environment", name, choices=list_environments())
    family, task = name.split(":")
    if family == "metaworld":
        return MetaWorld(
            task,
            cameras=metaworld.DEFAULT_CAMERAS if cameras is None else cameras,
            image_size=image_size,
            max_steps=metaworld.DEFAULT_MAX_STEPS if max_steps is None else max_steps,
        )
    return Aloha(
        task,
        cameras=aloha.DEFAULT_CAMERAS if cameras is None else cameras,
        image_size=image_size,
        max_steps=aloha.DEFAULT_MAX_STEPS if max_steps is None else max_steps,
    )


def make_expert(environment: Environment) -> Expert:
    """The scripted demonstrator of an environment."""
    if isinstance(environment, MetaWorld):
        return MetaWorldExpert(environment)
    if isinstance(environment, Aloha):
        return AlohaExpert(environment)
    raise ValueError(
        f"no expert for {environment.spec.name!r} ({type(environment).__name__}); MetaWorld and Aloha have one"
    )
