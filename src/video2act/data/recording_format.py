"""What is recorded, what a dataset declares of it, and whether the two agree: checked before anything is encoded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from video2act.data.lerobot_format import ACTION, DEFAULT_FEATURES, IMAGES, STATE, DatasetInfo, Feature, arrow_type
from video2act.data.lerobot_rows import EpisodeFacts
from video2act.data.video_file import CODEC, PIXEL_FORMAT


@dataclass(frozen=True)
class Episode:
    """What was recorded, in raw units: `state[k]` and the frames are what the robot saw when it took `action[k]`."""

    frames: Mapping[str, UInt8[np.ndarray, "t _h _w 3"]]
    """camera -> RGB"""
    state: Float[np.ndarray, "t s"]
    action: Float[np.ndarray, "t a"] | None
    """None in a dataset of videos only"""
    instruction: str
    seed: int | None = None
    """what the environment was reset with"""
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    """columns of the dataset's own, one row per frame"""
    seen: tuple[str, ...] = ()
    """other sentences for the same task, to train on"""
    unseen: tuple[str, ...] = ()
    """sentences kept for evaluation"""

    @property
    def facts(self) -> EpisodeFacts:
        return EpisodeFacts(self.instruction, self.seed, self.seen, self.unseen)


def describe_features(
    fps: int,
    sizes: Mapping[str, tuple[int, int]],
    state_names: tuple[str, ...],
    action_names: tuple[str, ...],
    extra: Mapping[str, Feature],
    storage: Literal["video", "image"],
) -> dict[str, Feature]:
    """The features of `info.json`.

    Raises:
        ValueError: an extra column that cannot be stored, or has the name of another.
    """
    vectors = {STATE: state_names, ACTION: action_names}
    features = {key: Feature("float32", (len(names),), names) for key, names in vectors.items() if names}
    for camera, (h, w) in sizes.items():
        features[IMAGES + camera] = Feature(
            storage, (h, w, 3), ("height", "width", "channels"), _video(fps, h, w) if storage == "video" else None
        )
    for name, feature in extra.items():
        if name in features or name in DEFAULT_FEATURES or "/" in name:
            raise ValueError(f"a column may not be named {name!r}: it exists already, or holds a slash; choose another name")
        try:
            arrow_type(feature)
        except ValueError as error:
            raise ValueError(f"the column {name!r} cannot be stored: {error}") from error
    return features | dict(extra) | DEFAULT_FEATURES


def _video(fps: int, height: int, width: int) -> dict[str, object]:
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": PIXEL_FORMAT,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }


def check_episode(episode: Episode, info: DatasetInfo) -> None:
    """Raise ValueError where an episode does not fit the dataset: a camera, a column, a size, a length, a number."""
    length = len(episode.state)
    if length == 0:
        raise ValueError("an episode needs at least one frame")
    for camera, key in info.cameras.items():
        if camera not in episode.frames:
            raise ValueError(f"the dataset has camera {camera!r}, the episode only {', '.join(episode.frames) or 'none'}")
        expected = (length, *info.features[key].shape)
        if episode.frames[camera].shape != expected:
            raise ValueError(f"camera {camera!r}: expected frames of shape {expected}, got {episode.frames[camera].shape}")
    dims = {
        name: info.features[key].shape[0] if key in info.features else 0 for name, key in (("state", STATE), ("action", ACTION))
    }
    action_dim = 0 if episode.action is None else episode.action.shape[1]
    for name, got in (("state", episode.state.shape[1]), ("action", action_dim)):
        if got != dims[name]:
            raise ValueError(f"the dataset has {dims[name]} numbers per {name}, the episode {got}")
    if set(episode.extra) != set(info.extra):
        listed = (", ".join(sorted(names)) or "none" for names in (info.extra, episode.extra))
        raise ValueError("the dataset has the extra columns {}, the episode {}".format(*listed))
    for name, values in (("state", episode.state), ("action", episode.action), *episode.extra.items()):
        if values is not None and len(values) != length:
            raise ValueError(f"the episode has {length} states but {len(values)} {name}s")
        if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
            place = np.argwhere(~np.isfinite(values))[0].tolist()
            dimension = f"[{place[1]}]" if len(place) > 1 else ""
            raise ValueError(
                f"{name}{dimension} of frame {place[0]} is {values[tuple(place)]}; an episode holds finite numbers only"
            )
