"""Environments by name: `metaworld:push-v3`, `aloha:insertion`.

A Gymnasium environment has no name here: it needs a mapping from its keys to ours, so it is built as
`GymEnvironment(gymnasium.make(...), mapping)`.
"""

from video2act.envs.choices import check_choice
from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.metaworld import MetaWorld
from video2act.envs.metaworld_tasks import INSTRUCTIONS
from video2act.interfaces import Environment, Expert


def list_environments() -> list[str]:
    """Every name that `make_environment` knows; needs no simulator."""
    return [f"metaworld:{task}" for task in INSTRUCTIONS]


def make_environment(
    name: str, cameras: tuple[str, ...] | None = None, image_size: int = 128, max_steps: int | None = None
) -> Environment:
    """Build an environment; None leaves the cameras or the time limit at the environment's own default."""
    check_choice("environment", name, list_environments())
    _, task = name.split(":")
    return MetaWorld(
        task, cameras=("corner4", "gripperPOV") if cameras is None else cameras, image_size=image_size, max_steps=max_steps or 200
    )


def make_expert(environment: Environment) -> Expert:
    """The scripted demonstrator of an environment."""
    if isinstance(environment, MetaWorld):
        return MetaWorldExpert(environment)
    raise ValueError(
        f"there is no expert for {environment.spec.name!r} ({type(environment).__name__}); experts exist for MetaWorld"
    )
