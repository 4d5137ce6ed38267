"""What published video models are told of a clip, in their own units, and what their answers mean."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import published_models
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones import make_backbone
from video2act.types import Video


def load(name: Any, root: Path) -> Any:
    getattr(published_models, f"write_{name}")(root)
    config = PretrainedBackboneConfig(name, str(root), (1,), dtype="float32", text_cache=str(root / "text"))
    return make_backbone(config, whole=True)


def told(backbone: Any, monkeypatch: pytest.MonkeyPatch, level: Tensor) -> tuple[list[Any], Tensor]:
    """The tensors that the transformer is given for a clip of two latents, and the flow."""
    seen: list[Any] = []
    forward = backbone.transformer.forward

    def listen(*arguments: Any, **named: Any) -> Any:
        seen.extend(value for value in (*arguments, *named.values()) if isinstance(value, Tensor))
        return forward(*arguments, **named)

    monkeypatch.setattr(backbone.transformer, "forward", listen)
    size = 8 * backbone.config.grid.patch
    channels = backbone.vae.config.z_dim if "z_dim" in backbone.vae.config else backbone.vae.config.latent_channels
    noisy = Video(torch.randn(1, channels, level.shape[1], size // 4, size // 2), 5.0)
    with torch.no_grad():
        return seen, backbone.velocity(noisy, level, instruction=["push"]).grid


@pytest.mark.parametrize(
    ("name", "expected"), [("wan21", 250.0), ("wan22", 250.0), ("hunyuan", 250.0), ("ltx", 250.0), ("cosmos", 0.25)]
)
def test_a_noise_level_in_each_familys_unit(name: str, expected: float, tmp_path: Path, monkeypatch):
    backbone = load(name, tmp_path)
    seen, flow = told(backbone, monkeypatch, torch.full((1, 2), 0.25))
    assert any(torch.equal(value.float(), torch.full_like(value.float(), expected)) for value in seen)
    assert flow.isfinite().all()


@pytest.mark.parametrize("name", ["wan22", "ltx"])
def test_a_level_per_frame_goes_to_the_tokens_of_that_frame(name: str, tmp_path: Path, monkeypatch):
    backbone = load(name, tmp_path)
    seen, _ = told(backbone, monkeypatch, torch.tensor([[0.0, 0.5]]))
    timesteps = next(value for value in seen if value.ndim == 2 and value.shape[1] % 2 == 0 and (value == 500).any())
    half = timesteps.shape[1] // 2
    assert (timesteps[:, :half] == 0).all()
    assert (timesteps[:, half:] == 500).all()


def test_hunyuan_is_told_a_guidance_of_1(tmp_path: Path, monkeypatch):
    backbone = load("hunyuan", tmp_path)
    seen, _ = told(backbone, monkeypatch, torch.full((1, 2), 0.25))
    assert backbone.transformer.config.guidance_embeds
    assert any(torch.equal(value.float(), torch.tensor([1000.0])) for value in seen)


@pytest.mark.parametrize("number", [0, 250, 999])
def test_cogvideox_is_shown_the_circle_and_answers_with_a_velocity(number: int, tmp_path: Path, monkeypatch):
    backbone = load("cogvideox", tmp_path)
    level = backbone.levels[number]
    alpha, sigma = (part / ((1 - level) ** 2 + level**2).sqrt() for part in (1 - level, level))
    channels = backbone.vae.config.latent_channels
    clean, noise = torch.randn(2, 1, channels, 3, 8, 8)
    seen: list[Tensor] = []

    def answer(hidden: Tensor, text: Tensor, timestep: Tensor, **named: Any) -> tuple[Tensor]:
        seen.extend((hidden, timestep))
        return ((alpha * noise - sigma * clean).transpose(1, 2),)

    monkeypatch.setattr(backbone.transformer, "forward", answer)
    noisy = Video((1 - level) * clean + level * noise, 5.0)
    flow = backbone.velocity(noisy, level.expand(1, 3), instruction=["push"]).grid
    assert torch.allclose(seen[0], (alpha * clean + sigma * noise).transpose(1, 2), atol=1e-5)
    assert seen[1].tolist() == [number]
    assert torch.allclose(flow, noise - clean, atol=1e-4)
