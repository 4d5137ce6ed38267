import pytest
import torch
from torch import Tensor

from video2act.layers import (
    CrossAttention,
    Mlp,
    RmsNorm,
    SelfAttention,
    attention,
    grid_embedding,
    make_adaptor,
    sinusoidal_embedding,
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([[True, True, False, False, True], [True, False, False, False, False]])


class TestAttention:
    def test_change_the_padding_and_nothing_changes(self):
        query, key, value = randn(2, 4, 3, 8), randn(2, 4, 5, 8, seed=1), randn(2, 4, 5, 8, seed=2)
        hidden = ~MASK[:, None, :, None]
        other = attention(query, key + 100 * hidden, value=value - 100 * hidden, mask=MASK)
        assert torch.equal(attention(query, key, value=value, mask=MASK), other)

    def test_padding_equals_a_shorter_sequence(self):
        query, key, value = randn(1, 4, 3, 8), randn(1, 4, 5, 8, seed=1), randn(1, 4, 5, 8, seed=2)
        kept = MASK[0]
        assert torch.allclose(
            attention(query, key, value=value, mask=MASK[:1]),
            attention(query, key[:, :, kept], value=value[:, :, kept]),
            atol=1e-6,
        )

    def test_it_is_the_attention_of_pytorch(self):
        query, key, value = randn(2, 4, 3, 8), randn(2, 4, 5, 8, seed=1), randn(2, 4, 5, 8, seed=2)
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=MASK[:, None, None])
        assert torch.allclose(attention(query, key, value=value, mask=MASK), expected, atol=1e-6)

    def test_who_may_see_nothing_gets_zeros_and_a_finite_gradient(self):
        query, key, value = (randn(2, 4, 5, 8, seed=i).requires_grad_() for i in range(3))
        mask = MASK.clone()
        mask[1] = False
        out = attention(query, key, value=value, mask=mask)
        assert torch.equal(out[1], torch.zeros_like(out[1]))
        assert out[0].abs().sum() > 0
        out.square().sum().backward()
        for tensor in (query, key, value):
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()
            assert (tensor.grad[1] == 0).all()

    def test_a_sequence_of_no_tokens_gives_zeros(self):
        out = attention(
            randn(2, 4, 3, 8), randn(2, 4, 0, 8), value=randn(2, 4, 0, 8), mask=torch.zeros(2, 0, dtype=torch.bool)
        )
        assert torch.equal(out, torch.zeros(2, 4, 3, 8))


@pytest.fixture
def cross() -> CrossAttention:
    torch.manual_seed(0)
    return CrossAttention(16, num_heads=4, condition_width=6)


class TestCrossAttention:
    def test_change_the_padding_and_nothing_changes(self, cross: CrossAttention):
        x, data = randn(2, 3, 16), randn(2, 5, 6, seed=1)
        changed = torch.where(MASK[..., None], data, torch.tensor(1e4))
        assert torch.equal(cross(x, cross.project(data, MASK)), cross(x, cross.project(changed, MASK)))

    def test_the_same_projection_answers_again_and_again(self, cross: CrossAttention):
        condition = randn(2, 5, 6, seed=1)
        once = cross.project(condition, MASK)
        for seed in range(3):
            x = randn(2, 3, 16, seed=seed)
            assert torch.equal(cross(x, once), cross(x, cross.project(condition, MASK)))

    @pytest.mark.parametrize("mask", [MASK, None], ids=["mask", "no mask"])
    def test_several_queries_share_one_condition(self, cross: CrossAttention, mask: Tensor | None):
        condition, x = randn(2, 5, 6, seed=1), randn(6, 4, 16)
        repeated = cross.project(
            condition.repeat_interleave(3, dim=0), None if mask is None else mask.repeat_interleave(3, dim=0)
        )
        assert torch.allclose(cross(x, cross.project(condition, mask)), cross(x, repeated), atol=1e-6)

    def test_no_mask_shows_everything(self, cross: CrossAttention):
        condition, x = randn(2, 5, 6, seed=1), randn(2, 4, 16)
        everything = torch.ones(2, 5, dtype=torch.bool)
        assert torch.allclose(
            cross(x, cross.project(condition, None)), cross(x, cross.project(condition, everything)), atol=1e-6
        )

    @pytest.mark.parametrize("num_tokens", [0, 5])
    def test_nothing_to_see_says_the_same_to_every_query(self, cross: CrossAttention, num_tokens: int):
        x = randn(2, 3, 16).requires_grad_()
        out = cross(x, cross.project(randn(2, num_tokens, 6), torch.zeros(2, num_tokens, dtype=torch.bool)))
        assert torch.equal(out, cross.out.bias.expand_as(out))
        out.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in cross.parameters())

    def test_no_parameter_leaves_the_graph_when_there_is_nothing_to_see(self, cross: CrossAttention):
        """Training in several processes stops where a parameter takes no part in the loss."""
        x = randn(2, 3, 16)
        cross(x, cross.project(torch.zeros(2, 0, 6), torch.zeros(2, 0, dtype=torch.bool))).sum().backward()
        assert [name for name, parameter in cross.named_parameters() if parameter.grad is None] == []


