from dataclasses import replace

import pytest
import torch
from einops import rearrange

from video2act.config import FormerConfig
from video2act.layers import attention, grid_embedding
from video2act.system2.former import Former, ResamplerAttention, make_former
from video2act.types import Video

CONFIG = FormerConfig(num_tokens=3, depth=2, num_heads=4)


@pytest.fixture
def former() -> Former:
    torch.manual_seed(0)
    return Former(CONFIG, feature_dim=12, token_dim=32)


def video(seed: int = 0, b: int = 2, t: int = 2, h: int = 3, w: int = 4) -> Video:
    return Video(torch.randn(b, 12, t, h, w, generator=torch.Generator().manual_seed(seed)), 5.0)


def test_a_grid_of_any_size_becomes_the_promised_tokens(former: Former):
    for t, size in ((1, 2), (5, 4)):
        tokens = former(video(t=t, h=size, w=size))
        assert tokens.data.shape == (2, CONFIG.num_tokens, 32)
        assert tokens.mask.all()


def test_a_former_that_never_reads_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        replace(CONFIG, depth=0)


def test_change_the_video_and_the_tokens_change(former: Former):
    assert (former(video(0)).data - former(video(1)).data).abs().mean() > 0.05


def test_every_cell_is_read(former: Former):
    grid = video(b=1).grid.requires_grad_()
    former(Video(grid, 5.0)).data.square().sum().backward()
    assert grid.grad is not None
    assert (grid.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("axis", [2, 3, 4], ids=["frame", "row", "column"])
def test_where_something_is_matters(former: Former, axis: int):
    """Without positions, cross-attention would not notice that cells changed places."""
    grid = video().grid
    assert (former(Video(grid, 5.0)).data - former(Video(grid.flip(axis), 5.0)).data).abs().mean() > 0.01


def test_tokens_differ_from_each_other(former: Former):
    data = former(video(b=1)).data[0]
    assert torch.cdist(data, data).add(torch.eye(3) * 10).min() > 0.1


def test_items_of_a_batch_are_alone(former: Former):
    whole = video(b=3)
    singles = [former(Video(whole.grid[i : i + 1], 5.0)).data for i in range(3)]
    assert torch.allclose(former(whole).data, torch.cat(singles), atol=1e-5)


def test_every_weight_learns(former: Former):
    former(video()).data.square().sum().backward()
    assert [name for name, p in former.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("norm", ["position", "clip"])
def test_how_strong_a_position_is_can_be_read(norm: str):
    """Boundaries and motion are magnitudes: where each position is normalised alone, what is weak arrives as strong."""
    torch.manual_seed(0)
    former = Former(replace(CONFIG, norm=norm), feature_dim=12, token_dim=32)
    grid = video(b=1).grid.clone()
    grid[..., 2:] *= 0.01  # the background, beside what moves
    silent = grid.clone()
    silent[..., 2:] = 0
    missing = (former(Video(grid, 5.0)).data - former(Video(silent, 5.0)).data).abs().mean()
    assert (missing < 0.02) == (norm != "position")


def test_projecting_the_queries_is_projecting_the_features():
    """The cheap order of the products gives what the textbook's order gives."""
    torch.manual_seed(0)
    cheap = ResamplerAttention(16, num_heads=4, feature_dim=6)
    queries, features = torch.randn(2, 3, 16), torch.randn(2, 50, 6)
    query, key, value = (
        rearrange(x, "b n (heads d) -> b heads n d", heads=4)
        for x in (cheap.query(queries), cheap.key(features), cheap.value(features))
    )
    expected = cheap.out(rearrange(attention(query, key, value=value), "b heads n d -> b n (heads d)"))
    assert torch.allclose(cheap(queries, features), expected, atol=1e-6)


def test_rows_and_columns_of_an_oblong_grid_keep_their_places():
    """Positions of rows and columns could change places unnoticed while every grid was square."""
    t, h, w, width = 2, 3, 5, 24
    grid = rearrange(grid_embedding(t, h, w, width=width, device=torch.device("cpu")), "(t h w) d -> t h w d", t=t, h=h)
    frame, row, column = grid[..., :8], grid[..., 8:16], grid[..., 16:]
    assert grid.shape == (t, h, w, width)
    assert torch.equal(frame, frame[:, :1, :1].expand(t, h, w, 8))
    assert torch.equal(row, row[:1, :, :1].expand(t, h, w, 8))
    assert torch.equal(column, column[:1, :1].expand(t, h, w, 8))
    for part, count in ((frame[:, 0, 0], t), (row[0, :, 0], h), (column[0, 0], w)):
        assert torch.cdist(part, part).add(9 * torch.eye(count)).min() > 0.1


def test_positions_are_added_in_the_order_in_which_cells_are_read(former: Former):
    """A former over an oblong grid equals one over the same cells with their positions written out."""
    wide = video(b=1, t=2, h=2, w=6)
    seen = {}
    former.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.update(read=inputs[1]))
    former(wide)
    positions = grid_embedding(2, 2, 6, width=12, device=torch.device("cpu"))
    for t, h, w in ((0, 0, 0), (0, 1, 0), (1, 0, 5), (1, 1, 3)):
        cell = torch.nn.functional.layer_norm(wide.grid[0, :, t, h, w], (12,))
        place = (t * 2 + h) * 6 + w
        assert torch.allclose(seen["read"][0, place], cell + positions[place], atol=1e-5)


class TestProjection:
    """Every feature becomes a token of its own."""

    @pytest.fixture
    def projection(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return make_former(FormerConfig(kind="projection"), feature_dim=12, token_dim=32)

    def test_there_is_a_token_per_feature(self, projection: torch.nn.Module):
        assert projection(video()).data.shape == (2, 24, 32)

    def test_items_of_a_batch_are_alone(self, projection: torch.nn.Module):
        alone = torch.cat([projection(Video(item[None], 5.0)).data for item in video().grid])
        assert torch.allclose(projection(video()).data, alone, atol=1e-5)

    def test_tokens_are_in_raster_order(self, projection: torch.nn.Module):
        seen = video(t=3, h=2, w=4)
        changed = Video(seen.grid.clone(), 5.0)
        changed.grid[:, :, 1, 1, 2] += 1
        difference = (projection(seen).data - projection(changed).data).abs().amax(dim=(0, 2))
        assert difference.nonzero().flatten().tolist() == [1 * 8 + 1 * 4 + 2]

    def test_every_weight_learns(self, projection: torch.nn.Module):
        projection(video()).data.square().sum().backward()
        assert [name for name, p in projection.named_parameters() if p.grad is None or not p.grad.any()] == []
