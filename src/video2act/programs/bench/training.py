"""The time of one training step: from a batch whose clips System 2 has seen already to new weights."""

from typing import Any

import torch

from video2act.config import TrainConfig
from video2act.policy import Video2Act
from video2act.programs.bench.timing import INSTRUCTION, Timing, Work, measure
from video2act.types import Batch, Video

USUAL = TrainConfig()


def training_timings(policy: Video2Act, repeats: int) -> list[Timing]:
    """Loss, gradients, clipping and AdamW in bfloat16 as `train` does by default; batches, moving average and records
    come on top."""
    config, device = policy.config, policy.device
    batch, learned = _batch(policy, USUAL.batch_size), [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=0.0)
    generator = torch.Generator().manual_seed(0)

    def loss() -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return policy(batch, generator)

    def step() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(learned, USUAL.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    work: Work = {"loss": loss, "one step": step}
    title = f"Training, batch of {USUAL.batch_size}" + " (System 2's features cached)" * bool(config.system2)
    return [Timing(f"{title}: {name}", values) for name, values in measure(work, repeats, device=device).items()]


def _batch(policy: Video2Act, size: int) -> Batch:
    config = policy.config
    given = {"dtype": torch.float32, "device": policy.device}
    images = {
        camera: torch.rand(size, 3, config.image_px, config.image_px, **given) * 2 - 1 for camera in config.cameras
    }
    videos: dict[str, Video] = {}
    if policy.system2 is not None and config.system2 is not None:
        clips = {
            s.name: Video(torch.zeros(1, 3, s.num_frames, *s.frame_px, **given), config.fps / s.stride)
            for s in config.system2.streams
        }
        seen = policy.system2.see(clips, INSTRUCTION)
        videos = {name: Video(video.grid.repeat(size, 1, 1, 1, 1), video.fps) for name, video in seen.items()}
    actions = torch.zeros(size, config.horizon, config.action_dim, **given)
    return Batch(
        videos=videos,
        images=images,
        state=torch.zeros(size, config.state_dim, **given),
        instruction=INSTRUCTION * size,
        actions=actions,
        action_is_pad=torch.zeros(size, config.horizon, dtype=torch.bool, device=policy.device),
        staleness=torch.zeros(size, **given),
        stage="seen",
    )
