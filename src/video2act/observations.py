"""One observation as a policy reads it: tensors, or an error that names what does not fit the policy."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from video2act.config import PolicyConfig
from video2act.frames import FrameUse, fit_frames
from video2act.types import Observation


def read_state(observation: Observation, config: PolicyConfig) -> Float[Tensor, "1 s"]:
    """The state in raw units. Raises ValueError for another size, or a number that is not finite."""
    state = torch.from_numpy(np.asarray(observation.state, dtype=np.float32))
    if state.shape != (config.state_dim,):
        raise ValueError(f"the policy was trained on a state of {config.state_dim} numbers, got {list(state.shape)}")
    if not state.isfinite().all():
        raise ValueError(f"the state holds a number that is not finite: {observation.state}")
    return state[None]


def read_image(
    observation: Observation, camera: str, *, config: PolicyConfig, device: torch.device
) -> Float[Tensor, "1 3 h w"]:
    """An image of System 1's size, in [-1, 1]. Raises ValueError for a missing camera, or a frame that does not fit."""
    if camera not in observation.images:
        raise ValueError(
            f"the policy was trained with camera {camera!r}, but the observation has "
            f"{', '.join(sorted(observation.images)) or 'no camera'}"
        )
    image, size = observation.images[camera], (config.image_px, config.image_px)
    if problem := FrameUse("", camera, size, config.image).problem((image.shape[0], image.shape[1])):
        raise ValueError(problem)
    small = fit_frames(image[None], size, rule=config.image)
    return rearrange(torch.from_numpy(small), "1 h w c -> 1 c h w").float().to(device) / 127.5 - 1
