"""Environments by name: `metaworld:push-v3`, `aloha:insertion`; a Gymnasium id; or `module:function` of your own.

The function returns an `Environment`; if it has a parameter `cameras`, it gets the cameras to render (None: its usual
ones). Modules may be in the working directory. A Gymnasium id is mapped by `make_gym`.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Collection
from typing import Any

from video2act.envs import aloha, metaworld, moving
from video2act.envs.aloha import Aloha
from video2act.envs.choices import check_choice
from video2act.envs.experts.aloha import AlohaExpert
from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.experts.moving import MovingExpert
from video2act.envs.metaworld import MetaWorld
from video2act.envs.moving import Moving
from video2act.interfaces import Environment, Expert

FAMILIES: dict[str, tuple[Any, Any, Collection[str]]] = {
    "metaworld": (MetaWorld, MetaWorldExpert, metaworld.INSTRUCTIONS),
    "aloha": (Aloha, AlohaExpert, aloha.INSTRUCTIONS),
    "moving": (Moving, MovingExpert, moving.TASKS),
}
"""an environment, its expert, its tasks"""


def list_environments() -> list[str]:
    """Every name that `make_environment` knows; needs no simulator."""
    return [f"{family}:{task}" for family, (_, _, tasks) in FAMILIES.items() for task in tasks]


def make_environment(
    name: str, cameras: tuple[str, ...] | None = None, *, image_size: int = 128, max_steps: int | None = None
) -> Environment:
    """Build an environment by name; None leaves its usual cameras or time limit.

    Raises:
        ValueError: an unknown name, or an environment of your own that is none.
    """
    own = None if has_expert(name) else _own(name, cameras)
    if own is not None:
        return own
    check_choice("environment", name, choices=list_environments())
    family, _, task = name.partition(":")
    make, _, _ = FAMILIES[family]
    chosen = {"cameras": cameras, "max_steps": max_steps}
    return make(task, **{name: value for name, value in chosen.items() if value is not None}, image_size=image_size)


def has_expert(name: str) -> bool:
    """Whether a scripted expert knows the environment; those of your own have none."""
    return name.partition(":")[0] in FAMILIES


def _own(name: str, cameras: tuple[str, ...] | None) -> Environment | None:
    """The environment of a Gymnasium id or of `module:function`; None if the name is neither."""
    module, colon, function = name.partition(":")
    if colon:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            make = getattr(importlib.import_module(module), function, None)
        except ModuleNotFoundError as error:
            if error.name and module.partition(".")[0] != error.name.partition(".")[0]:
                raise
            raise ValueError(f"{name}: there is no module {module!r}, here or among the installed ones") from error
        if callable(make):
            takes_cameras = "cameras" in inspect.signature(make).parameters
            environment = make(cameras=cameras) if takes_cameras else make()
            if not isinstance(environment, Environment):
                raise ValueError(
                    f"{name} returned a {type(environment).__name__}, not an Environment (spec, reset, step, close); "
                    "for Gymnasium's, return GymEnvironment(environment, GymMapping(...))"
                )
            return environment
    if not re.search(r"-v\d+$", name):
        if colon:
            raise ValueError(f"{name}: the module {module!r} has no function {function!r}")
        return None
    try:
        from video2act.envs.gym import gymnasium, make_gym
    except ImportError:
        return None
    return make_gym(name, cameras) if function in gymnasium.registry or name in gymnasium.registry else None


def make_expert(environment: Environment) -> Expert:
    """The scripted demonstrator of an environment."""
    for kind, expert, _ in FAMILIES.values():
        if isinstance(environment, kind):
            return expert(environment)
    *others, last = (kind.__name__ for kind, _, _ in FAMILIES.values())
    raise ValueError(
        f"no expert for {environment.spec.name!r} ({type(environment).__name__}); {', '.join(others)} and {last} have "
        "one"
    )
