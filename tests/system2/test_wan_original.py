"""Wan's original files: equal to what the released code computes from them, and to diffusers' folder of the same
model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from published_models import (
    original_transformer,
    original_vae,
    stir,
    wan22_vae,
    write_original,
    write_wan21,
    write_wan22,
)
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones import make_backbone, wan_original
from video2act.system2.backbones.checkpoint import fill
from video2act.system2.backbones.tap import Cut, Tap, empty, load_transformer
from video2act.system2.backbones.wan import use_exact_timesteps
from video2act.types import Video

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"
TOLERANCE = 2e-5


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Description, weights and expected tensors of a fixture recorded with the released code."""
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    weights = {key.removeprefix("sd."): tensor for key, tensor in tensors.items() if key.startswith("sd.")}
    return json.loads((GOLDEN / f"{name}.json").read_text()), weights, tensors


class TestParityWithTheReleasedCode:
    @pytest.fixture
    def dit(self, tmp_path: Path) -> Path:
        described, weights, _ = golden("wan_dit")
        save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"num_heads": described["config"]["num_heads"]}))
        return tmp_path

    @pytest.mark.parametrize(
        ("expected", "layers", "context", "timestep"),
        [
            ("tokens.layers1_t0", 1, "context", (0.0, 0.0)),
            ("tokens.layers2_t0", 2, "context", (0.0, 0.0)),
            ("tokens.layers3_t0", 3, "context", (0.0, 0.0)),
            ("tokens.layers2_t7_500", 2, "context", (7.0, 500.0)),
            ("tokens.layers2_t0_zeroctx9", 2, "zeros", (0.0, 0.0)),
        ],
    )
    def test_features_of_the_transformer(
        self, dit: Path, expected: str, layers: int, context: str, timestep: tuple[float, ...]
    ):
        tensors = golden("wan_dit")[2]
        component = wan_original.transformer(dit)
        transformer = load_transformer(
            WanTransformer3DModel, component, cut=Cut(("blocks",), (layers,)), dtype=torch.float32
        )
        use_exact_timesteps(transformer)
        tap = Tap(transformer, Cut(("blocks",), (layers,)), returns_pair=False)
        text = tensors["context"] if context == "context" else torch.zeros(2, 9, tensors["context"].shape[-1])
        with torch.no_grad(), tap() as recorders:
            transformer(tensors["latent"], torch.tensor(timestep), text)
            tokens = recorders[0].take()
        difference = (tokens - tensors[expected]).abs().max()
        print(f"{expected}: {difference:.1e}")
        assert difference <= TOLERANCE

    def test_the_whole_transformer(self, dit: Path):
        """The released head adds the time embedding to the wrong axis: of a batch of two, the first clip's shifts both
        and the
        second's scales both. It is put in here; the library's head is diffusers', where each clip has its own."""
        tensors = golden("wan_dit")[2]
        transformer: Any = load_transformer(
            WanTransformer3DModel,
            wan_original.transformer(dit),
            cut=None,
            dtype=torch.float32,
        )
        use_exact_timesteps(transformer)
        timestep = torch.tensor([7.0, 500.0])
        time = transformer.condition_embedder(timestep, tensors["context"], None)[0]
        released = transformer.scale_shift_table[0] + time  # row 0 shifts, row 1 scales
        with torch.no_grad():
            outputs = []
            for i in range(2):
                transformer.scale_shift_table.copy_((released - time[i])[None])
                one = slice(i, i + 1)
                outputs.append(transformer(tensors["latent"][one], timestep[one], tensors["context"][one]).sample)
        assert (torch.cat(outputs) - tensors["full_forward.t7_500"]).abs().max() <= TOLERANCE

    def test_latents_of_the_vae(self, tmp_path: Path):
        _, weights, tensors = golden("vae_encoder")
        decoder = {name: tensor for name, tensor in original_vae(wan22_vae(6, 6)).items() if name not in weights}
        torch.save(weights | decoder, tmp_path / "Wan2.2_VAE.pth")
        component = wan_original.vae(tmp_path)
        vae: Any = empty(AutoencoderKLWan, component.config)
        fill(vae, component.checkpoint, dtype=torch.float32)
        mean, std = (torch.tensor(vae.config[f"latents_{which}"])[:, None, None, None] for which in ("mean", "std"))
        for clip in ("video", "image"):
            with torch.no_grad():
                latents = (vae.encode(tensors[clip][None]).latent_dist.mode() - mean) / std
            difference = (latents - tensors[f"{clip}.latent"]).abs().max()
            print(f"{clip}: {difference:.1e}")
            assert difference <= TOLERANCE


