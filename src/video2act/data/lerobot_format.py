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
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import pyarrow as pa

CODEBASE_VERSION = "v3.0"
INFO_PATH = Path("meta/info.json")
STATS_PATH = Path("meta/stats.json")
TASKS_PATH = Path("meta/tasks.parquet")
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
CHUNKS_SIZE = 1000
"""files in a chunk folder"""

STATE = "observation.state"
ACTION = "action"
IMAGES = "observation.images."


class DatasetError(ValueError):
    """A dataset on disk that cannot be used as it is: which file, what is wrong, what to do."""


@dataclass(frozen=True)
class Feature:
    """One column, or one video, as `info.json` declares it."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    video: dict[str, Any] | None = None
    """of videos: codec, pixel format and rate, under LeRobot's `video.*` keys"""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, whether declared (h, w, c) or (c, h, w)."""
        h, w = self.shape[1:] if self.shape[-1] not in (1, 3, 4) and self.shape[0] in (1, 3, 4) else self.shape[:2]
        return h, w

    @property
    def size(self) -> int:
        """Numbers in a row of the column."""
        return prod(self.shape)

    @property
    def is_camera(self) -> bool:
        """Whether it holds colour pictures. Depth, which LeRobot packs into videos too, is left to who knows its
        units."""
        is_depth = bool((self.video or {}).get("is_depth_map") or (self.video or {}).get("video.is_depth_map"))
        return self.dtype in ("video", "image") and not is_depth

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

    @property
    def cameras(self) -> dict[str, str]:
        """camera -> feature that holds its pictures."""
        return {
            key.removeprefix(IMAGES).removeprefix("observation."): key
            for key, feature in self.features.items()
            if feature.is_camera
        }

    @property
    def videos(self) -> dict[str, str]:
        """Those of `cameras` that are video files; the others are images in the data files."""
        return {camera: key for camera, key in self.cameras.items() if self.features[key].dtype == "video"}

    def camera_rates(self) -> dict[str, float]:
        """camera -> frames per second that its feature declares; the dataset's own where it declares none."""
        videos = {camera: self.features[key].video or {} for camera, key in self.cameras.items()}
        return {camera: float(video.get("video.fps", self.fps)) for camera, video in videos.items()}

    @property
    def extra(self) -> dict[str, Feature]:
        """Columns beyond state, action and those that every dataset has."""
        known = {STATE, ACTION, *DEFAULT_FEATURES}
        return {k: f for k, f in self.features.items() if k not in known and f.dtype not in ("video", "image")}

    @property
    def state_names(self) -> tuple[str, ...]:
        return _names(self.features.get(STATE), "state")

    @property
    def action_names(self) -> tuple[str, ...]:
        """Empty for a dataset without actions: videos only."""
        return _names(self.features.get(ACTION), "action")

    def data_file(self, chunk_index: int, file_index: int) -> Path:
        return Path(self.data_path.format(chunk_index=chunk_index, file_index=file_index))

    def video_file(self, feature: str, chunk_index: int, *, file_index: int) -> Path:
        if self.video_path is None:
            raise DatasetError(f"{INFO_PATH} declares the video {feature!r} but no video_path; the dataset is damaged")
        return Path(self.video_path.format(video_key=feature, chunk_index=chunk_index, file_index=file_index))

    def to_json(self) -> str:
        fields = {
            "codebase_version": CODEBASE_VERSION,
            "robot_type": self.robot,
            "total_episodes": self.total_episodes,
            "total_frames": self.total_frames,
            "total_tasks": self.total_tasks,
            "chunks_size": self.chunks_size,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{self.total_episodes}"},
            "data_path": self.data_path,
            "video_path": self.video_path,
            "features": {key: feature.to_json() for key, feature in self.features.items()},
        }
        return json.dumps(fields, indent=4) + "\n"


