"""The messages of clients, checked as a whole before anything is done with them.

To a policy, a message is an observation with openpi's keys: `images/<camera>` (or `images`, a map), `state`, `prompt`;
optionally `time` (seconds, the robot's monotonic clock), `reset` (a new episode begins with this observation) and
`plan` (False: observe only). `{"plan": True}` alone asks for a plan on the last observation. To System 2 alone, a
message is a clip per stream: `clips`, `prompt`, `time`, `episode`.

Unknown keys are an error: a misspelt `time` would be lost.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from video2act.clips import to_pixels
from video2act.config.checks import shown
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.types import Observation, Video

PREFIX = "images/"
OBSERVATION_KEYS = ("images", "state", "prompt", "time", "reset", "plan")
CLIP_KEYS = ("clips", "prompt", "time", "episode")


@dataclass(frozen=True)
class Observed:
    """An observation as it was sent."""

    images: dict[str, np.ndarray]
    state: np.ndarray
    prompt: str
    time: float | None
    """None: the client has no clock, and the server's is used"""
    is_reset: bool
    wants_plan: bool

    def at(self, time: float) -> Observation:
        return Observation(self.images, self.state, self.prompt, time)


@dataclass(frozen=True)
class Clips:
    """The clips of one refresh of System 2."""

    videos: dict[str, Video]
    prompt: str
    time: float
    episode: int


def is_plan_request(message: Any) -> bool:
    """Whether a message asks for a plan on the last observation."""
    return isinstance(message, dict) and message.keys() == {"plan"} and message["plan"] is True


def read_observation(message: Any, contract: Contract) -> Observed:
    """Check an observation against the contract.

    Raises:
        MessageError: a key is missing, unknown or doubled, or a value has a wrong type, dtype, shape or range.
    """
    allowed = (*(f"{PREFIX}{camera}" for camera in contract.cameras), *OBSERVATION_KEYS)
    fields = _fields(message, allowed)
    images = _images(fields)
    _only(fields, allowed)
    for camera in contract.cameras:
        if camera not in images:
            raise MessageError(
                f"camera {camera!r} is missing: the policy needs {', '.join(contract.cameras)}; "
                f"the message has {', '.join(sorted(str(name)[:60] for name in images)) or 'no image'}"
            )
        image = _uint8(images[camera], f"camera {camera!r}", shape=("height", "width", 3))
        contract.image_rules[camera].check(camera, image.shape[0], width=image.shape[1])
    return Observed(
        images={camera: images[camera] for camera in contract.cameras},
        state=_state(fields, contract.state_dim),
        prompt=_prompt(fields, contract.max_prompt_bytes),
        time=_time(fields["time"]) if fields.get("time") is not None else None,
        is_reset=_flag(fields, "reset", default=False),
        wants_plan=_flag(fields, "plan", default=True),
    )


def read_clips(message: Any, contract: Contract) -> Clips:
    """Check clips against the contract. Raises MessageError as `read_observation` does."""
    fields = _fields(message, CLIP_KEYS)
    _only(fields, CLIP_KEYS)
    clips = fields.get("clips")
    if not isinstance(clips, dict) or clips.keys() != contract.streams.keys():
        found = ", ".join(map(shown, clips)) if isinstance(clips, dict) else type(clips).__name__
        raise MessageError(
            f"'clips' must hold one clip per stream: {', '.join(contract.streams)}; got {found or 'none'}"
        )
    videos = {}
    for name, shape in contract.streams.items():
        frames = _uint8(
            clips[name], f"the clip of stream {name!r}", shape=(shape.num_frames, shape.height, shape.width, 3)
        )
        videos[name] = to_pixels(frames, 1 / contract.period_s / shape.stride)
    episode = fields.get("episode")
    if type(episode) is not int or episode < 0:
        raise MessageError(f"'episode' must be a number of 0 or more, got {describe(episode)}")
    return Clips(videos, _prompt(fields, contract.max_prompt_bytes), _time(fields.get("time")), episode)


