"""The video model's own objective: flow matching with a clean past and a noisy future.

Each clip keeps a random number of its first latent frames clean and noises the rest to one level. The loss is the error of the
clean latents that the predicted flow implies (the flow's error times the noise level): at high noise, where the future must
be imagined, it counts fully; at low noise, where the answer shows through, little.
Sampling goes the other way, from noise to the future of a clean past, on diffusers' flow-matching schedule.
"""

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from video2act.interfaces import VideoBackbone
from video2act.types import Video

NOISE_SHIFT = 3.0
"""noise levels are drawn from `s u / (1 + (s - 1) u)`: most of them high, where motion must be predicted (arXiv 2403.03206)"""


def flow_matching_loss(
    backbone: VideoBackbone, latents: Video, instruction: list[str], generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean square error of the implied clean latents over the noised frames.

    Raises:
        ValueError: a single latent frame leaves nothing to predict.
    """
    b, _, t, _, _ = latents.grid.shape
    if t < 2:
        raise ValueError(f"a clip of {t} latent frame has no future to predict; train on longer clips")
    device = latents.grid.device
    num_clean = torch.randint(1, t, (b, 1), generator=generator).to(device)
    uniform = torch.rand(b, 1, generator=generator).to(device)
    level = NOISE_SHIFT * uniform / (1 + (NOISE_SHIFT - 1) * uniform)
    is_noised = torch.arange(t, device=device) >= num_clean
    noise_level = level * is_noised
    noise = torch.randn(latents.grid.shape, generator=generator).to(device)
    factor = noise_level[:, None, :, None, None]
    noisy = Video((1 - factor) * latents.grid + factor * noise, latents.fps)
    flow = backbone.velocity(noisy, noise_level, instruction).grid.float()
    error = factor * (flow - (noise - latents.grid))
    per_frame = error.square().mean(dim=(1, 3, 4))
    # the further ahead, the larger the error, about in proportion: without this the far future drowns the near one
    ahead = (torch.arange(1, t + 1, device=device) - num_clean).clamp(min=1)
    return (per_frame * is_noised / ahead).sum() / is_noised.sum()


@torch.no_grad()
def continue_video(
    backbone: VideoBackbone, past: Video, num_frames: int, instruction: list[str], num_steps: int, generator: torch.Generator
) -> Video:
    """Imagine `num_frames` more latent frames. One step gives the mean of all futures; more steps give one of them."""
    b, c, t, h, w = past.grid.shape
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=NOISE_SHIFT)
    scheduler.set_timesteps(num_steps)
    future = torch.randn(b, c, num_frames, h, w, generator=generator).to(past.grid)
    # the schedule ends with one more level, 0, where there is no step to take
    timesteps, levels = torch.as_tensor(scheduler.timesteps), torch.as_tensor(scheduler.sigmas)[:-1]
    for timestep, level in zip(timesteps, levels, strict=True):
        noise_level = past.grid.new_zeros(b, t + num_frames)
        noise_level[:, t:] = level
        whole = Video(torch.cat([past.grid, future], dim=2), past.fps)
        flow = backbone.velocity(whole, noise_level, instruction).grid[:, :, t:]
        future = scheduler.step(flow, timestep, future, return_dict=False)[0]  # type: ignore[arg-type]
    return Video(torch.cat([past.grid, future], dim=2), past.fps)


def psnr(a: Float[Tensor, "b c t h w"], b: Float[Tensor, "b c t h w"]) -> Float[Tensor, "t"]:
    """Peak signal-to-noise ratio of pixels in [-1, 1] per frame of time, dB, from the mean error over the batch."""
    error = (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean(dim=(0, 1, 3, 4))
    return 10 * torch.log10(4 / error.clamp(min=1e-10))
