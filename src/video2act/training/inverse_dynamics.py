"""A small inverse-dynamics model: frames before and after a moment -> the action at that moment (VPT, arXiv
2206.11795).

Each frame goes through System 1's image encoder. Of the middle one all tokens count: what is where. Of the others only
how far the key points are from those of the middle one: motion is what an action shows. The model reads the future, so
it needs far fewer examples than a policy; it cannot act.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32
from torch import Tensor, nn

from video2act.config import LETTERBOX, InverseTrainConfig
from video2act.data import Dataset, FrameStore
from video2act.data.augmentation import shift
from video2act.data.labels import DimensionError
from video2act.normalize import Normalizer
from video2act.statistics import Statistics
from video2act.system1.encoders import MAP_SIZE, ImageEncoder

BATCH = 64
"""moments that are predicted together"""
WIDTH, HIDDEN = 64, 256
MOTION_SCALE = 10.0
"""of key points, which move by hundredths of the picture"""


@dataclass(frozen=True)
class Surroundings:
    """What the model reads of some moments."""

    frames: dict[str, Float[Tensor, "b t 3 h w"]]
    """camera -> frames around each moment, in [-1, 1]"""
    state: Float[Tensor, "b t s"]
    """empty, if the model does not read it"""


class InverseDynamics(nn.Module):
    """`forward` is the training loss; `predict` gives actions in raw units.

    Args:
        statistics: of `action` and, if the model reads it, of `state`, over the episodes that it learns from.
    """

    action_min: Tensor
    action_max: Tensor

    def __init__(self, config: InverseTrainConfig, cameras: Sequence[str], *, statistics: dict[str, Statistics]):
        super().__init__()
        self.config, self.cameras = config, tuple(cameras)
        self.action = Normalizer(statistics["action"], "mean_std")
        self.state = Normalizer(statistics["state"], "mean_std") if "state" in statistics else None
        for name in ("min", "max"):  # of the recorded actions
            self.register_buffer(f"action_{name}", torch.tensor(getattr(statistics["action"], name)))
        self.eyes = nn.ModuleList(ImageEncoder(config.channels, WIDTH) for _ in cameras)
        window, num_tokens = 2 * config.context + 1, MAP_SIZE**2 + 1
        state_dim = len(statistics["state"].mean) if self.state else 0
        size = len(self.cameras) * (num_tokens + window - 1) * WIDTH + window * state_dim
        self.out = nn.Sequential(
            nn.Linear(size, HIDDEN), nn.LayerNorm(HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, len(statistics["action"].mean))
        )

    def forward(
        self, moments: Surroundings, action: Float[Tensor, "b a"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Mean square error of the normalised actions, on shifted frames."""
        frames = {camera: self._shifted(frames, generator) for camera, frames in moments.frames.items()}
        return (self._normalised(Surroundings(frames, moments.state)) - self.action.normalize(action)).square().mean()

    @torch.no_grad()
    def predict(self, moments: Surroundings) -> Float32[np.ndarray, "b a"]:
        """Actions in raw units, within the range of the recorded ones."""
        raw = self.action.restore(self._normalised(moments))
        return raw.clamp(self.action_min, self.action_max).cpu().numpy().astype(np.float32)

    def _shifted(self, frames: Float[Tensor, "b t 3 h w"], generator: torch.Generator) -> Float[Tensor, "b t 3 h w"]:
        stacked = rearrange(frames, "b t c h w -> b (t c) h w")
        return shift(stacked, self.config.image_shift_px, generator=generator).view_as(frames)

    def _normalised(self, moments: Surroundings) -> Float[Tensor, "b a"]:
        seen = []
        for camera, eye in zip(self.cameras, self.eyes, strict=True):
            frames = moments.frames[camera]
            tokens = eye(frames.flatten(0, 1)).data.unflatten(0, frames.shape[:2])
            middle, points = tokens[:, self.config.context], tokens[:, :, -1]
            motion = MOTION_SCALE * (points - middle[:, None, -1])
            others = [t for t in range(frames.shape[1]) if t != self.config.context]
            seen += [middle.flatten(1), motion[:, others].flatten(1)]
        if self.state is not None:
            seen.append(self.state.normalize(moments.state).flatten(1))
        return self.out(torch.cat(seen, dim=1))


class MomentReader:
    """Reads the frames and states around moments of a dataset."""

    def __init__(self, data: Dataset, store: FrameStore, *, config: InverseTrainConfig, cameras: Sequence[str]):
        self.data, self.store, self.config, self.cameras = data, store, config, tuple(cameras)
        size = (config.image_px, config.image_px)
        store.plan([(camera, size, LETTERBOX) for camera in cameras])

    def read(self, places: Sequence[tuple[int, int]], *, device: torch.device, has_state: bool) -> Surroundings:
        """The moments at (episode, frame); beyond an episode its first or last frame is repeated."""
        around = self.config.stride * np.arange(-self.config.context, self.config.context + 1)
        ends = [self.data.lengths[episode] - 1 for episode, _ in places]
        indices = [np.clip(frame + around, 0, end) for (_, frame), end in zip(places, ends, strict=True)]
        wanted = [(episode, own.tolist()) for (episode, _), own in zip(places, indices, strict=True)]
        size = (self.config.image_px, self.config.image_px)
        frames = {
            camera: rearrange(
                torch.from_numpy(self.store.read(wanted, camera, size=size, rule=LETTERBOX)).to(device).float() / 127.5
                - 1,
                "b t h w c -> b t c h w",
            )
            for camera in self.cameras
        }
        states = [self.data.episode(episode).state[own] for episode, own in wanted]
        state = torch.from_numpy(np.stack(states)).to(device)
        return Surroundings(frames, state if has_state else state[..., :0])

    def predict(self, model: InverseDynamics, episode: int, *, device: torch.device) -> Float32[np.ndarray, "t a"]:
        """The action at every frame of an episode."""
        parts = []
        for first in range(0, self.data.lengths[episode], BATCH):
            places = [(episode, frame) for frame in range(first, min(first + BATCH, self.data.lengths[episode]))]
            parts.append(model.predict(self.read(places, device=device, has_state=model.state is not None)))
        return np.concatenate(parts)


def held_out_errors(
    model: InverseDynamics, reader: MomentReader, *, episodes: Sequence[int], names: Sequence[str]
) -> tuple[DimensionError, ...]:
    """Of each number of the action, beside those of the mean action."""
    device = next(model.parameters()).device
    recorded = np.concatenate([reader.data.episode(i).actions for i in episodes]).astype(np.float64)
    predicted = np.concatenate([reader.predict(model, i, device=device) for i in episodes])
    mean, scale = model.action.shift.cpu().numpy(), model.action.scale.cpu().numpy()
    errors = [np.sqrt(np.square(each - recorded).mean(axis=0)) for each in (predicted, mean)]
    rows = zip(names, *errors, scale, strict=True)
    return tuple(
        DimensionError(name, float(own), float(own / unit), float(base), float(base / unit))
        for name, own, base, unit in rows
    )