def _fields(message: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise MessageError(f"a message is a map with {', '.join(allowed)}; got {describe(message)}")
    unknown = [key for key in message if not isinstance(key, str)]
    if unknown:
        raise MessageError(f"the keys of a message are strings, got {shown(unknown[0])}")
    return dict(message)


def _only(fields: dict[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = [key for key in fields if key not in allowed]
    if unknown:
        raise MessageError(
            f"unknown in a message: {', '.join(map(shown, unknown[:4]))}; it may hold {', '.join(allowed)}"
        )


def _images(fields: dict[str, Any]) -> dict[str, Any]:
    """Take the images out of a message, nested or not."""
    nested = fields.pop("images", None)
    if nested is not None and not isinstance(nested, dict):
        raise MessageError(f"'images' must be a map from camera to image, got {describe(nested)}")
    images: dict[str, Any] = dict(nested or {})
    for key in [key for key in fields if key.startswith(PREFIX)]:
        camera = key.removeprefix(PREFIX)
        if camera in images:
            raise MessageError(f"camera {shown(camera)} is there twice, in 'images' and with {PREFIX!r} before it")
        images[camera] = fields.pop(key)
    return images


def _uint8(value: Any, what: str, *, shape: tuple[int | str, ...]) -> np.ndarray:
    """An array of bytes of this shape; a name in place of a size stands for any size but 0."""
    wanted = f"uint8 [{' '.join(map(str, shape))}]"
    if not isinstance(value, np.ndarray):
        raise MessageError(f"{what} must be an array, {wanted}; got {describe(value)}")
    fits = value.ndim == len(shape) and all(
        size > 0 if isinstance(wish, str) else size == wish for size, wish in zip(value.shape, shape, strict=True)
    )
    if value.dtype != np.uint8 or not fits:
        raise MessageError(f"{what} must be {wanted}, got {value.dtype} {list(value.shape)}")
    return value


def _state(fields: dict[str, Any], size: int) -> np.ndarray:
    if "state" not in fields:
        raise MessageError(f"'state' is missing: {size} numbers")
    value = fields["state"]
    if isinstance(value, list) and all(type(number) in (int, float) for number in value):
        value = np.array(value, np.float64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
        raise MessageError(f"'state' must be an array of {size} numbers, got {describe(value)}")
    if value.shape != (size,):
        raise MessageError(f"'state' must be {size} numbers, as in training; got an array of shape {list(value.shape)}")
    with np.errstate(over="ignore"):
        state = value.astype(np.float32)
    if not np.isfinite(state).all():
        place = int(np.argmin(np.isfinite(state)))
        raise MessageError(f"'state' must be finite, but number {place} is {value[place]}")
    return state


def _prompt(fields: dict[str, Any], max_bytes: int) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, np.ndarray | np.generic) or not isinstance(prompt, str):
        raise MessageError(f"'prompt' must be a string, the task of the robot; got {describe(prompt)}")
    num_bytes = len(prompt.encode())
    if not prompt.strip() or num_bytes > max_bytes:
        raise MessageError(f"'prompt' must have 1 to {max_bytes} bytes, for the policy's text encoder; got {num_bytes}")
    return prompt


def _time(value: Any) -> float:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    # beyond 2**53 a float no longer distinguishes two seconds
    if not is_number or not math.isfinite(value) or abs(value) > 2**53:
        raise MessageError(f"'time' must be a number, seconds on the robot's monotonic clock; got {describe(value)}")
    return float(value)


def _flag(fields: dict[str, Any], name: str, *, default: bool) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool | np.bool_):
        raise MessageError(f"{name!r} must be true or false, got {describe(value)}")
    return bool(value)


def describe(value: Any) -> str:
    """A value for an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    if isinstance(value, bool | int | float | np.generic):
        return f"{type(value).__name__} {value}"[:80]
    return type(value).__name__
