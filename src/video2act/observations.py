"""One observation as a policy reads it, or an error that names what does not fit the policy.

The checks are the same for every engine, so they need no torch; `read_state` and `read_image` make tensors.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from video2act.config import PolicyConfig
from video2act.frames import FrameUse, fit_frames
from video2act.types import Observation, VideoCondition

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    Tensor = Any


def own_copy(observation: Observation) -> Observation:
    """The same with arrays of its own: an environment may draw its next frame into the same memory. Raises TypeError
    for a value of another type."""
    if not isinstance(observation, Observation):
        wanted = "Observation(images={camera: RGB}, state=..., instruction=..., time=...)"
        raise TypeError(f"expected an {wanted}, got a value of type {type(observation).__name__}")
    images = {
        camera: image.copy() if isinstance(image, np.ndarray) else image  # what is none is refused where it is read
        for camera, image in observation.images.items()
    }
    return replace(observation, images=images, state=np.array(observation.state))


def state_array(observation: Observation, config: PolicyConfig) -> Float[np.ndarray, "1 s"]:
    """The state in raw units. Raises ValueError for another size, or a number that is not finite."""
    state = np.asarray(observation.state, dtype=np.float32)
    if state.shape != (config.state_dim,):
        raise ValueError(f"the policy was trained on a state of {config.state_dim} numbers, got {list(state.shape)}")
    if not np.isfinite(state).all():
        raise ValueError(f"the state holds a number that is not finite: {observation.state}")
    return state[None]


def image_array(observation: Observation, camera: str, *, config: PolicyConfig) -> UInt8[np.ndarray, "1 h w 3"]:
    """An image of System 1's size. Raises ValueError for a missing camera, or a frame that does not fit."""
    size = (config.image_px, config.image_px)
    image = FrameUse("", camera, size, config.image).read(observation.images)
    return fit_frames(image[None], size, rule=config.image)


def check_time(now: float, before: float | None) -> None:
    """Raise ValueError where the time of an observation is no number, or not after that of the one before."""
    if not math.isfinite(now):
        raise ValueError(f"Observation.time is {now}; give seconds of a monotonic clock")
    if before is not None and now <= before:
        raise ValueError(
            f"the robot's clock went from {before:.6f} s to {now:.6f} s within an episode; Observation.time must rise "
            "with every control step. Use a monotonic clock, or reset the policy when an episode begins"
        )


def staleness_of(condition: VideoCondition, observation: Observation) -> float:
    """Age of the condition, seconds. Raises ValueError for one from the future."""
    staleness = observation.time - condition.observed_at
    if staleness < -1e-6:
        raise ValueError(
            f"the video condition was observed {-staleness:.3f} s after the observation it is used with "
            f"({condition.observed_at:.3f} s against {observation.time:.3f} s); their clocks differ"
        )
    return max(0.0, staleness)


def read_state(observation: Observation, config: PolicyConfig) -> Float[Tensor, "1 s"]:
    """`state_array` as a tensor."""
    import torch

    return torch.from_numpy(state_array(observation, config))


def read_image(
    observation: Observation, camera: str, *, config: PolicyConfig, device: "torch.device"
) -> Float[Tensor, "1 3 h w"]:
    """`image_array` as a tensor in [-1, 1]."""
    import torch

    small = torch.from_numpy(image_array(observation, camera, config=config))
    return small.permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
