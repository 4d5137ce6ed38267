"""Environments by name: `metaworld:push-v3`, `aloha:insertion`; a Gymnasium id; or one of your own: `module:function`,
or an entry point in the group `video2act.environments`.

The function returns an `Environment`; if it has a parameter `cameras`, it gets the cameras to render (None: its usual
ones). Modules may be in the working directory. A Gymnasium id is mapped by `make_gym`.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from video2act.config.calls import check_listed
from video2act.config.checks import check_once
from video2act.envs import aloha, libero, metaworld, moving
from video2act.envs.aloha import Aloha
from video2act.envs.choices import check_choice
from video2act.envs.episode_clock import OwnEnvironment
from video2act.envs.experts import libero as libero_expert
from video2act.envs.experts.aloha import AlohaExpert
from video2act.envs.experts.libero import LiberoExpert
from video2act.envs.experts.metaworld import MetaWorldExpert
from video2act.envs.experts.moving import MovingExpert
from video2act.envs.libero import Libero
from video2act.envs.metaworld import MetaWorld
from video2act.envs.moving import Moving
from video2act.envs.visual_shift import VISUAL_SHIFTS
from video2act.interfaces import Environment, Expert


@dataclass(frozen=True)
class Family:
    """Environments of one simulator."""

    environment: Any
    expert: Any
    tasks: Collection[str]
    demonstrated: Collection[str]
    """those of `tasks` that the expert can do"""
    num_scenes: int | None = None
    """as the function `num_scenes` says"""


ENTRY_POINTS = "video2act.environments"
GYM_ID = re.compile(r"-v\d+$")

FAMILIES = {
    "metaworld": Family(MetaWorld, MetaWorldExpert, metaworld.INSTRUCTIONS, metaworld.INSTRUCTIONS),
    "aloha": Family(Aloha, AlohaExpert, aloha.INSTRUCTIONS, aloha.INSTRUCTIONS),
    "moving": Family(Moving, MovingExpert, moving.TASKS, moving.TASKS),
    "libero": Family(Libero, LiberoExpert, libero.TASKS, libero_expert.TASKS, libero.NUM_SCENES),
}


def list_environments() -> list[str]:
    """Every name that `make_environment` knows; needs no simulator."""
    return [f"{name}:{task}" for name, family in FAMILIES.items() for task in family.tasks]


def expand_suites(names: Sequence[str]) -> tuple[str, ...]:
    """Each suite, such as `libero:libero_object`, replaced by its tasks; other names stay. Raises ValueError: a task
    is named twice."""
    known = list_environments()
    tasks = ([each for each in known if each.startswith(f"{name}/")] or [name] for name in names)
    expanded = tuple(each for found in tasks for each in found)
    check_once(expanded, "environment", why="its scenes would be counted twice")
    return expanded


def make_environment(
    name: str,
    cameras: tuple[str, ...] | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    max_steps: int | None = None,
    to_demonstrate: bool = False,
    visual_shift: str | None = None,
) -> Environment:
    """Build an environment by name; None leaves its usual cameras, image size (128 px), time limit or look.

    Args:
        image_size: pixels a side of a simulator's images, or height and width. Those of your own have their own.
        to_demonstrate: scenes of its own for demonstrations, where the others are kept for evaluation (LIBERO).
        visual_shift: how a simulator's pictures look otherwise: `envs/visual_shift.py`.
    Raises:
        ValueError: an unknown name, an environment of your own that is none, or a visual shift of it.
    """
    check_listed(cameras=cameras)
    family, _, task = name.partition(":")
    own = None if family in FAMILIES else _own(name, cameras)
    if own is not None:
        problem = ""
        if max_steps is not None:
            problem = f"has a time limit of its own; leave max_steps={max_steps} out"
        elif visual_shift is not None:
            problem = f"draws its own pictures; leave visual_shift={visual_shift!r} out"
        if problem:
            own.close()
            raise ValueError(f"{name} {problem}")
        return OwnEnvironment(own, name)
    _check_known(name)
    chosen: dict[str, Any] = {"cameras": cameras, "image_size": image_size, "max_steps": max_steps}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if to_demonstrate and FAMILIES[family].num_scenes is not None:
        chosen["official"] = False
    if visual_shift is not None:
        check_choice("visual shift", visual_shift, choices=VISUAL_SHIFTS)
    environment = FAMILIES[family].environment(task, **chosen)
    environment.visual_shift = visual_shift
    return environment


def _check_known(name: str) -> None:
    """Raise ValueError for a name that is none of ours, with what it may have meant."""
    try:
        check_choice("environment", name, choices=list_environments())
    except ValueError as error:
        if is_simulated(name):
            raise
        if not GYM_ID.search(name):
            raise ValueError(f"{error}. One of your own is module:function, such as my_robot:make") from None
        gym = "If it is a Gymnasium id, the package that registers it is not installed, or nothing has imported it"
        remedy = "give --env a function of your own that imports it, as examples/13_gym_pusht.py has"
        raise ValueError(f"{error}. {gym}; {remedy}") from None


def is_own(name: str) -> bool:
    """Whether a name is of an environment of your own, which may be a robot."""
    return (":" in name and not is_simulated(name)) or name in _entry_points()


def check_own(name: str) -> None:
    """Raise ValueError for a `module:function` of your own that is not there; nothing is built."""
    if is_own(name) and name not in _entry_points():
        _find_own(name)


def is_simulated(name: str) -> bool:
    """Whether an environment is of this package: a simulator that renders images of any size."""
    return name.partition(":")[0] in FAMILIES


def _entry_points() -> dict[str, EntryPoint]:
    """What installed packages offer, by name."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def num_scenes(name: str) -> int | None:
    """How many scenes an environment keeps for evaluation: seeds that many apart are one scene, and demonstrations have
    scenes of their own (LIBERO). None: each seed is another scene, in demonstrations as in evaluation."""
    family = name.partition(":")[0]
    return FAMILIES[family].num_scenes if family in FAMILIES else None


