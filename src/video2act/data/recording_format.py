"""What is recorded, what a dataset declares of it, and whether the two agree: checked before anything is encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from video2act.data.lerobot_format import (
    ACTION,
    DEFAULT_FEATURES,
    IMAGES,
    MAX_LETTERS,
    STATE,
    TEXT,
    DatasetInfo,
    Feature,
    arrow_type,
)
from video2act.data.pictures import MAX_PIXELS
from video2act.data.video_file import CODEC, PIXEL_FORMAT


class MismatchError(ValueError):
    """An episode of another robot, or recorded otherwise, than the dataset that it is added to."""


@dataclass(frozen=True)
class Episode:
    """What was recorded, in raw units: `state[k]` and the frames are what the robot saw when it took `action[k]`."""

    frames: Mapping[str, UInt8[np.ndarray, "t _h _w 3"]]
    """camera -> RGB"""
    state: Float[np.ndarray, "t s"]
    action: Float[np.ndarray, "t a"] | None
    """None in a dataset of videos only"""
    instruction: str | Sequence[str]
    """one for the episode, or one per frame, as `EpisodeData` has them"""
    seed: int | None = None
    """what the environment was reset with"""
    environment: str | None = None
    """its name, in a dataset of several"""
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    """columns of the dataset's own, one row per frame"""
    seen: tuple[str, ...] = ()
    """other sentences for the same task, to train on"""
    unseen: tuple[str, ...] = ()
    """sentences kept for evaluation"""

    @property
    def instructions(self) -> tuple[str, ...]:
        """one per frame"""
        one = self.instruction
        return (one,) * len(self.state) if isinstance(one, str) else tuple(one)


def describe_features(
    fps: int,
    sizes: Mapping[str, tuple[int, int]],
    *,
    state_names: tuple[str, ...],
    action_names: tuple[str, ...],
    extra: Mapping[str, Feature],
    storage: Literal["video", "image"],
) -> dict[str, Feature]:
    """The features of `info.json`. Raises ValueError: a camera or an extra column that cannot be stored, or has the
    name of another."""
    for camera, (h, w) in sizes.items():
        _check_camera(camera)
        if storage == "image" and h * w > MAX_PIXELS:
            raise ValueError(f"camera {camera!r} has {h} x {w} px; images have at most {MAX_PIXELS} px: store a video")
    vectors = {STATE: state_names, ACTION: action_names}
    features = {key: Feature("float32", (len(names),), names) for key, names in vectors.items() if names}
    for camera, (h, w) in sizes.items():
        video = {
            "video.height": h,
            "video.width": w,
            "video.codec": CODEC,
            "video.pix_fmt": PIXEL_FORMAT,
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        }
        axes = ("height", "width", "channels")
        features[IMAGES + camera] = Feature(storage, (h, w, 3), axes, video if storage == "video" else None)
    for name, feature in extra.items():
        if name in {*features, *DEFAULT_FEATURES, STATE, ACTION} or "/" in name:
            raise ValueError(f"a column may not be named {name!r}: it has a use, or holds a slash; choose another name")
        try:
            arrow_type(feature)
        except ValueError as error:
            raise ValueError(f"the column {name!r} cannot be stored: {error}") from error
    return features | dict(extra) | DEFAULT_FEATURES


def _check_camera(name: str) -> None:
    """A camera's name becomes a folder's name, and a column's, which readers shorten."""
    if not name.strip() or name.startswith(".") or any(letter in name for letter in "/\\\0"):
        remedy = "a folder will have this name; use letters, digits, _ and -"
        raise ValueError(f"a camera may not be named {name!r}: {remedy}")
    if "@" in name:
        raise ValueError(f"a camera may not be named {name!r}: head@1 is what head saw a step ago; leave the @ out")
    if len(f"{IMAGES}{name}".encode()) > MAX_LETTERS:
        most = MAX_LETTERS - len(IMAGES)
        raise ValueError(
            f"a camera's name may have {most} bytes, {name[:20]!r}... has {len(name.encode())}; shorten it"
        )
    if name.startswith("observation."):
        raise ValueError(f"a camera may not be named {name!r}: call it {name.split('.')[-1]!r}, the rest is added")


