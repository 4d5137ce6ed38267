"""Training of a video model, and sampling from it.

In training, a clip keeps some of its first latent frames clean and noises the rest to one level, as the family's
`Objective` says; models with one noise level per clip get noise everywhere. Sampling turns noise into the future of a
clean past, on diffusers' flow-matching schedule.
"""

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from video2act.types import Video
from video2act.video_backbone import Objective, VideoBackbone


def diffusion_loss(
    backbone: VideoBackbone, latents: Video, *, instruction: list[str], generator: torch.Generator
) -> Float[Tensor, ""]:
    """Weighted mean square error of the flow over the noised frames.

    Raises:
        ValueError: a single latent frame leaves nothing to predict, for a model that continues a clean past.
    """
    objective = backbone.objective
    b, _, t, _, _ = latents.grid.shape
    fewest, most = given_frames(objective, t)
    device = latents.grid.device
    num_clean = torch.randint(fewest, most + 1, (b, 1), generator=generator).to(device)
    uniform = torch.rand(b, 1, generator=generator)
    level = objective.levels(uniform[:, 0], t)[:, None].to(device)
    is_noised = torch.arange(t, device=device) >= num_clean
    noise_level = level * is_noised
    noise = torch.randn(latents.grid.shape, generator=generator).to(device)
    factor = noise_level[:, None, :, None, None]
    noisy = Video((1 - factor) * latents.grid + factor * noise, latents.fps)
    flow = backbone.velocity(noisy, noise_level, instruction=instruction).grid.float()
    per_frame = (flow - (noise - latents.grid)).square().mean(dim=(1, 3, 4)) * objective.weight(noise_level)
    if objective.is_near_first:
        # errors grow about in proportion to the distance: without this the far future would dominate
        per_frame = per_frame / (torch.arange(1, t + 1, device=device) - num_clean).clamp(min=1)
    return (per_frame * is_noised).sum() / is_noised.sum()


def given_frames(objective: Objective, num_frames: int) -> tuple[int, int]:
    """The fewest and the most clean latent frames of a clip of `num_frames`.

    Raises:
        ValueError: the clip is too short to have a past and a future.
    """
    fewest = objective.min_given
    if num_frames <= fewest:
        frames = "frame" if num_frames == 1 else "frames"
        raise ValueError(f"a clip of {num_frames} latent {frames} has no future to predict; train on longer clips")
    most = num_frames - 1 if objective.max_given is None else min(objective.max_given, num_frames - 1)
    return fewest, most


@torch.no_grad()
def continue_video(
    backbone: VideoBackbone,
    past: Video,
    *,
    num_frames: int,
    instruction: list[str],
    num_steps: int,
    generator: torch.Generator,
) -> Video:
    """Imagine `num_frames` more latent frames; `past` may have none. One step gives the mean of all futures."""
    b, c, t, h, w = past.grid.shape
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=backbone.objective.sampling_shift)
    scheduler.set_timesteps(num_steps)
    future = torch.randn(b, c, num_frames, h, w, generator=generator).to(past.grid)
    # the schedule ends with one more level, 0, where there is no step to take
    timesteps, levels = torch.as_tensor(scheduler.timesteps), torch.as_tensor(scheduler.sigmas)[:-1]
    for timestep, level in zip(timesteps, levels, strict=True):
        noise_level = past.grid.new_zeros(b, t + num_frames)
        noise_level[:, t:] = level
        whole = Video(torch.cat([past.grid, future], dim=2), past.fps)
        flow = backbone.velocity(whole, noise_level, instruction=instruction).grid[:, :, t:]
        future = scheduler.step(flow, timestep, future, return_dict=False)[0]  # type: ignore[arg-type]
    return Video(torch.cat([past.grid, future], dim=2), past.fps)
