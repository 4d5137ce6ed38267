"""The layout of a LeRobotDataset v3.0 on disk: `meta/info.json`, where files lie, and how columns are typed.

    meta/info.json  meta/stats.json  meta/tasks.parquet
    meta/episodes/chunk-000/file-000.parquet      one row per episode: which rows and which frames are its own
    data/chunk-000/file-000.parquet               one row per frame: everything but pixels
    videos/<feature>/chunk-000/file-000.mp4       one or several episodes per file

A *feature* is a column (`observation.state`, `action`), or a camera (`observation.images.<camera>`): a video, or
images inside the data files. Only v3.0 is read: LeRobot converts older datasets once and for all.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from video2act.config.checks import shown
from video2act.config.nearby import nearby
from video2act.config.plain import read_json
from video2act.data.dataset_files import (
    CODEBASE_VERSION,
    RESTORE,
    DatasetError,
    check_exists,
    check_template,
    film_hint,
)

INDICES = ("chunk_index", "file_index")
INFO_PATH = Path("meta/info.json")
STATS_PATH = Path("meta/stats.json")
TASKS_PATH = Path("meta/tasks.parquet")
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNKS_SIZE = 1000
"""files in a chunk folder"""
MAX_INFO_BYTES = 2**24
MAX_SIDE_PX = 2**14
MAX_NUMBERS = 10**6
"""in a row of a column"""
MAX_FEATURES, MAX_AXES, MAX_LETTERS = 1000, 8, 200
"""of a dataset, of a shape and of groups of names, and of a name"""
MAX_COUNTS = {"total_episodes": 10**6, "total_tasks": 10**6, "total_frames": 10**9, "chunks_size": 10**6}

STATE = "observation.state"
ACTION = "action"
IMAGES = "observation.images."
TEXT = ("string", "large_string")
"""dtypes of texts"""


@dataclass(frozen=True)
class Feature:
    """One column, or one video, as `info.json` declares it."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    video: dict[str, Any] | None = None
    """of videos: codec, pixel format and rate, under LeRobot's `video.*` keys"""

    @property
    def is_picture(self) -> bool:
        """Whether it is stored as a video or as images: a colour camera, or depth."""
        return self.dtype in ("video", "image")

    @property
    def is_camera(self) -> bool:
        """Whether it holds colour pictures. Depth (one channel, or marked as depth) is no camera."""
        video = self.video or {}
        is_depth = video.get("is_depth_map") or video.get("video.is_depth_map")
        is_grey = str(video.get("video.pix_fmt") or "").startswith("gray")
        return self.is_picture and len(self.shape) == 3 and self._channels in (3, 4) and not is_depth and not is_grey

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, whether declared (h, w, c) or (c, h, w)."""
        h, w = self.shape[1:] if self._is_channel_first else self.shape[:2]
        return h, w

    @property
    def size(self) -> int:
        """Numbers in a row of the column."""
        return prod(self.shape)

    @property
    def _is_channel_first(self) -> bool:
        return self.shape[-1] not in (1, 3, 4) and self.shape[0] in (1, 3, 4)

    @property
    def _channels(self) -> int:
        return self.shape[0] if self._is_channel_first else self.shape[-1]

    def to_json(self) -> dict[str, Any]:
        names = None if self.names is None else list(self.names)
        fields: dict[str, Any] = {"dtype": self.dtype, "shape": list(self.shape), "names": names}
        return fields if self.video is None else fields | {"info": self.video}


DEFAULT_FEATURES = {
    "timestamp": Feature("float32", (1,)),
    "frame_index": Feature("int64", (1,)),
    "episode_index": Feature("int64", (1,)),
    "index": Feature("int64", (1,)),
    "task_index": Feature("int64", (1,)),
}
"""columns of every LeRobotDataset, in its writer's order"""


