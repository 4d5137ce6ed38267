"""Reads demonstrations of RoboTwin 2.0, as its simulator records them and as the released Video2Act code prepares them.

    raw         TASK/CONFIG/data/episode7.hdf5          TASK/CONFIG/instructions/episode7.json, TASK/CONFIG/seed.txt
    processed   TASK.../episode_7/episode_7.hdf5        TASK.../episode_7/instructions.json, or another folder

Both hold JPEG with red and blue exchanged: arrays in the order R, G, B were given to an encoder that takes B, G, R.
This is corrected here. In a raw file the joints of one moment are the state, and those of the next moment its action;
so it gives one step less than it has moments, as does the processed file made of it.
"""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from video2act.config.nearby import nearby
from video2act.config.plain import read_json
from video2act.data.dataset_files import DatasetError
from video2act.data.pictures import decode_picture
from video2act.data.recording_format import Episode
from video2act.extras import extra

RAW_CAMERAS = {
    "head_camera": "cam_high",
    "right_camera": "cam_right_wrist",
    "left_camera": "cam_left_wrist",
    "front_camera": "cam_front",
}
"""of raw files -> their names in processed files, which are kept"""

MAX_NUMBERS, MAX_PICTURE_BYTES = 10**8, 2**26
"""in a table of joints, and in an encoded picture"""

FOREIGN, EMBED = "it is no RoboTwin episode", "copy it into this one"
GENERATE, COPY_OR_REMOVE = "generate the instructions again", "copy it again or remove it"

Order = Literal["bgr", "rgb"]


@dataclass(frozen=True)
class Source:
    """One recorded episode."""

    file: Path
    name: str
    """relative to what was converted"""
    instructions: Path | None
    """json with the sentences `seen` and `unseen`; None if there is none"""
    seed: int | None
    """of the simulated scene"""


def find_episodes(folder: Path | str, instructions: Path | str | None = None) -> list[Source]:
    """All episodes below a folder: of a task's configuration, of a task, or of many; by path, then by number.

    Args:
        instructions: folder with `episodeN.json`, for processed files that come without.
    Raises:
        FileNotFoundError: there is no such folder, or no episode in it.
    """
    folder, instructions = Path(folder), None if instructions is None else Path(instructions)
    if not folder.is_dir():
        expected = "expected RoboTwin's TASK/CONFIG, which holds data/episode0.hdf5"
        raise FileNotFoundError(f"{folder} is not a folder{nearby(folder)}; {expected}")
    if instructions is not None and not instructions.is_dir():
        expected = "expected one that holds episode0.json (--instructions)"
        raise FileNotFoundError(f"{instructions} is not a folder{nearby(instructions)}; {expected}")
    files = [file for file in folder.rglob("*.hdf5") if re.fullmatch(r"episode_?\d+", file.stem)]
    if not files:
        raise FileNotFoundError(f"{folder} holds no episodeN.hdf5 (raw) and no episode_N/episode_N.hdf5 (processed)")
    files.sort(key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(file))])
    return [_source(folder, file, instructions=instructions) for file in files]


def _source(folder: Path, file: Path, *, instructions: Path | None) -> Source:
    number = int(re.sub(r"\D", "", file.stem))
    beside = [file.parent.parent / "instructions" / f"episode{number}.json", file.parent / "instructions.json"]
    if instructions is not None:
        beside = [instructions / f"episode{number}.json"]
    seeds_file, seed = file.parent.parent / "seed.txt", None
    # bytes that are no text become letters that are no number
    is_there = file.parent.name == "data" and seeds_file.is_file()
    seeds = seeds_file.read_text(encoding="utf-8", errors="replace").split() if is_there else []
    if number < len(seeds):
        if not re.fullmatch(r"\d{1,18}", seeds[number]):
            problem = f"{seeds_file}: seed {number} is {seeds[number][:40]!r}, expected a whole number"
            raise DatasetError(problem, "correct or remove the file")
        seed = int(seeds[number])
    found = next((path for path in beside if path.is_file()), None)
    return Source(file, str(file.relative_to(folder)), found, seed)


