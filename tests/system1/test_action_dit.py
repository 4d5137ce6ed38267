from dataclasses import replace

import pytest
import torch
from torch import Tensor

from video2act.config import DitConfig
from video2act.layers import sinusoidal_embedding
from video2act.system1.action_dit import ActionDiT
from video2act.types import Conditions, Tokens

WIDTH, HORIZON = 32, 4
HAS_STATE = torch.ones(2, 1)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditions(seed: int = 0) -> Conditions:
    def tokens(n: int, k: int) -> Tokens:
        mask = torch.ones(2, n, dtype=torch.bool)
        mask[1, n // 2 :] = False
        return Tokens(randn(2, n, WIDTH, seed=10 * seed + k), mask)

    return Conditions(tokens(5, 1), tokens(6, 2), tokens(3, 3))


def change(tokens: Tokens, where: Tensor) -> Tokens:
    return Tokens(tokens.data + 10 * where[..., None], tokens.mask)


@pytest.fixture
def dit() -> ActionDiT:
    torch.manual_seed(0)
    return ActionDiT(action_dim=2, state_dim=3, horizon=HORIZON, width=WIDTH, depth=4, num_heads=4)


def predict(
    dit: ActionDiT,
    conditions: Conditions,
    state: Tensor | None = None,
    has_state: Tensor = HAS_STATE,
    staleness: float = 0.1,
    timestep: float = 500.0,
    noisy: Tensor | None = None,
) -> Tensor:
    state = randn(2, 3, seed=4) if state is None else state
    projected = dit.project(conditions, state, has_state=has_state, staleness=torch.full((2,), staleness))
    return dit(randn(2, HORIZON, 2, seed=5) if noisy is None else noisy, torch.full((2,), timestep), projected)


@pytest.mark.parametrize("which", ["text", "image", "video"])
def test_each_condition_matters_and_its_padding_does_not(dit: ActionDiT, which: str):
    known = conditions()
    tokens: Tokens = getattr(known, which)
    before = predict(dit, known)
    padding = predict(dit, replace(known, **{which: change(tokens, ~tokens.mask)}))
    assert torch.equal(before, padding)
    visible = predict(dit, replace(known, **{which: change(tokens, tokens.mask)}))
    assert ((before - visible).abs().amax(dim=(1, 2)) > 1e-3).all()


def test_the_instruction_reaches_the_state_token_and_none_at_all_adds_nothing_of_another(dit: ActionDiT):
    """Two instructions differ there before any attention; a hidden one is the same whatever it was."""
    known, state = conditions(), randn(2, 3, seed=4)
    other = replace(known, text=change(known.text, known.text.mask))

    def state_token(which: Conditions) -> Tensor:
        return dit.project(which, state, has_state=HAS_STATE, staleness=torch.zeros(2)).state

    assert ((state_token(known) - state_token(other)).abs().amax(dim=(1, 2)) > 1e-3).all()
    hidden = [
        replace(which, text=Tokens(which.text.data, torch.zeros_like(which.text.mask))) for which in (known, other)
    ]
    assert torch.equal(state_token(hidden[0]), state_token(hidden[1]))


def test_image_and_video_are_told_apart(dit: ActionDiT):
    """The same tokens as image and as video are different news."""
    known = conditions()
    few = Tokens(known.image.data[:, :3], torch.ones(2, 3, dtype=torch.bool))
    video = Tokens(known.video.data, few.mask)
    with torch.no_grad():
        dit.image_type.mul_(10)
    first = predict(dit, Conditions(known.text, few, video))
    assert not torch.allclose(first, predict(dit, Conditions(known.text, video, few)), atol=1e-4)


def test_state_age_timestep_and_order_of_actions_matter(dit: ActionDiT):
    known = conditions()
    base = predict(dit, known)
    noisy = randn(2, HORIZON, 2, seed=5)
    for other in (
        predict(dit, known, state=randn(2, 3, seed=9)),
        predict(dit, known, staleness=0.2),
        predict(dit, known, timestep=400.0),
        predict(dit, known, noisy=noisy.flip(1)).flip(1),
    ):
        assert ((base - other).abs().amax(dim=(1, 2)) > 1e-5).all()


def test_the_age_of_a_condition_is_read_in_milliseconds(dit: ActionDiT):
    """Seconds would change no other test, and every trained policy's meaning."""
    seen = []
    dit.staleness_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predict(dit, conditions(), staleness=0.137)
    expected = sinusoidal_embedding(torch.full((2,), 137.0), dit.sinusoids)
    assert torch.allclose(seen[0], expected, atol=1e-4)


def test_a_hidden_state_says_nothing_and_is_no_state_of_zeros(dit: ActionDiT):
    hidden = torch.zeros(2, 1)
    first, second = (predict(dit, conditions(), state=randn(2, 3, seed=seed), has_state=hidden) for seed in (0, 1))
    assert torch.equal(first, second)
    zeros = predict(dit, conditions(), state=torch.zeros(2, 3))
    assert not torch.allclose(first, zeros, atol=1e-4)


def test_keys_and_values_used_again_equal_those_computed_again(dit: ActionDiT):
    known, state, age = conditions(), randn(2, 3), torch.full((2,), 0.1)
    once = dit.project(known, state, has_state=HAS_STATE, staleness=age)
    for step in range(3):
        noisy, timestep = randn(2, HORIZON, 2, seed=step), torch.full((2,), 300.0 * step)
        again = dit(noisy, timestep, dit.project(known, state, has_state=HAS_STATE, staleness=age))
        assert torch.allclose(dit(noisy, timestep, once), again, atol=1e-6)


def test_noise_draws_that_share_a_condition_equal_repeated_conditions(dit: ActionDiT):
    known, state, age = conditions(), randn(2, 3), torch.tensor([0.1, 0.3])
    noisy, timestep = randn(6, HORIZON, 2), 100 * torch.arange(6).float()
    shared = dit(noisy, timestep, dit.project(known, state, has_state=HAS_STATE, staleness=age))

    def repeat(x: Tensor) -> Tensor:
        return x.repeat_interleave(3, dim=0)

    repeated = Conditions(*(Tokens(repeat(t.data), repeat(t.mask)) for t in (known.text, known.image, known.video)))
    one_each = dit(
        noisy, timestep, dit.project(repeated, repeat(state), has_state=repeat(HAS_STATE), staleness=repeat(age))
    )
    assert torch.allclose(shared, one_each, atol=1e-5)


def test_with_everything_hidden_it_is_finite(dit: ActionDiT):
    def hide(tokens: Tokens) -> Tokens:
        return Tokens(tokens.data, torch.zeros_like(tokens.mask))

    known = conditions()
    hidden = Conditions(hide(known.text), hide(known.image), hide(known.video))
    out = predict(dit, hidden, has_state=torch.zeros(2, 1))
    assert out.isfinite().all()
    out.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in dit.parameters())