@dataclass(frozen=True)
class DatasetInfo:
    """`meta/info.json`."""

    robot: str
    fps: int
    features: dict[str, Feature]
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    chunks_size: int = CHUNKS_SIZE
    data_path: str = DATA_PATH
    video_path: str | None = VIDEO_PATH
    state: tuple[str, ...] = ()
    """columns that are joined to the state"""
    action: tuple[str, ...] = ()
    """columns that are joined to the action; empty for a dataset of videos only"""
    recorded: dict[str, Any] = field(default_factory=dict)
    """the file as it was read: what others put into it is kept"""

    def choose(self, *, state: Sequence[str] | None = None, action: Sequence[str] | None = None) -> "DatasetInfo":
        """With other columns as state and action, in this order; none for an empty sequence. Raises ValueError: a
        column that does not exist, holds no numbers, or is named twice."""
        for option, columns in (("state", state), ("action", action)):
            for name in columns or ():
                if name not in self.columns:
                    listed = ", ".join(f"{key} {list(feature.shape)}" for key, feature in self.columns.items())
                    raise ValueError(f"--{option} {name}: no such column of numbers; choose from {listed or 'none'}")
            if columns and len(set(columns)) != len(columns):
                raise ValueError(f"--{option} names a column twice: {', '.join(columns)}; name each once")
        chosen = {"state": state, "action": action}
        return replace(self, **{name: tuple(columns) for name, columns in chosen.items() if columns is not None})

    @property
    def columns(self) -> dict[str, Feature]:
        """The columns of numbers that can be a state or an action."""
        return {k: f for k, f in self.features.items() if k not in DEFAULT_FEATURES and number_kind(f.dtype)}

    @property
    def cameras(self) -> dict[str, str]:
        """camera -> feature that holds its pictures. Where two would share a name, the second keeps its whole one. An @
        becomes _, since a policy reads `head@1` as what `head` saw a step ago."""
        found: dict[str, str] = {}
        for key, feature in self.features.items():
            if feature.is_camera:
                name = key.removeprefix(IMAGES).removeprefix("observation.").replace("@", "_")
                found[key.replace("@", "_") if name in found else name] = key
        return found

    @property
    def videos(self) -> dict[str, str]:
        """Those of `cameras` that are video files; the others are images in the data files."""
        return {camera: key for camera, key in self.cameras.items() if self.features[key].dtype == "video"}

    @property
    def depth(self) -> tuple[str, ...]:
        """Features that hold pictures and are no camera. They are not read."""
        return tuple(key for key, feature in self.features.items() if feature.is_picture and not feature.is_camera)

    def rate_faults(self) -> list[str]:
        """Cameras whose feature declares another rate than the dataset."""
        rates = {camera: (self.features[key].video or {}).get("video.fps") for camera, key in self.cameras.items()}
        return [
            f"camera {camera!r} was recorded at {rate:g} fps, but the dataset says {self.fps:g} fps; frames and "
            "actions would drift apart: encode the videos at one rate"
            for camera, rate in rates.items()
            if rate is not None and abs(rate - self.fps) > 0.01 * self.fps
        ]

    @property
    def extra(self) -> dict[str, Feature]:
        """Columns beyond state, action and those that every dataset has."""
        known = {*self.state, *self.action, *DEFAULT_FEATURES}
        return {k: f for k, f in self.features.items() if k not in known and not f.is_picture}

    @property
    def state_names(self) -> tuple[str, ...]:
        return self._names("state")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Empty for a dataset without actions."""
        return self._names("action")

    def _names(self, word: str) -> tuple[str, ...]:
        names: list[str] = []
        for key in getattr(self, word):
            feature, begin = self.features[key], len(names)
            own = feature.names if feature.names and len(feature.names) == feature.size else None
            names += own or (f"{word}_{begin + i}" for i in range(feature.size))
        return tuple(names)

    def data_file(self, chunk_index: int, file_index: int) -> Path:
        return Path(self.data_path.format(chunk_index=chunk_index, file_index=file_index))

    def video_file(self, feature: str, chunk_index: int, *, file_index: int) -> Path:
        if self.video_path is None:
            raise DatasetError(f"{INFO_PATH} declares the video {feature!r} but no video_path", RESTORE)
        return Path(self.video_path.format(video_key=feature, chunk_index=chunk_index, file_index=file_index))

    def to_json(self) -> str:
        """With what else was `recorded`. Episodes that are added belong to the split `train` if there is no other, and
        else to none."""
        counts = {name: getattr(self, name) for name in ("total_episodes", "total_frames", "total_tasks")}
        splits = self.recorded.get("splits")
        if not isinstance(splits, dict) or set(splits) <= {"train"}:
            splits = {"train": f"0:{self.total_episodes}"}
        fields = {
            "codebase_version": CODEBASE_VERSION,
            "robot_type": self.robot,
            **counts,
            "chunks_size": self.chunks_size,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": splits,
            "data_path": self.data_path,
            "video_path": self.video_path,
            "features": {key: feature.to_json() for key, feature in self.features.items()},
        }
        return json.dumps(fields | self.recorded | counts | {"splits": splits}, indent=4) + "\n"


def load_info(root: Path) -> DatasetInfo:
    """Read `meta/info.json`. Raises FileNotFoundError: no folder, or not a LeRobot dataset; DatasetError: an older
    version, or a damaged file."""
    path = root / INFO_PATH
    if not root.is_dir():
        expected = f"expected a dataset, which holds {INFO_PATH}{film_hint(root)}"
        raise FileNotFoundError(f"{root} is not a folder{nearby(root)}; {expected}")
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        problem = f"{root} is not a LeRobot dataset: it has no {INFO_PATH} (found: {found})"
        raise FileNotFoundError(f"{problem}{film_hint(root)}")
    check_exists(path)
    if path.stat().st_size > MAX_INFO_BYTES:
        raise DatasetError(f"{path} has more than {MAX_INFO_BYTES // 2**20} MiB, too much for a dataset's description")
    try:
        fields = read_json(path)
    except ValueError as error:
        raise DatasetError(f"{path} is not valid json ({error})", RESTORE) from error
    if not isinstance(fields, dict) or "codebase_version" not in fields:
        raise DatasetError(f"{path} names no codebase_version; it is not the description of a LeRobot dataset")
    version = str(fields["codebase_version"])[:40]
    this = f"{path}: this dataset is LeRobotDataset {version}"
    if re.match(r"v?([4-9]|\d\d)", version):
        problem = f"{this}, newer than {CODEBASE_VERSION}, the last version that is read"
        raise DatasetError(problem, "update video2act, or write the dataset with a LeRobot of 0.4 to 0.6")
    if not version.startswith("v3."):
        raise DatasetError(
            f"{this}, expected {CODEBASE_VERSION}",
            "convert it once with LeRobot's convert_dataset_v21_to_v30.py (python -m lerobot.scripts."
            "convert_dataset_v21_to_v30 --repo-id=..., in LeRobot before 0.5 lerobot.datasets.v30...)",
        )
    try:
        info = parse_info(fields)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problem = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{path}: {problem}", RESTORE) from error
    if missing := ", ".join(name for name in DEFAULT_FEATURES if name not in info.features):
        raise DatasetError(f"{path}: features lack {missing}, which every v3.0 dataset has", RESTORE)
    return info


def number_kind(dtype: str) -> str | None:
    """Numpy's letter for a column's kind of number: `u`, `i`, `f` or `b`; None: it holds none."""
    try:
        kind = np.dtype(dtype).kind
    except (TypeError, ValueError):
        return None
    return kind if kind in "uifb" else None


def arrow_type(feature: Feature) -> pa.DataType:
    """How a column is stored so that `datasets` reads it without a cast: a scalar for shape (1,), else a list of
    fixed size. Raises ValueError for a column that could not be read back."""
    if len(feature.shape) != 1:
        raise ValueError(f"only columns of one axis are written, got the shape {feature.shape}; flatten it")
    if feature.dtype in TEXT and feature.shape != (1,):
        raise ValueError(f"texts are written one a row, got the shape {feature.shape}; make a column of each")
    if feature.dtype not in TEXT and number_kind(feature.dtype) is None:
        kinds = f"a kind of number (float32, int64, bool, ...) or {TEXT[0]}"
        raise ValueError(f"its dtype is {feature.dtype!r}, expected {kinds}")
    scalar = pa.type_for_alias(feature.dtype)
    if feature.dtype not in TEXT and scalar != pa.from_numpy_dtype(np.dtype(feature.dtype)):
        raise ValueError(f"its dtype {feature.dtype!r} has several meanings; name it with its bits, such as float32")
    return scalar if feature.shape == (1,) else pa.list_(scalar, feature.shape[0])


def parse_info(fields: dict[str, Any]) -> DatasetInfo:
    """What `info.json` says. Raises ValueError, or what a value of another kind leads to."""
    fps = _rate(fields["fps"], "fps")
    if fps != round(fps):
        raise ValueError(f"LeRobotDataset v3.0 stores a whole number of frames per second, got fps={fps:g}")
    counts = {name: _count(fields[name], name, most=most) for name, most in MAX_COUNTS.items()}
    if counts["chunks_size"] < 1:
        raise ValueError(f"chunks_size must be at least 1, got {counts['chunks_size']}")
    if not isinstance(fields["features"], dict):
        raise ValueError(f"features must be a table, got {shown(fields['features'])}")
    for name in (robot := fields.get("robot_type") or "unknown", *fields["features"]):
        if not isinstance(name, str) or len(name) > MAX_LETTERS or not name.isprintable():
            problem = f"robot_type and the names of features must have at most {MAX_LETTERS} printable letters"
            raise ValueError(f"{problem}, got {shown(name)}")
    if (count := len(fields["features"])) > MAX_FEATURES:
        raise ValueError(f"a dataset has at most {MAX_FEATURES} features, got {count}")
    for key, value in fields["features"].items():
        if not isinstance(value, dict) or not isinstance(value.get("shape"), list):
            raise ValueError(f"the feature {key} must be a table with dtype and shape, got {shown(value)}")
    features = {key: _parse_feature(key, value) for key, value in fields["features"].items()}
    if (video_path := fields["video_path"]) is not None:
        check_template(video_path, "video_path", places=("video_key", *INDICES))
    return DatasetInfo(
        robot=robot,
        fps=round(fps),
        features=features,
        state=(STATE,) if STATE in features else (),
        action=(ACTION,) if ACTION in features else (),
        data_path=check_template(fields["data_path"], "data_path", places=INDICES),
        video_path=video_path,
        recorded=fields,
        **counts,
    )


def _parse_feature(key: str, fields: dict[str, Any]) -> Feature:
    dtype, shape = str(fields["dtype"]), tuple(fields["shape"])
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape):
        raise ValueError(f"the shape of {key} must be whole numbers above 0, got {shown(shape)}")
    if len(shape) > MAX_AXES:  # before its numbers are multiplied
        raise ValueError(f"the shape of {key} must have at most {MAX_AXES} axes, got {len(shape)}")
    video = fields.get("info") or fields.get("video_info") or None
    if video is not None and not isinstance(video, dict):
        raise ValueError(f"the info of {key} must be a table of names and values, got {shown(video)}")
    names = _flat_names(fields.get("names"))
    if wrong := next((name for name in names or () if len(name) > MAX_LETTERS or not name.isprintable()), None):
        raise ValueError(f"names of {key} must have at most {MAX_LETTERS} printable letters, got {shown(wrong)}")
    feature = Feature(dtype, shape, names, video)
    if feature.is_picture and len(shape) not in (2, 3):
        raise ValueError(f"the shape of {key} must be height, width and channels, got {shown(shape)}")
    if (max(shape) > MAX_SIDE_PX) if feature.is_picture else (feature.size > MAX_NUMBERS):
        most = f"{MAX_SIDE_PX} px a side" if feature.is_picture else f"{MAX_NUMBERS} numbers a row"
        raise ValueError(f"{key} has the shape {shown(shape)}, expected at most {most}")
    if dtype == "video" and not re.fullmatch(r"[^/.\\\0][^/\\\0]{0,199}", key):
        raise ValueError(f"a video is named {key[:60]!r}; a folder has this name: use letters, digits, . _ and -")
    for name in ("is_depth_map", "video.is_depth_map"):
        if (mark := (video or {}).get(name)) not in (None, True, False):  # any text would make a camera depth
            raise ValueError(f"{name} of {key} must be true or false, got {shown(mark)}")
    if video and video.get("video.fps") is not None:
        _rate(video["video.fps"], f"video.fps of {key}")
    return feature


def _flat_names(names: Any, depth: int = 0) -> tuple[str, ...] | None:
    """Names of a row's numbers. Some robots group them: `{"motors": ["shoulder", ...]}`, `{"left": [...], ...}`."""
    if names is None:
        return None
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, (list, dict)):
        raise ValueError(f"names must be a list, or groups of lists, got {shown(names)}")
    if depth > MAX_AXES:
        raise ValueError(f"names are in groups of groups, more than {MAX_AXES} deep")
    if isinstance(names, dict):
        groups = list(names.values())
        # without lists, the keys are the names: {"shoulder": 0, ...}
        names = groups if all(isinstance(group, (list, dict)) for group in groups) else list(names)
    parts = (_flat_names(name, depth + 1) if isinstance(name, (list, dict)) else (str(name),) for name in names)
    return tuple(name for part in parts for name in part or ())


def _rate(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive, got {value:g}")
    return float(value)


def _count(value: Any, name: str, *, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number of 0 or more, got {value!r}; at most {most} are read")
    return value