def read_episode(source: Source, task: str | None = None, *, order: Order = "bgr") -> Episode:
    """One episode, in raw units: joints in radians, grippers from 0 (closed) to 1 (open).

    Args:
        task: the sentence for episodes that come without any.
        order: of the colours in the JPEG; `rgb` for files that were written correctly.
    Raises:
        FileNotFoundError: no sentence is known.
        DatasetError: the file is damaged, or lacks what it must hold; both are named.
        ImportError: h5py is not installed.
    """
    with extra("robotwin", "reading RoboTwin's files"):
        import h5py
    seen, unseen = _sentences(source, task)
    try:
        with h5py.File(source.file, "r") as file:
            is_raw = "joint_action" in file
            state, action = _raw_joints(source.file, file) if is_raw else _processed_joints(source.file, file)
            cells = _pictures(source.file, file, is_raw=is_raw)
            if not cells:
                raise DatasetError(f"{source.file} holds no camera", "record it with rgb switched on")
            for camera, pictures in cells.items():
                if len(pictures) < len(state):
                    raise DatasetError(f"{source.file}: {camera} has {len(pictures)} pictures for {len(state)} states")
            frames = {
                camera: _decode(source.file, camera, cells=pictures[: len(state)], order=order)
                for camera, pictures in cells.items()
            }
    except OSError as error:
        raise DatasetError(f"{source.file} is not a readable HDF5 file ({error})", COPY_OR_REMOVE) from error
    return Episode(frames, state, action, seen[0], source.seed, seen=seen, unseen=unseen)