def test_hidden_tokens_equal_no_tokens(dit: ActionDiT):
    """A blind control sends no tokens; training with dropout hid them."""
    known = conditions()
    hidden = [Tokens(t.data, torch.zeros_like(t.mask)) for t in (known.image, known.video)]
    none = Tokens.empty(2, WIDTH, like=known.text.data)
    first, second = predict(dit, Conditions(known.text, *hidden)), predict(dit, Conditions(known.text, none, none))
    assert torch.allclose(first, second, atol=1e-6)


def test_the_age_of_a_condition_is_told_in_milliseconds(dit: ActionDiT):
    """In seconds, all ages that a robot meets would look alike to the sinusoids."""
    told: list[Tensor] = []
    dit.staleness_in.register_forward_pre_hook(lambda module, given: told.append(given[0]))
    for staleness in (0.0, 0.05, 0.4):
        predict(dit, conditions(), staleness=staleness)
    for features, milliseconds in zip(told, (0.0, 50.0, 400.0), strict=True):
        expected = sinusoidal_embedding(torch.full((2,), milliseconds), WIDTH)
        torch.testing.assert_close(features, expected, atol=1e-4, rtol=0)


def test_where_the_clock_tells_the_rate_the_age_adds_nothing_until_it_is_trained():
    """So weights that were trained without it mean what they meant."""
    torch.manual_seed(0)
    dit = ActionDiT(
        action_dim=2,
        state_dim=3,
        horizon=HORIZON,
        width=WIDTH,
        depth=4,
        num_heads=4,
        form=DitConfig(clock="frequency"),
        marks_committed=True,
    )
    assert not dit.staleness_in(randn(3, dit.sinusoids)).any()
    assert dit.committed_mark is not None
    assert not dit.committed_mark.any()
    told = []
    dit.frequency_in.register_forward_pre_hook(lambda _, inputs: told.append(inputs[0]))
    ages = torch.tensor([0.1, 0.9])
    dit.project(conditions(), randn(2, 3), has_state=HAS_STATE, staleness=ages, fps=torch.full((2,), 25.0))
    assert torch.allclose(told[0], sinusoidal_embedding(torch.full((2,), 25.0), dit.sinusoids))
    with pytest.raises(ValueError, match="clock is the control rate; pass fps"):
        dit.project(conditions(), randn(2, 3), has_state=HAS_STATE, staleness=ages)
