"""Units and constants that trained weights depend on: another value changes no shape, and every policy's meaning."""

import pytest
import torch
from torch import nn

import published_models
from video2act.config import BackboneConfig, PretrainedBackboneConfig
from video2act.frames import GREY
from video2act.layers import grid_embedding, sinusoidal_embedding
from video2act.system2.backbones import TinyBackbone, make_backbone
from video2act.system2.backbones.published import family
from video2act.types import Video


def test_the_tiny_model_reads_noise_levels_on_a_scale_of_1000(small_backbone: BackboneConfig):
    torch.manual_seed(0)
    model, seen = TinyBackbone(small_backbone), []
    model.noise_in.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    level = torch.tensor([[0.0, 0.25, 1.0]])
    noisy = Video(torch.randn(1, small_backbone.latent_channels, 3, 2, 2), 5.0)
    model.velocity(noisy, level, instruction=["push"])
    expected = sinusoidal_embedding(torch.tensor([[0.0, 250.0, 1000.0]]), small_backbone.hidden)
    assert torch.allclose(seen[0], expected, atol=1e-4)


@pytest.mark.parametrize(("name", "writer"), [("ltx", "write_ltx"), ("wan22", "write_wan22")])
def test_published_models_read_them_on_a_scale_of_1000_too(tmp_path, name: str, writer: str):
    root = getattr(published_models, writer)(tmp_path / name)
    config = PretrainedBackboneConfig(name, str(root), (1,), dtype="float32", text_cache=str(tmp_path / "text"))
    model, seen = make_backbone(config, whole=True), []
    assert isinstance(model, nn.Module)
    model.transformer.register_forward_pre_hook(  # type: ignore[operator, union-attr]
        lambda _, inputs, named: seen.extend([*inputs, *named.values()]), with_kwargs=True
    )
    latents = model.encode(Video(torch.rand(1, 3, 9, 64, 64) * 2 - 1, 20.0))
    level = torch.full((1, latents.grid.shape[2]), 0.25)
    model.velocity(latents, level, instruction=["push"])
    tensors = [value.float() for value in seen if isinstance(value, torch.Tensor)]
    assert any(torch.equal(tensor, torch.full_like(tensor, 250.0)) for tensor in tensors)


def test_the_families_schedules_have_1000_timesteps():
    for name in ("wan21", "hunyuan", "ltx"):
        module = __import__(family(name).__module__, fromlist=["TIMESTEPS"])
        assert module.TIMESTEPS == 1000


def test_bars_are_as_grey_as_siglips_training_saw_them():
    assert GREY == 127


def test_rows_and_columns_have_32_periods_across_a_picture():
    """So a model reads grids of several sizes: the middle of a grid is the same place in all of them."""
    device = torch.device("cpu")
    small = grid_embedding(1, 3, 3, width=24, device=device).view(3, 3, 24)
    large = grid_embedding(1, 9, 15, width=24, device=device).view(9, 15, 24)
    assert torch.allclose(small[1, 1], large[4, 7], atol=1e-6)
    assert torch.allclose(small[1, 1, 8:16], sinusoidal_embedding(torch.tensor([32.0]), 8, max_period=100.0)[0])
