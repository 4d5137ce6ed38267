"""Noise schedules for actions: how noise is added, what the network predicts, how a chunk is sampled.

* `ddpm`: the squared-cosine DDPM schedule in training, DPM-Solver++ (order 2) in sampling, as RDT-1B. Both are
  diffusers' schedulers, which are imported only for this schedule: that takes seconds.
* `flow_matching`: straight lines between actions and noise, Euler steps in sampling.

Under flow matching a network may predict the clean actions instead of the flow; the flow follows from them.

A sample can be guided to agree with known actions (real-time chunking, arXiv 2506.07339, after PiGDM): each step moves
the predicted clean actions by `w sigma J^T W (known - clean)`. J is the Jacobian of the prediction with respect to the
noisy actions, by a backward pass; `w = min(limit, (alpha^2 + sigma^2) / (alpha sigma))`. On straight lines (alpha = 1 -
level, sigma = level) that is the paper's rule; the DDPM schedule uses the same derivation with its alpha and sigma.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from video2act.config import DenoisingConfig

Denoiser = Callable[[Float[Tensor, "b horizon a"], Float[Tensor, "b"]], Float[Tensor, "b horizon a"]]
"""noisy actions, timestep in [0, num_train_timesteps) -> the configured prediction"""


@dataclass(frozen=True)
class Known:
    """Actions that a sample shall agree with."""

    actions: Float[Tensor, "b horizon a"]
    """normalised; anything where the weight is zero"""
    weight: Float[Tensor, "#b horizon #a"]
    """1: must agree, 0: free"""
    limit: float
    """of the guidance's weight; the paper's is 5"""


def soft_mask(horizon: int, num_known: int, *, num_frozen: int) -> Float[Tensor, "horizon"]:
    """Weight of each known action (arXiv 2506.07339, equation 5): 1 for the frozen ones, then falling."""
    step = torch.arange(horizon, dtype=torch.float32)
    share = (num_known - step) / (num_known - num_frozen + 1)
    falling = share * (torch.exp(share) - 1) / (torch.e - 1)
    weight = torch.where(step < num_frozen, torch.ones(()), falling)
    return torch.where(step < num_known, weight, torch.zeros(()))


class Denoising:
    """The noise schedule of a policy, in training and in sampling. Holds no weights."""

    def __init__(self, config: DenoisingConfig):
        self.config = config
        if config.schedule == "ddpm":
            from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

            self._ddpm = DDPMScheduler(
                num_train_timesteps=config.num_train_timesteps, beta_schedule="squaredcos_cap_v2"
            )

    def add_noise(
        self, actions: Float[Tensor, "b horizon a"], noise: Float[Tensor, "b horizon a"], *, uniform: Float[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b horizon a"], Float[Tensor, "b"], Float[Tensor, "b horizon a"]]:
        """Noise each sample to the level of its `uniform` in [0, 1): (noisy actions, timestep, target)."""
        shift = self.config.noise_shift
        uniform = shift * uniform / (1 + (shift - 1) * uniform)
        if self.config.schedule == "ddpm":
            last = self.config.num_train_timesteps - 1
            timestep = (uniform * self.config.num_train_timesteps).long().clamp(max=last)  # a shift rounds up to 1
            noisy = self._ddpm.add_noise(actions, noise, timestep)  # type: ignore[arg-type]
            return noisy, timestep.float(), actions if self.config.prediction == "sample" else noise
        level = uniform[:, None, None]
        noisy = (1 - level) * actions + level * noise
        target = actions if self.config.prediction == "sample" else noise - actions
        return noisy, uniform * self.config.num_train_timesteps, target

    def sample(
        self, denoise: Denoiser, noise: Float[Tensor, "b horizon a"], *, known: Known | None = None
    ) -> Float[Tensor, "b horizon a"]:
        """Denoise in `num_steps` steps, guided towards the known actions. Deterministic given the noise.

        Raises:
            ValueError: guided, and the network predicts noise: its errors would be divided by alpha, 0.007 at first.
        """
        if known is not None and self.config.prediction == "epsilon":
            raise ValueError("a network that predicts noise (prediction='epsilon') cannot be guided to known actions")
        sample = self._sample_ddpm if self.config.schedule == "ddpm" else self._sample_flow
        return sample(denoise, noise, known=known)

    def _guided(
        self, denoise: Denoiser, noisy: Tensor, *, timestep: Tensor, alpha: float, sigma: float, known: Known
    ) -> Float[Tensor, "b horizon a"]:
        """The predicted clean actions, moved towards what is known; `noisy = alpha * clean + sigma * noise`."""
        with torch.enable_grad():
            noisy = noisy.detach().requires_grad_()
            predicted = denoise(noisy, timestep)
            clean = predicted if self.config.prediction == "sample" else noisy - sigma * predicted
            error = (known.actions - clean.detach()) * known.weight
            (pull,) = torch.autograd.grad(clean, noisy, error)
        weight = min(known.limit, (alpha**2 + sigma**2) / max(alpha * sigma, 1e-9))
        return clean.detach() + weight * sigma * pull

    def _sample_ddpm(self, denoise: Denoiser, noise: Tensor, *, known: Known | None) -> Tensor:
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        # a scheduler counts its own steps, so each chunk has a fresh one
        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=self.config.num_train_timesteps,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample" if self.config.prediction == "sample" else "epsilon",
            algorithm_type="dpmsolver++",
            solver_order=2,
        )
        scheduler.set_timesteps(self.config.num_steps)
        actions = noise
        for timestep in scheduler.timesteps:
            level = timestep.float().to(noise.device).expand(len(noise))
            if known is None:
                predicted = denoise(actions, level)
            else:
                kept = float(self._ddpm.alphas_cumprod[int(timestep)])
                alpha, sigma = kept**0.5, (1 - kept) ** 0.5
                predicted = self._guided(denoise, actions, timestep=level, alpha=alpha, sigma=sigma, known=known)
            actions = scheduler.step(predicted, timestep, actions, return_dict=False)[0]  # type: ignore[arg-type]
        return actions

    def _sample_flow(self, denoise: Denoiser, noise: Tensor, *, known: Known | None) -> Tensor:
        """Euler steps, evenly spaced from pure noise to none."""
        levels = torch.linspace(1, 0, self.config.num_steps + 1)
        actions = noise
        for level, following in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
            timestep = noise.new_full((len(noise),), level * self.config.num_train_timesteps)
            if known is not None:
                clean = self._guided(denoise, actions, timestep=timestep, alpha=1 - level, sigma=level, known=known)
                flow = (actions - clean) / level
            elif self.config.prediction == "velocity":
                flow = denoise(actions, timestep)
            else:
                flow = (actions - denoise(actions, timestep)) / level
            actions = actions + (following - level) * flow
        return actions
