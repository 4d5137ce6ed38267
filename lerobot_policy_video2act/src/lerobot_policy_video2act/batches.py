"""LeRobot's dictionaries -> Video2Act's nouns, by the same rules for frames and clips as Video2Act's own training and
running."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from video2act.clips import stream_indices, to_pixels
from video2act.config import PolicyConfig, camera_and_lag
from video2act.frames import fit_frames
from video2act.types import Batch, Observation, Video

STATE, ACTION, TASK = "observation.state", "action", "task"
PREFIXES = ("observation.", "images.")


def camera_name(key: str) -> str:
    """`observation.images.top` -> `top`; `observation.image` -> `image`; an @, which marks past images, becomes _."""
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key.replace("@", "_")


def frames(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Camera -> RGB `[b t h w 3]`, uint8, from every image of the batch: `[b (t) 3 h w]`, bytes or [0, 1]."""
    found = {}
    for key, value in batch.items():
        if not key.startswith("observation.image") or key.endswith("_is_pad"):
            continue
        if value.dtype != torch.uint8:
            value = (value * 255).round().clamp(0, 255).to(torch.uint8)
        if value.ndim == 4:
            value = value[:, None]
        found[camera_name(key)] = rearrange(value, "b t c h w -> b t h w c").cpu().numpy()
    return found


def newest_state(batch: dict[str, Any]) -> Tensor:
    """`[b s]`; LeRobot 0.4.4 looks back on the state as well."""
    state = batch[STATE].float()
    return state[:, -1] if state.ndim == 3 else state


def observations(batch: dict[str, Any], time_s: float, *, instruction: str | None) -> list[Observation]:
    """One observation per environment, of the newest frame; `instruction` stands in where the batch has none."""
    images, state = frames(batch), newest_state(batch).cpu().numpy()
    words = instructions(batch, len(state), otherwise=instruction)
    return [
        Observation({camera: video[i, -1] for camera, video in images.items()}, state[i], words[i], time_s)
        for i in range(len(state))
    ]


def instructions(batch: dict[str, Any], count: int, *, otherwise: str | None = None) -> list[str]:
    """One sentence per sample.

    Raises:
        ValueError: a sample has none, and none is given for that case.
    """
    words = batch.get(TASK) or ""
    sentences = [words] * count if isinstance(words, str) else list(words)
    if not all(sentences) and otherwise is None:
        raise ValueError(f"the policy has no instruction: {TASK!r} is empty. Pass --policy.instruction")
    return [sentence or str(otherwise) for sentence in sentences]


def oldest_step(config: PolicyConfig) -> int:
    """How many control steps before the present the oldest frame lies that a sample needs."""
    oldest = max((camera_and_lag(camera)[1] for camera in config.cameras), default=0)
    if not config.system2:
        return oldest
    spans = (stream.stride * (stream.num_frames - 1) for stream in config.system2.streams)
    return max(oldest, max(spans) + config.max_staleness_steps)


def training_batch(batch: dict[str, Any], config: PolicyConfig, *, generator: torch.Generator) -> Batch:
    """A batch whose clips end up to `max_staleness_steps` before the present, as in Video2Act's own loader.

    Args:
        batch: of LeRobot's dataset, with all control steps of `observation_delta_indices`.
        generator: draws the staleness.
    Raises:
        ValueError: a stream needs the number of a frame in its episode, which LeRobot's batches do not hold; or the
            batch has too few control steps.
    """
    seen, state = frames(batch), newest_state(batch)
    b, t = next(iter(seen.values())).shape[:2]
    if t <= (oldest := oldest_step(config)):
        problem = f"a sample has {t} control steps, but this policy reads {oldest + 1}, up to the present"
        raise ValueError(f"{problem}; load the data with the config's observation_delta_indices")
    lags = torch.randint(0, config.max_staleness_steps + 1, (b,), generator=generator)
    # nothing was seen before the episode began: LeRobot repeats the first frame there, and says so
    lags = torch.minimum(lags, _past(batch, b, t=t)).tolist()
    streams = config.system2.streams if config.system2 else ()
    clips = {}
    for stream in streams:
        if stream.encoding == "stream" or stream.every > 1:
            raise ValueError(
                f"stream {stream.name!r} has encoding={stream.encoding!r} and every={stream.every}: its clips depend "
                "on the number of a frame in its episode, which LeRobot's batches do not hold. Train this policy by "
                "`video2act train`"
            )
        video = seen[stream.camera]
        rows = []
        for i, lag in enumerate(lags):
            chosen = stream_indices(t - 1 - lag, stream)
            rows.append(
                to_pixels(fit_frames(video[i, chosen], stream.frame_px, rule=stream.frame), config.fps / stream.stride)
            )
        clips[stream.name] = Video(torch.cat([row.grid for row in rows]), rows[0].fps).to(state.device)
    images = {}
    for name in config.cameras:
        camera, lag = camera_and_lag(name)
        fitted = fit_frames(seen[camera][:, t - 1 - lag], (config.image_px, config.image_px), rule=config.image)
        images[name] = rearrange(torch.from_numpy(fitted), "b h w c -> b c h w").float().to(state.device) / 127.5 - 1
    actions = batch[ACTION].float()
    return Batch(
        videos=clips,
        images=images,
        state=state,
        instruction=instructions(batch, b),
        actions=actions,
        action_is_pad=batch["action_is_pad"].bool(),
        staleness=torch.tensor(lags, dtype=torch.float32, device=state.device) / config.fps,
    )


def _past(batch: dict[str, Any], b: int, *, t: int) -> Tensor:
    """How many real control steps lie before the present, at most `t - 1`."""
    pads = [value for key, value in batch.items() if key.startswith("observation.image") and key.endswith("_is_pad")]
    if not pads:
        return torch.full((b,), t - 1)
    return (~pads[0].bool()).sum(dim=1).cpu() - 1
