"""Plans that continue one another: the guidance against the paper's own formulas, the soft mask, the option of
training."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from video2act.config import DenoisingConfig, System1Config
from video2act.system1 import System1, Visibility
from video2act.system1.action_dit import ProjectedConditions
from video2act.system1.denoising import Denoising, Known, soft_mask
from video2act.types import Tokens

HORIZON, DIM = 6, 2
CONFIGS = [
    DenoisingConfig("flow_matching", "sample"),
    DenoisingConfig("flow_matching", "velocity"),
    DenoisingConfig("ddpm", "sample"),
]
IDS = [f"{config.schedule}-{config.prediction}" for config in CONFIGS]


class Network(nn.Module):
    """Mixes all actions of a chunk, so that its Jacobian is far from diagonal."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(HORIZON * DIM + 1, 32), nn.Tanh(), nn.Linear(32, HORIZON * DIM)
        ).requires_grad_(False)

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        flat = torch.cat([noisy.flatten(1), timestep[:, None] / 1000], dim=1)
        return self.layers(flat).reshape(noisy.shape)


def randn(seed: int) -> Tensor:
    return torch.randn(1, HORIZON, DIM, generator=torch.Generator().manual_seed(seed))


def by_the_paper(network: Network, noise: Tensor, known: Tensor, weight: Tensor, beta: float, n: int) -> Tensor:
    """Algorithm 1 of arXiv 2506.07339 for a velocity network, in its own time (0 noise, 1 actions), with the whole
    Jacobian."""
    actions = noise.flatten()
    for i in range(n):
        tau = i / n

        def velocity(x: Tensor, tau: float = tau) -> Tensor:
            # ours points from actions to noise, theirs to the actions
            return -network(x.reshape(1, HORIZON, DIM), torch.tensor([1000 * (1 - tau)])).flatten()

        def estimate(x: Tensor, tau: float = tau) -> Tensor:
            return x + (1 - tau) * velocity(x, tau)

        jacobian = torch.autograd.functional.jacobian(estimate, actions)
        error = (known.flatten() - estimate(actions)) * weight.expand_as(known).flatten()
        r_squared = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        factor = beta if tau == 0 else min(beta, (1 - tau) / (tau * r_squared))
        actions = actions + (velocity(actions) + factor * (error @ jacobian)) / n
    return actions.reshape(known.shape)


@pytest.mark.parametrize("beta", [0.5, 5.0])
def test_guided_sampling_is_the_papers_algorithm_with_the_true_jacobian(beta: float):
    network, noise, known = Network(), randn(1), randn(2)
    weight = soft_mask(HORIZON, num_known=5, num_frozen=2)[None, :, None]
    denoising = Denoising(DenoisingConfig("flow_matching", "velocity", num_steps=5))
    sampled = denoising.sample(network, noise, known=Known(known, weight, beta))
    expected = by_the_paper(network, noise, known, weight, beta, n=5)
    assert torch.allclose(sampled, expected, atol=1e-5)
    # an identity in place of the Jacobian, as some implementations have it, is something else
    unguided = denoising.sample(network, noise)
    assert (sampled - unguided).abs().max() > 0.01


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_guidance_pulls_frozen_actions_to_what_is_known(config: DenoisingConfig):
    network, noise, known = Network(), randn(1), 0.3 * randn(2)
    config = replace(config, num_steps=10)
    weight = soft_mask(HORIZON, num_known=4, num_frozen=4)[None, :, None]

    def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
        """Of actions that are near zero: the ideal prediction for a Gaussian of deviation 0.3, plus some mixing."""
        if config.schedule == "flow_matching":
            alpha = 1 - timestep[0] / 1000
            sigma = 1 - alpha
        else:
            kept = Denoising(config)._ddpm.alphas_cumprod[int(timestep[0])]
            alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
        clean = 0.09 * alpha * noisy / (0.09 * alpha**2 + sigma**2) + 0.05 * network(noisy, timestep)
        epsilon = (noisy - alpha * clean) / sigma
        return {"sample": clean, "velocity": epsilon - clean}[config.prediction]

    def distance(actions: Tensor) -> float:
        return float((actions - known)[:, :4].square().mean().sqrt())

    free, guided = (
        Denoising(config).sample(denoise, noise),
        Denoising(config).sample(denoise, noise, known=Known(known, weight, 5.0)),
    )
    assert distance(guided) < 0.35 * distance(free)


def test_a_network_that_predicts_noise_is_not_guided():
    """Small errors of a trained one became actions of millions: they were divided by alpha twice."""
    known = Known(randn(2), torch.ones(1, HORIZON, 1), 5.0)
    with pytest.raises(ValueError, match=r"predicts noise .* cannot be guided"):
        Denoising(DenoisingConfig("ddpm", "epsilon")).sample(Network(), randn(1), known=known)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_knowing_nothing_changes_nothing(config: DenoisingConfig):
    network, noise = Network(), randn(1)
    nothing = Known(randn(2), torch.zeros(1, HORIZON, 1), 5.0)
    denoising = Denoising(config)
    assert torch.allclose(denoising.sample(network, noise, known=nothing), denoising.sample(network, noise), atol=1e-4)


def test_the_soft_mask_is_the_papers():
    # equation 5 with H = 8, s = 3, d = 2: c_i = (H - s - i) / (H - s - d + 1)
    mask = soft_mask(8, num_known=5, num_frozen=2).tolist()
    expected = [c * (math.exp(c) - 1) / (math.e - 1) for c in (3 / 4, 2 / 4, 1 / 4)]
    assert mask == pytest.approx([1, 1, *expected, 0, 0, 0])
    assert soft_mask(4, num_known=4, num_frozen=4).tolist() == [1, 1, 1, 1]
    assert soft_mask(3, num_known=0, num_frozen=0).tolist() == [0, 0, 0]