@pytest.mark.parametrize(("family", "write"), [("wan21", write_wan21), ("wan22", write_wan22)])
def test_original_files_and_diffusers_folder_are_one_model(family: Any, write: Any, tmp_path: Path):
    root = write(tmp_path / "diffusers")
    original = write_original(tmp_path / "original", root)
    pixels = Video(2 * torch.rand(1, 3, 5, 64, 64, generator=torch.Generator().manual_seed(0)) - 1, 20.0)
    results = []
    for source in (root, original):
        config = PretrainedBackboneConfig(family, str(source), (2,), dtype="float32", text_cache=str(source / "text"))
        backbone = make_backbone(config)
        with torch.no_grad():
            latents = backbone.vae.encode(pixels.grid).latent_dist.mode()  # type: ignore[attr-defined]
            features = backbone.features(Video(latents, 5.0), ["push the block"]).grid
        results.append((latents, features))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1], atol=1e-5)


@pytest.mark.parametrize("layout", ["a .pth", "shards without an index"])
def test_the_transformer_may_come_otherwise(layout: str, tmp_path: Path):
    original = write_original(tmp_path / "original", write_wan21(tmp_path / "diffusers"))
    whole = original / "diffusion_pytorch_model.safetensors"
    tensors, expected = load_file(whole), wan_original.transformer(original)
    whole.unlink()
    if layout == "a .pth":
        torch.save(tensors, original / "wan_dit.pth")
    else:
        names = sorted(tensors)
        for number, part in enumerate((names[:20], names[20:])):
            save_file({name: tensors[name] for name in part}, original / f"model-0000{number}.safetensors")
    found = wan_original.transformer(original)
    assert found.config == expected.config
    assert found.checkpoint.shapes == expected.checkpoint.shapes
    name = "blocks.0.attn1.to_q.weight"
    assert torch.equal(dict(found.checkpoint.read([name]))[name], tensors["blocks.0.self_attn.q.weight"])


class TestRefused:
    def test_a_config_of_another_size(self, tmp_path: Path):
        original = write_original(tmp_path / "original", write_wan21(tmp_path / "diffusers"))
        (original / "config.json").write_text(json.dumps({"num_heads": 2, "dim": 1536}))
        with pytest.raises(ValueError, match=r"config\.json says dim=1536, but the weights in .* have 24"):
            wan_original.transformer(original)

    @pytest.mark.parametrize("num_heads", [0, -2, 5, "x", 2.0, True, None, [2]])
    def test_a_number_of_heads_that_is_none_or_does_not_divide_the_width(self, num_heads: Any, tmp_path: Path):
        original = write_original(tmp_path / "original", write_wan21(tmp_path / "diffusers"))
        (original / "config.json").write_text(json.dumps({"num_heads": num_heads}))
        said = re.escape(repr(num_heads))
        expected = rf"{original}/config\.json says num_heads={said}, expected a whole number that divides 24, the width"
        if num_heads is None:
            expected = (
                rf"is 24 wide, which is no number of heads of 128, and {original}/config\.json does not say how many"
            )
        with pytest.raises(ValueError, match=expected):
            wan_original.transformer(original)

    def test_a_width_below_one_head_without_a_config(self, tmp_path: Path):
        original = write_original(tmp_path / "original", write_wan21(tmp_path / "diffusers"))
        (original / "config.json").unlink()
        with pytest.raises(
            ValueError, match=r"diffusion_pytorch_model\.safetensors is 24 wide, .* put the config\.json beside"
        ):
            wan_original.transformer(original)

    def test_a_file_of_another_network(self, tmp_path: Path):
        torch.save({"some.weight": torch.zeros(2)}, tmp_path / "Wan2.1_VAE.pth")
        with pytest.raises(
            ValueError, match=r"Wan2\.1_VAE\.pth is not Wan's file of that name: expected encoder\.conv_in\.weight"
        ):
            wan_original.vae(tmp_path)

    def test_a_tensor_with_an_unknown_name(self, tmp_path: Path):
        transformer = stir(
            WanTransformer3DModel(num_attention_heads=1, attention_head_dim=12, ffn_dim=8, text_dim=8, num_layers=1)
        )
        state = original_transformer(transformer.state_dict()) | {"blocks.0.extra.weight": torch.zeros(3)}
        save_file(
            {name: tensor.contiguous() for name, tensor in state.items()},
            tmp_path / "diffusion_pytorch_model.safetensors",
        )
        (tmp_path / "config.json").write_text(json.dumps({"num_heads": 1}))
        with pytest.raises(ValueError, match=r"unexpected blocks\.0\.extra\.weight \[3\]"):
            load_transformer(
                WanTransformer3DModel,
                wan_original.transformer(tmp_path),
                cut=Cut(("blocks",), (1,)),
                dtype=torch.float32,
            )