def _sentences(source: Source, task: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if source.instructions is None:
        if not task:
            remedy = "name a folder with episodeN.json (--instructions), or say the task in a sentence (--task)"
            raise FileNotFoundError(f"{source.file} comes without instructions; {remedy}")
        return (task,), ()
    try:
        content = read_json(source.instructions)
    except ValueError as error:
        raise DatasetError(f"{source.instructions} is not valid json ({error})", GENERATE) from error
    if isinstance(content, dict):
        seen, unseen = content.get("seen") or content.get("instructions") or [], content.get("unseen") or []
        are_lists = isinstance(seen, list) and isinstance(unseen, list)
        sentences = [*seen, *unseen] if are_lists else [None]
        if seen and all(isinstance(sentence, str) and sentence.strip() for sentence in sentences):
            return tuple(seen), tuple(unseen)
    expected = '{"seen": [sentences], "unseen": [sentences]}'
    raise DatasetError(f"{source.instructions} must hold {expected}", GENERATE)


def _find(path: Path, file: Any, *, name: str) -> Any:
    """A group or a table of the file itself; None if there is none. Raises DatasetError: a link leads into another
    file, or the numbers lie in one."""
    node = file
    for part in name.split("/"):
        if not hasattr(node, "get") or part not in node:
            return None
        if type(node.get(part, getlink=True)).__name__ != "HardLink":
            raise DatasetError(f"{path}: {name} is a link, which may lead to another file", EMBED)
        node = node[part]
    if getattr(node, "external", None) or getattr(node, "is_virtual", False):
        raise DatasetError(f"{path}: {name} lies in another file", EMBED)
    return node


def _numbers(path: Path, file: Any, *, name: str) -> np.ndarray:
    node = _find(path, file, name=name)
    if node is None:
        raise DatasetError(f"{path} has no {name}; found {', '.join(sorted(file)) or 'nothing'}", FOREIGN)
    if not hasattr(node, "shape") or node.dtype.kind not in "fiu":
        raise DatasetError(f"{path}: {name} must be numbers, found {node}", FOREIGN)
    if len(node.shape) > 2 or node.size > MAX_NUMBERS:
        raise DatasetError(f"{path}: {name} has the shape {list(node.shape)}", FOREIGN)
    return np.asarray(node)


def _raw_joints(path: Path, file: Any) -> tuple[np.ndarray, np.ndarray]:
    parts = []
    for side in ("left", "right"):
        arm = _numbers(path, file, name=f"joint_action/{side}_arm")
        gripper = _numbers(path, file, name=f"joint_action/{side}_gripper")
        if arm.ndim != 2 or gripper.shape not in ((len(gripper),), (len(gripper), 1)):
            found = f"joint_action/{side}_arm is {list(arm.shape)} and {side}_gripper {list(gripper.shape)}"
            raise DatasetError(f"{path}: {found}; expected joints and one gripper at each moment")
        parts += [arm, gripper.reshape(len(gripper), 1)]
    if len({len(part) for part in parts}) != 1:
        raise DatasetError(f"{path}: joint_action has parts of {', '.join(str(len(part)) for part in parts)} moments")
    if parts[0].shape != parts[2].shape:
        found = f"arms of {parts[0].shape[1]} and {parts[2].shape[1]} joints"
        raise DatasetError(f"{path}: {found}; only equal ones are converted")
    joints = np.concatenate(parts, axis=1).astype(np.float32)
    if len(joints) < 2:
        raise DatasetError(f"{path} holds {len(joints)} moments; an action needs a next one")
    return joints[:-1], joints[1:]


def _processed_joints(path: Path, file: Any) -> tuple[np.ndarray, np.ndarray]:
    state, action = _numbers(path, file, name="observations/qpos"), _numbers(path, file, name="action")
    if state.shape != action.shape or state.ndim != 2:
        found = f"observations/qpos is {list(state.shape)}, action {list(action.shape)}"
        raise DatasetError(f"{path}: {found}; expected one shape")
    return state.astype(np.float32), action.astype(np.float32)


def _pictures(path: Path, file: Any, *, is_raw: bool) -> dict[str, Any]:
    """camera -> encoded pictures."""
    if is_raw:
        names = {own: f"observation/{name}/rgb" for name, own in RAW_CAMERAS.items()}
    else:
        group = _find(path, file, name="observations/images")
        names = {name: f"observations/images/{name}" for name in sorted(group or ())}
    found = {own: _find(path, file, name=name) for own, name in names.items()}
    cameras = {own: cells for own, cells in found.items() if hasattr(cells, "shape")}
    for own, cells in cameras.items():
        if not _holds_bytes(cells):
            found = f"found the shape {list(cells.shape)} of {cells.dtype}"
            raise DatasetError(f"{path}: {own} must hold an encoded picture for each moment, {found}", FOREIGN)
        if (size := cells.dtype.itemsize * prod(cells.shape[1:])) > MAX_PICTURE_BYTES:
            raise DatasetError(f"{path}: {own} has pictures of {size} bytes", FOREIGN)
    return cameras


def _holds_bytes(cells: Any) -> bool:
    """Whether each moment has bytes: equally many of them, as many as it needs, or a row of a table."""
    kind, num_axes = cells.dtype, len(cells.shape)
    if kind.kind == "O":
        return num_axes == 1 and (kind.metadata or {}).get("vlen") in (bytes, str, np.dtype(np.uint8))
    return (num_axes == 1 and kind.kind in "SV") or (num_axes == 2 and kind == np.uint8)


def _decode(path: Path, camera: str, *, cells: Any, order: Order) -> UInt8[np.ndarray, "t _h _w 3"]:
    frames: list[np.ndarray] = []
    for number, cell in enumerate(cells):
        try:
            frames.append(decode_picture(bytes(cell), size=frames[0].shape[:2] if frames else None))
        except ValueError as error:
            problem = f"{path}: picture {number} of {camera} cannot be used: {error}"
            raise DatasetError(problem, "record it again") from error
    stacked = np.stack(frames)
    return np.ascontiguousarray(stacked[..., ::-1]) if order == "bgr" else stacked