def load_info(root: Path) -> DatasetInfo:
    """Read `meta/info.json`.

    Raises:
        FileNotFoundError: no folder, or not a LeRobot dataset.
        DatasetError: an older version, or a damaged file.
    """
    path = root / INFO_PATH
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; expected a dataset, which holds {INFO_PATH}")
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:5]) or "nothing"
        raise FileNotFoundError(f"{root} is not a LeRobot dataset: it has no {INFO_PATH} (found: {found})")
    try:
        fields = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} is not valid json ({error}); restore it from a copy or record the dataset again"
        ) from error
    if not isinstance(fields, dict) or "codebase_version" not in fields:
        raise DatasetError(f"{path} names no codebase_version; it is not the description of a LeRobot dataset")
    version = str(fields["codebase_version"])
    if re.match(r"v?([4-9]|\d\d)", version):
        raise DatasetError(
            f"{path}: this dataset is LeRobotDataset {version}, newer than {CODEBASE_VERSION}, the last one known "
            "here; update "
            "video2act, or write the dataset with a LeRobot of 0.4 to 0.6"
        )
    if not version.startswith("v3."):
        raise DatasetError(
            f"{path}: this dataset is LeRobotDataset {version}, expected {CODEBASE_VERSION}; convert it once with "
            "LeRobot's "
            "convert_dataset_v21_to_v30.py (python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=..., "
            "in LeRobot "
            "before 0.5 lerobot.datasets.v30.convert_dataset_v21_to_v30)"
        )
    try:
        info = _parse(fields)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise DatasetError(f"{path}: {what}; restore the file from a copy or record the dataset again") from error
    missing = [name for name in DEFAULT_FEATURES if name not in info.features]
    if missing:
        raise DatasetError(
            f"{path}: features lack {', '.join(missing)}, which every v3.0 dataset has; the file is damaged"
        )
    return info


def arrow_type(feature: Feature) -> pa.DataType:
    """How a column is stored so that `datasets` reads it without a cast: a scalar for shape (1,), else a list of
    fixed size."""
    scalar = pa.type_for_alias(feature.dtype)
    if len(feature.shape) != 1:
        raise ValueError(
            f"columns of other than one axis are read but not written, got the shape {feature.shape}; flatten it"
        )
    size = feature.shape[0]
    return scalar if size == 1 else pa.list_(scalar, size)


def _parse(fields: dict[str, Any]) -> DatasetInfo:
    fps = _rate(fields["fps"], "fps")
    if fps != round(fps):
        raise ValueError(f"LeRobotDataset v3.0 stores a whole number of frames per second, got fps={fps:g}")
    counts = {
        name: _count(fields[name], name) for name in ("total_episodes", "total_frames", "total_tasks", "chunks_size")
    }
    if counts["chunks_size"] < 1:
        raise ValueError(f"chunks_size must be at least 1, got {counts['chunks_size']}")
    video_path = fields["video_path"]
    return DatasetInfo(
        robot=str(fields.get("robot_type") or "unknown"),
        fps=round(fps),
        features={key: _parse_feature(key, value) for key, value in fields["features"].items()},
        data_path=_template(fields["data_path"], "data_path"),
        video_path=None if video_path is None else _template(video_path, "video_path"),
        **counts,
    )


def _parse_feature(key: str, fields: dict[str, Any]) -> Feature:
    names = fields.get("names")
    if isinstance(names, dict):
        # some robots group their motors: {"motors": ["shoulder", ...]}
        groups = list(names.values())
        names = groups[0] if len(groups) == 1 and isinstance(groups[0], list) else list(names)
    dtype, shape = str(fields["dtype"]), tuple(fields["shape"])
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"the shape of {key} must be whole numbers above 0, got {list(shape)}")
    if dtype in ("video", "image") and len(shape) != 3:
        raise ValueError(f"the shape of {key} must be height, width and channels, got {list(shape)}")
    video = fields.get("info") or fields.get("video_info") or None
    if video is not None and not isinstance(video, dict):
        raise ValueError(f"the info of {key} must be a table of names and values, got {video!r}")
    if video and "video.fps" in video:
        _rate(video["video.fps"], f"video.fps of {key}")
    return Feature(dtype, shape, None if names is None else tuple(map(str, names)), video)


def _rate(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive, got {value:g}")
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number of 0 or more, got {value!r}")
    return value


def _template(value: Any, name: str) -> str:
    try:
        value.format(video_key="camera", chunk_index=0, file_index=0)
    except (AttributeError, LookupError, ValueError, TypeError) as error:
        raise ValueError(
            f"{name} must be a path with the places {{chunk_index}}, {{file_index}} and, of videos, "
            f"{{video_key}}, got {value!r} "
            f"({error})"
        ) from error
    return value


def _names(feature: Feature | None, word: str) -> tuple[str, ...]:
    if feature is None:
        return ()
    if feature.names is not None and len(feature.names) == feature.size:
        return feature.names
    return tuple(f"{word}_{i}" for i in range(feature.size))
