from dataclasses import replace

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from video2act.config import DenoisingConfig
from video2act.system1.denoising import Denoising

CONFIGS = {
    "flow matching, sample": DenoisingConfig("flow_matching", "sample"),
    "flow matching, velocity": DenoisingConfig("flow_matching", "velocity"),
    "ddpm, sample": DenoisingConfig("ddpm", "sample"),
    "ddpm, epsilon": DenoisingConfig("ddpm", "epsilon"),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> DenoisingConfig:
    return CONFIGS[request.param]


def randn(seed: int, b: int = 4) -> Tensor:
    return torch.randn(b, 3, 2, generator=torch.Generator().manual_seed(seed))


def signal_and_noise(config: DenoisingConfig, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each is in a noisy sample at a timestep."""
    if config.schedule == "flow_matching":
        level = timestep / config.num_train_timesteps
        return (1 - level)[:, None, None], level[:, None, None]
    kept = DDPMScheduler(config.num_train_timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod[timestep.long()]
    return kept.sqrt()[:, None, None], (1 - kept).sqrt()[:, None, None]


@pytest.mark.parametrize("num_steps", [1, 2, 5, 20])
def test_a_denoiser_that_knows_the_actions_reaches_them(config: DenoisingConfig, num_steps: int):
    config, clean = replace(config, num_steps=num_steps), randn(0)

    def oracle(noisy: Tensor, timestep: Tensor) -> Tensor:
        assert timestep.shape == (4,)
        signal, noise = signal_and_noise(config, timestep)
        epsilon = (noisy - signal * clean) / noise
        return {"sample": clean, "epsilon": epsilon, "velocity": epsilon - clean}[config.prediction]

    # an epsilon prediction at the noisiest timestep says almost nothing about the sample: its error is blown up
    tolerance = 1e-2 if config.prediction == "epsilon" else 1e-4
    assert torch.allclose(Denoising(config).sample(oracle, randn(1)), clean, atol=tolerance)


def test_sampling_begins_at_the_noisiest_timestep_and_goes_down(config: DenoisingConfig):
    asked: list[float] = []

    def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
        asked.append(timestep[0].item())
        return torch.zeros_like(noisy)

    Denoising(config).sample(denoise, randn(0))
    assert len(asked) == config.num_steps
    assert asked == sorted(asked, reverse=True)
    assert asked[0] >= config.num_train_timesteps - 1
    assert asked[-1] > 0


def test_sampling_is_deterministic_and_does_not_count_on(config: DenoisingConfig):
    denoising = Denoising(config)

    def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
        return torch.tanh(noisy) + timestep[:, None, None] / 2000

    first = denoising.sample(denoise, randn(1))
    assert torch.equal(first, denoising.sample(denoise, randn(1)))
    assert not torch.equal(first, denoising.sample(denoise, randn(2)))


def test_a_shift_never_draws_a_timestep_behind_the_last(config: DenoisingConfig):
    """The largest numbers below 1 were rounded up to 1."""
    denoising = Denoising(replace(config, noise_shift=5.0))
    largest = torch.full((4,), 1 - 2.0**-24)
    _, timestep, _ = denoising.add_noise(randn(0), randn(1), uniform=largest)
    assert (timestep <= config.num_train_timesteps - (config.schedule == "ddpm")).all()


def test_noisy_actions_are_those_of_the_schedule(config: DenoisingConfig):
    clean, noise, uniform = randn(0), randn(1), torch.tensor([0.0, 0.3, 0.7, 0.9995])
    noisy, timestep, target = Denoising(config).add_noise(clean, noise, uniform=uniform)
    signal, amount = signal_and_noise(config, timestep)
    assert torch.allclose(noisy, signal * clean + amount * noise, atol=1e-5)
    assert torch.equal(target, {"sample": clean, "epsilon": noise, "velocity": noise - clean}[config.prediction])
    assert ((timestep >= 0) & (timestep < config.num_train_timesteps)).all()


def test_ddpm_noise_is_that_of_diffusers():
    clean, noise, uniform = randn(0), randn(1), torch.tensor([0.0, 0.25, 0.5, 0.999])
    noisy, timestep, _ = Denoising(CONFIGS["ddpm, sample"]).add_noise(clean, noise, uniform=uniform)
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    assert timestep.tolist() == [0, 250, 500, 999]
    assert torch.equal(noisy, scheduler.add_noise(clean, noise, timestep.long()))  # type: ignore[arg-type]


@pytest.mark.parametrize("num_steps", [1, 3, 5, 10])
def test_flow_matching_takes_the_steps_of_diffusers(num_steps: int):
    def flow(actions: Tensor, timestep: Tensor) -> Tensor:
        return actions.sin() + timestep[:, None, None] / 1000

    expected, scheduler = randn(0), FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 0, num_steps + 1)[:-1].tolist())
    for timestep in torch.as_tensor(scheduler.timesteps):
        predicted = flow(expected, timestep.float().expand(len(expected)))
        expected = scheduler.step(predicted, timestep, expected, return_dict=False)[0]  # type: ignore[arg-type]
    config = replace(CONFIGS["flow matching, velocity"], num_steps=num_steps)
    assert torch.equal(Denoising(config).sample(flow, randn(0)), expected)


def test_noise_is_never_rounded_away(config: DenoisingConfig):
    """In half precision the first timesteps would get no noise at all."""
    _, timestep, _ = Denoising(config).add_noise(randn(0), randn(1), uniform=torch.full((4,), 0.002))
    noisy, _, _ = Denoising(config).add_noise(torch.ones(4, 3, 2), randn(1), uniform=torch.full((4,), 0.002))
    assert timestep.min() > 0
    assert (noisy - 1).abs().min() > 0


def test_each_item_has_its_own_level(config: DenoisingConfig):
    clean, noise, uniform = randn(0), randn(1), torch.tensor([0.1, 0.3, 0.6, 0.9])
    together = Denoising(config).add_noise(clean, noise, uniform=uniform)
    for i in range(4):
        alone = Denoising(config).add_noise(clean[i : i + 1], noise[i : i + 1], uniform=uniform[i : i + 1])
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, alone, strict=True))