def make_system1(max_delay_steps: int = 0, **changes) -> System1:
    torch.manual_seed(0)
    config = System1Config(hidden=32, depth=2, num_heads=4, text_dim=16, max_delay_steps=max_delay_steps, **changes)
    return System1(config, (), state_dim=2, action_dim=DIM, horizon=HORIZON).eval()


def project(system1: System1, batch: int = 1) -> ProjectedConditions:
    visible = Visibility.full(batch, torch.device("cpu"))
    video = Tokens.empty(batch, 32, like=torch.zeros(1))
    conditions = system1.gather(["push"] * batch, None, video=video, visible=visible)
    return system1.project(conditions, torch.zeros(batch, 2), staleness=torch.zeros(batch), visible=visible)


@pytest.mark.parametrize("guidance", [5.0, None])
def test_a_plan_that_continues_begins_with_exactly_what_is_frozen(guidance: float | None):
    system1 = make_system1(max_delay_steps=3)
    with torch.no_grad():
        committed = randn(4)[:, :5]
        plan = system1.continue_sample(project(system1), randn(1), committed=committed, num_frozen=3, guidance=guidance)
        assert torch.equal(plan[:, :3], committed[:, :3])
        other = system1.continue_sample(
            project(system1), randn(1), committed=-committed, num_frozen=3, guidance=guidance
        )
    # and what follows depends on it
    torch.nn.init.ones_(system1.dit.committed_mark)  # type: ignore[arg-type]
    assert not torch.allclose(plan[:, 3:], other[:, 3:])


def test_what_is_committed_beyond_the_horizon_is_left_out():
    system1 = make_system1()
    with torch.no_grad():
        plan = system1.continue_sample(
            project(system1), randn(1), committed=torch.zeros(1, 20, DIM), num_frozen=20, guidance=5.0
        )
    assert plan.shape == (1, HORIZON, DIM)
    assert (plan == 0).all()


def test_a_policy_that_was_not_trained_for_it_refuses_and_names_the_remedy():
    with pytest.raises(ValueError, match=r"not trained to continue a plan.*use overlap rtc"):
        make_system1().continue_sample(
            project(make_system1()), randn(1), committed=randn(2), num_frozen=2, guidance=None
        )
    trained = make_system1(max_delay_steps=2)
    with pytest.raises(
        ValueError, match="3 actions are committed while a plan is made, but training has shown at most 2"
    ):
        trained.continue_sample(project(trained), randn(1), committed=randn(2), num_frozen=3, guidance=None)


def test_without_the_option_training_and_weights_are_what_they_were():
    plain, marked = make_system1(), make_system1(max_delay_steps=3)
    assert set(marked.state_dict()) - set(plain.state_dict()) == {"dit.committed_mark"}
    generator = torch.Generator().manual_seed(0)
    plain.loss(randn(0), torch.zeros(1, HORIZON, dtype=torch.bool), conditions=project(plain), generator=generator)
    drawn = generator.get_state()
    again = torch.Generator().manual_seed(0)
    torch.randn(1, HORIZON, DIM, generator=again)
    torch.rand(1, generator=again)
    assert torch.equal(drawn, again.get_state())


def test_committed_actions_are_shown_clean_and_do_not_count():
    system1 = make_system1(max_delay_steps=HORIZON - 1)
    seen: list[tuple[Tensor, Tensor]] = []

    class Spy(nn.Module):
        def forward(self, noisy, timestep, conditions, is_committed):
            seen.append((noisy, is_committed))
            return torch.full_like(noisy, 7.0)

    system1.dit = Spy()  # type: ignore[assignment]
    actions, no_pad = randn(0).expand(64, -1, -1).contiguous(), torch.zeros(64, HORIZON, dtype=torch.bool)
    conditions = project(make_system1())
    loss = system1.loss(actions, no_pad, conditions=conditions, generator=torch.Generator().manual_seed(0))
    ((noisy, is_committed),) = seen
    assert set(is_committed.sum(dim=1).tolist()) == set(range(HORIZON))
    assert torch.equal(noisy[is_committed], actions[is_committed])
    assert not torch.isclose(noisy[~is_committed], actions[~is_committed]).all(dim=1).any()
    per_action = (7 - actions).square().mean(dim=2)
    assert float(loss) == pytest.approx(float(per_action[~is_committed].mean()))


def test_training_teaches_a_plan_to_go_on_as_it_was_begun():
    """Two ways of doing it, equally often: without the beginning nobody can know which; with it, the rest follows."""
    system1 = make_system1(max_delay_steps=3, denoising=DenoisingConfig(num_steps=5, noise_draws=4))
    optimizer = torch.optim.AdamW(system1.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(70):
        sign = torch.randint(0, 2, (16, 1, 1), generator=generator) * 2.0 - 1
        actions = sign.expand(16, HORIZON, DIM).contiguous()
        pad = torch.zeros(16, HORIZON, dtype=torch.bool)
        system1.loss(actions, pad, conditions=project(system1, 16), generator=generator).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        noise = torch.randn(32, HORIZON, DIM, generator=generator)
        free = system1.sample(project(system1, 32), noise)
        continued = [
            system1.continue_sample(
                project(system1, 32), noise, committed=torch.full((32, 4, DIM), way), num_frozen=2, guidance=None
            )
            for way in (1.0, -1.0)
        ]
    assert 4 < int((free[:, -1, 0] > 0).sum()) < 28, "both ways are taken when nothing is committed"
    assert (continued[0][:, 2:] > 0).float().mean() > 0.95
    assert (continued[1][:, 2:] < 0).float().mean() > 0.95