def test_self_attention_treats_items_alone():
    torch.manual_seed(0)
    layer, x = SelfAttention(16, 4), randn(3, 5, 16)
    assert torch.allclose(layer(x), torch.cat([layer(item[None]) for item in x]), atol=1e-6)


def test_rms_norm_divides_by_the_root_mean_square_not_the_deviation():
    norm = RmsNorm(8)
    x = 3.0 + randn(2, 5, 8)
    assert torch.allclose(norm(x), x / x.square().mean(dim=-1, keepdim=True).add(1e-6).sqrt(), atol=1e-6)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


def test_the_variance_form_divides_by_the_deviation_but_leaves_the_mean():
    norm = RmsNorm(8, "variance")
    x = 3.0 + randn(2, 5, 8)
    assert torch.allclose(norm(x), x / x.var(dim=-1, keepdim=True).add(1e-6).sqrt(), atol=1e-5)
    assert not torch.allclose(norm(x), RmsNorm(8)(x), atol=0.1)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_an_adaptor_has_the_layers_its_word_says(num_layers: int):
    adaptor = make_adaptor(f"mlp{num_layers}x_gelu", 5, width_out=7)
    assert adaptor(randn(3, 5)).shape == (3, 7)
    assert sum(isinstance(module, torch.nn.Linear) for module in adaptor.modules()) == num_layers
    weights = [p for p in adaptor.parameters() if p.ndim == 2]
    x = randn(3, 5)
    for number, weight in enumerate(weights):
        x = x if number == 0 else torch.nn.functional.gelu(x, approximate="tanh")
        x = x @ weight.T + [p for p in adaptor.parameters() if p.ndim == 1][number]
    assert torch.allclose(adaptor(randn(3, 5)), x, atol=1e-6)


def test_an_mlp_has_the_sizes_it_is_told():
    assert Mlp(8)(randn(3, 8)).shape == (3, 8)
    assert Mlp(8, 16, out=2)(randn(3, 8)).shape == (3, 2)


class TestEmbeddings:
    def test_a_position_is_cosines_then_sines(self):
        embedded = sinusoidal_embedding(torch.tensor([0.0, 2.0]), 8)
        assert torch.equal(embedded[0], torch.tensor([1.0] * 4 + [0.0] * 4))
        assert embedded[1, 0] == pytest.approx(float(torch.cos(torch.tensor(2.0))))
        assert embedded[1, 4] == pytest.approx(float(torch.sin(torch.tensor(2.0))))

    @pytest.mark.parametrize("width", [32, 64, 128])
    @pytest.mark.parametrize("grid", [(1, 8, 8), (5, 8, 8), (3, 2, 2)])
    def test_every_cell_of_a_grid_has_its_own_place(self, grid: tuple[int, int, int], width: int):
        embedded = grid_embedding(*grid, width=width, device=torch.device("cpu"))
        t, h, w = grid
        assert embedded.shape == (t * h * w, width)
        distance = torch.cdist(embedded, embedded) + 1e3 * torch.eye(t * h * w)
        assert distance.min() > 0.1

    def test_cells_are_in_raster_order(self):
        embedded = grid_embedding(2, 3, 4, width=32, device=torch.device("cpu")).view(2, 3, 4, 32)
        temporal, spatial = 12, 10
        assert torch.equal(embedded[1, 0, 0, :temporal], embedded[1, 2, 3, :temporal])
        rows = embedded[..., temporal : temporal + spatial]
        assert torch.equal(rows[0, 1, 0], rows[1, 1, 3])
        columns = embedded[..., temporal + spatial :]
        assert torch.equal(columns[0, 0, 2], columns[1, 2, 2])
