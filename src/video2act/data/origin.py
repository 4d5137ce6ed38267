"""How a dataset was recorded: a file of our own in its `meta` folder, which LeRobot ignores.

A dataset is only continued as it was begun. What a policy must know of its actions and pictures, and LeRobot's
`info.json` has no field for, stands here too: which actions are relative, and the orientation of the pictures.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from video2act.config import Orientation
from video2act.config.checks import check_relative_actions, shown
from video2act.config.frames import VisualShiftName
from video2act.config.plain import parse_json, read_json
from video2act.data.dataset_files import DatasetError
from video2act.data.lerobot_format import ACTION, DatasetInfo

ORIGIN_PATH = Path("meta/video2act.json")
RELATIVE = "relative_actions"
LIKE_CHANGES = re.compile(
    r"^d(x|y|z|rx|ry|rz|roll|pitch|yaw|theta)$|(^|[_. ])(delta|relative|vel|velocity|speed)([_. ]|\d|$)"
)


def load_origin(root: Path | str) -> dict[str, Any]:
    """How the dataset was recorded, as given to `create`; empty if this project did not record it. Raises DatasetError:
    the file is damaged."""
    path = Path(root) / ORIGIN_PATH
    if not path.is_file():
        return {}
    remedy = "restore it or record into a new folder"
    try:
        origin = read_json(path)
    except ValueError as error:
        raise DatasetError(f"{path} is not valid json ({error})", remedy) from error
    if not isinstance(origin, dict):
        raise DatasetError(f"{path} holds no table of names and values", remedy)
    return origin


def orientation_of(origin: Mapping[str, Any], root: Path, *, info: DatasetInfo) -> Orientation:
    """The orientation of a dataset's pictures: the recorded word. A dataset without one counts as `lerobot` if its
    cameras and sizes are those of LeRobot's LIBERO.

    Raises DatasetError: another word."""
    is_form = {"image", "image2"} <= info.cameras.keys() and [len(info.state_names), len(info.action_names)] == [8, 7]
    word = origin.get("orientation", "lerobot" if is_form else "upright")
    return _known(word, get_args(Orientation), "orientation", root)


def load_visual_shift(root: Path) -> str:
    """How the recorded scenes look otherwise than usual; empty if they do not.

    Raises DatasetError: the record is no visual shift."""
    word = load_origin(root).get("visual_shift")
    return "" if word is None else _known(word, get_args(VisualShiftName), "visual_shift", root)


def _known(word: Any, words: tuple[str, ...], name: str, root: Path) -> Any:
    if word not in words:
        known = ", ".join(words)
        raise DatasetError(f"{root / ORIGIN_PATH}: {name} is {shown(word)}, known are {known}", "correct it")
    return word


def environment_of(origin: Mapping[str, Any], root: Path) -> str | None:
    """Where the episodes were recorded that name no environment of their own; None if that is not recorded.

    Raises DatasetError: the record is no name."""
    name = origin.get("environment")
    if name is not None and not isinstance(name, str):
        raise DatasetError(f"{root / ORIGIN_PATH}: environment is {shown(name)}, expected a name", "correct it")
    return name


def relative_actions_of(origin: Mapping[str, Any], root: Path, *, info: DatasetInfo) -> tuple[str, ...]:
    """Names of the actions that are changes or speeds; empty if the dataset records none. Columns of actions that were
    chosen otherwise may leave some out.

    Raises DatasetError: the record is no list of names, or names what the recorded actions do not have."""
    names, path = origin.get(RELATIVE, []), root / ORIGIN_PATH
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}: {RELATIVE} is {names!r}, expected a list of names of actions", "correct it")
    if info.action != (ACTION,):
        return tuple(name for name in names if name in info.action_names)
    try:
        check_relative_actions(names, info.action_names)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}", "correct it") from error
    return tuple(names)


def look_relative(action_names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that are usual for changes and speeds: dx, delta_yaw, vel_2."""
    return tuple(name for name in action_names if LIKE_CHANGES.search(name.lower()))


def origin_json(origin: Mapping[str, Any]) -> str:
    """The inverse of `load_origin`, as a text."""
    return json.dumps(origin, indent=2) + "\n"


def check_origin(root: Path | str, settings: Mapping[str, Any], *, made: str) -> dict[str, Any]:
    """The origin of a dataset that is to be continued.

    Args:
        made: how it was made, for the error: `recorded`.
    Raises:
        DatasetError: it was made with other settings; each difference is named.
    """
    origin = {"orientation": "upright", **load_origin(root)}
    now = parse_json(origin_json(settings))  # as they would be read again: a tuple is a list there
    changed = [f"{k} was {origin.get(k)!r}, now {value!r}" for k, value in now.items() if origin.get(k) != value]
    if changed:
        remedy = "repeat the settings, or choose a new folder"
        raise DatasetError(f"{root} was {made} otherwise: {'; '.join(changed)}", remedy)
    return origin