def check_episode(episode: Episode, info: DatasetInfo) -> None:
    """Raise ValueError where an episode cannot be stored, MismatchError where it does not fit the dataset."""
    vectors = {STATE: ("state", episode.state)}
    if episode.action is not None:
        vectors[ACTION] = ("action", episode.action)
    for name, values in vectors.values():
        if values.ndim != 2:
            raise ValueError(f"{name} must be a table, one row per frame, got the shape {values.shape}")
    length, num_instructions = len(episode.state), len(episode.instructions)
    if length == 0:
        raise ValueError("an episode needs at least one frame")
    if num_instructions != length:
        raise ValueError(f"the episode has {length} states but {num_instructions} instructions; give one, or one each")
    for sentence in dict.fromkeys((*episode.instructions, *episode.seen, *episode.unseen)):
        if not sentence.strip():
            raise ValueError(f"an episode needs a sentence that says its task, got {sentence!r}")
    _check_frames(episode, info, length=length)
    for key in (STATE, ACTION):
        name, values = vectors.get(key, ("action", np.zeros((length, 0))))
        expected = info.features[key].size if key in info.features else 0
        if values.shape[1] != expected:
            raise MismatchError(f"the dataset has {expected} numbers per {name}, the episode {values.shape[1]}")
    if set(episode.extra) != set(info.extra):
        ours, theirs = (", ".join(sorted(names)) or "none" for names in (info.extra, episode.extra))
        raise MismatchError(f"the dataset has the extra columns {ours}, the episode {theirs}")
    for name, values in (*vectors.values(), *episode.extra.items()):
        if len(values) != length:
            raise ValueError(f"the episode has {length} states but {len(values)} {name}s")
    for name, values in vectors.values():
        _check_values(name, values, dtype="float32")
    for name, values in episode.extra.items():
        _check_column(name, values, feature=info.extra[name], length=length)


def _check_frames(episode: Episode, info: DatasetInfo, *, length: int) -> None:
    for camera, key in info.cameras.items():
        if camera not in episode.frames:
            found = ", ".join(episode.frames) or "none"
            raise MismatchError(f"the dataset has camera {camera!r}, the episode only {found}")
        frames, expected = episode.frames[camera], (length, *info.features[key].shape)
        if frames.shape != expected:
            raise MismatchError(f"camera {camera!r}: expected frames of shape {expected}, got {frames.shape}")
        if frames.dtype != np.uint8:
            raise ValueError(f"camera {camera!r}: expected whole numbers from 0 to 255 (uint8), got {frames.dtype}")
    if more := [camera for camera in episode.frames if camera not in info.cameras]:
        found = f"the episode has camera {more[0]!r}, the dataset only {', '.join(info.cameras) or 'none'}"
        raise MismatchError(f"{found}; leave it out, or begin a dataset with it")


def _check_column(name: str, values: np.ndarray, *, feature: Feature, length: int) -> None:
    """Whether a column of the dataset's own is what was declared."""
    expected = (length, *feature.shape)
    if values.shape != expected and not (feature.shape == (1,) and values.shape == (length,)):
        raise ValueError(f"{name}: expected the shape {expected}, one row per frame, got {values.shape}")
    if feature.dtype in TEXT:
        if values.dtype.kind != "U" and not all(isinstance(text, str) for text in values.ravel()):
            raise ValueError(f"{name}: expected texts, got {values.dtype}")
        return
    if not np.can_cast(values.dtype, feature.dtype, "same_kind"):
        raise ValueError(f"{name} was declared as {feature.dtype}, got {values.dtype}, which would lose information")
    _check_values(name, values, dtype=feature.dtype)


def _check_values(name: str, values: np.ndarray, *, dtype: str) -> None:
    """Whether all are numbers, also as they will be stored."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(dtype)
    is_bad = ~np.isfinite(stored) if stored.dtype.kind == "f" else stored != values
    if not is_bad.any():
        return
    place = np.argwhere(is_bad)[0].tolist()
    dimension, value = f"[{place[1]}]" if len(place) > 1 else "", values[tuple(place)]
    where = f"{name}{dimension} of frame {place[0]} is {value}"
    if values.dtype.kind == "f" and not np.isfinite(value):
        raise ValueError(f"{where}; an episode holds finite numbers only")
    raise ValueError(f"{where}, too large for {dtype}, in which it is stored")
