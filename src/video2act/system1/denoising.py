"""Schedules of noise for actions, around diffusers' schedulers: how to add noise, what the network is asked for, how to sample.

* `ddpm`: the squared-cosine DDPM schedule in training, DPM-Solver++ (order 2) in sampling, as RDT-1B.
* `flow_matching`: straight lines between actions and noise, Euler steps in sampling.

Under flow matching a network may predict the clean actions instead of the flow; the flow follows from them.
"""

from collections.abc import Callable

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from video2act.config import DenoisingConfig

Denoiser = Callable[[Float[Tensor, "b horizon a"], Float[Tensor, "b"]], Float[Tensor, "b horizon a"]]
"""noisy actions, timestep in [0, num_train_timesteps) -> the configured prediction"""


class Denoising:
    """The noise schedule of a policy, in training and in sampling. Holds no weights."""

    def __init__(self, config: DenoisingConfig):
        self.config = config
        self._ddpm = DDPMScheduler(num_train_timesteps=config.num_train_timesteps, beta_schedule="squaredcos_cap_v2")

    def add_noise(
        self, actions: Float[Tensor, "b horizon a"], noise: Float[Tensor, "b horizon a"], uniform: Float[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b horizon a"], Float[Tensor, "b"], Float[Tensor, "b horizon a"]]:
        """Noise each sample to the level that its `uniform` in [0, 1) names: (noisy actions, timestep, what to predict)."""
        shift = self.config.noise_shift
        uniform = shift * uniform / (1 + (shift - 1) * uniform)
        if self.config.schedule == "ddpm":
            timestep = (uniform * self.config.num_train_timesteps).long()
            noisy = self._ddpm.add_noise(actions, noise, timestep)  # type: ignore[arg-type]
            return noisy, timestep.float(), actions if self.config.prediction == "sample" else noise
        level = uniform[:, None, None]
        noisy = (1 - level) * actions + level * noise
        target = actions if self.config.prediction == "sample" else noise - actions
        return noisy, uniform * self.config.num_train_timesteps, target

    def sample(self, denoise: Denoiser, noise: Float[Tensor, "b horizon a"]) -> Float[Tensor, "b horizon a"]:
        """Denoise in `num_steps` steps. Deterministic given the noise."""
        return self._sample_ddpm(denoise, noise) if self.config.schedule == "ddpm" else self._sample_flow(denoise, noise)

    def _sample_ddpm(self, denoise: Denoiser, noise: Tensor) -> Tensor:
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
            predicted = denoise(actions, timestep.float().to(noise.device).expand(len(noise)))
            actions = scheduler.step(predicted, timestep, actions, return_dict=False)[0]  # type: ignore[arg-type]
        return actions

    def _sample_flow(self, denoise: Denoiser, noise: Tensor) -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=self.config.num_train_timesteps)
        # evenly spaced from pure noise: the scheduler's own default would end its first interval elsewhere
        levels = torch.linspace(1, 0, self.config.num_steps + 1)[:-1].tolist()
        scheduler.set_timesteps(sigmas=levels)
        actions = noise
        for timestep, level in zip(torch.as_tensor(scheduler.timesteps), levels, strict=True):
            predicted = denoise(actions, timestep.float().to(noise.device).expand(len(noise)))
            flow = predicted if self.config.prediction == "velocity" else (actions - predicted) / level
            actions = scheduler.step(flow, timestep, actions, return_dict=False)[0]  # type: ignore[arg-type]
        return actions