def has_expert(name: str) -> bool:
    """Whether a scripted expert can do the environment's task; those of your own have none."""
    family, _, task = name.partition(":")
    return family in FAMILIES and task in FAMILIES[family].demonstrated


def _own(name: str, cameras: tuple[str, ...] | None) -> Environment | None:
    """The environment of an entry point, a Gymnasium id or `module:function`; None if the name is none of them."""
    if (entry := _entry_points().get(name)) is not None:
        return _made(name, entry.load(), cameras=cameras)
    if (make := _find_own(name)) is not None:
        return _made(name, make, cameras=cameras)
    if not GYM_ID.search(name):
        return None
    try:
        from video2act.envs.gym import gymnasium, make_gym
    except ImportError:
        return None
    known = (name, name.rpartition(":")[2])
    return make_gym(name, cameras) if any(each in gymnasium.registry for each in known) else None


def _find_own(name: str) -> Callable[..., Any] | None:
    """The function of `module:function`; None if the name has no colon, or is a Gymnasium id with a module. Raises
    ValueError: there is no such module or function."""
    module, colon, function = name.partition(":")
    if not colon:
        return None
    if module.startswith(".") or module.endswith(".py") or "/" in module:
        folder, own = os.path.split(module)
        where = f" in the folder {folder}" if folder not in ("", ".") else ""
        remedy = f"name a module, as Python imports it{where}: {own.removesuffix('.py')}:{function}"
        raise ValueError(f"{name}: {module!r} is a path; {remedy}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        make = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name and module.partition(".")[0] != error.name.partition(".")[0]:
            raise
        near = get_close_matches(module, [*FAMILIES, *(file.stem for file in Path().glob("*.py"))], n=1)
        hint = f"; did you mean {near[0]}:{function}?" if near else ""
        raise ValueError(f"{name}: there is no module {module!r}, here or among the installed ones{hint}") from error
    if callable(make):
        return make
    if not re.search(r"-v\d+$", name):
        raise ValueError(f"{name}: the module {module!r} has no function {function!r}")
    return None


def _made(name: str, make: Callable[..., Any], *, cameras: tuple[str, ...] | None) -> Environment:
    environment = make(cameras=cameras) if "cameras" in inspect.signature(make).parameters else make()
    if not isinstance(environment, Environment):
        raise ValueError(
            f"{name} returned a {type(environment).__name__}, not an Environment (spec, reset, step, close); "
            "for Gymnasium's, return GymEnvironment(environment, GymMapping(...))"
        )
    return environment


def make_expert(environment: Environment) -> Expert:
    """The scripted demonstrator of an environment."""
    for family in FAMILIES.values():
        if isinstance(environment, family.environment):
            return family.expert(environment)
    *others, last = (family.environment.__name__ for family in FAMILIES.values())
    raise ValueError(
        f"no expert for {environment.spec.name!r} ({type(environment).__name__}); {', '.join(others)} and {last} have "
        "one"
    )
