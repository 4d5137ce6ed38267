"""What published video models compute once, and single frames in two dimensions: the same numbers as without."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    WanTransformer3DModel,
)

from video2act.system2.backbones.first_frame import CONVOLUTIONS, use_flat_convolutions
from video2act.system2.backbones.kept_outputs import MAX_BYTES, keep_outputs
from video2act.system2.backbones.wan import WanBackbone

WIDTHS: Any = (8, 16, 16, 16)
VAES: dict[str, Any] = {
    "wan21": lambda: AutoencoderKLWan(base_dim=8),
    "hunyuan": lambda: AutoencoderKLHunyuanVideo(block_out_channels=WIDTHS, norm_num_groups=4),
    "ltx": lambda: AutoencoderKLLTXVideo(block_out_channels=WIDTHS, decoder_block_out_channels=WIDTHS),
    "cogvideox": lambda: AutoencoderKLCogVideoX(block_out_channels=WIDTHS, norm_num_groups=4),
}


@pytest.mark.parametrize("name", VAES)
@torch.no_grad()
def test_a_frame_alone_is_encoded_in_two_dimensions(name: str):
    torch.manual_seed(0)
    plain = VAES[name]().eval()
    flat = deepcopy(plain)
    use_flat_convolutions(flat.encoder)
    assert list(flat.state_dict()) == list(plain.state_dict())
    assert any(isinstance(module, CONVOLUTIONS) for module in flat.encoder.modules())
    for frames in (1, 9):
        clip = torch.rand(2, 3, frames, 64, 64) * 2 - 1
        found, expected = (vae.encode(clip).latent_dist.mode() for vae in (flat, plain))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


class TestKept:
    def make(self) -> tuple[Any, Any]:
        torch.manual_seed(0)
        sizes: dict[str, Any] = {
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "text_dim": 16,
            "ffn_dim": 32,
            "num_layers": 2,
        }
        plain: Any = WanTransformer3DModel(in_channels=4, out_channels=4, freq_dim=32, **sizes).eval()
        keeping = deepcopy(plain)
        keep_outputs(keeping, WanBackbone.OF_THE_TEXT)
        return plain, keeping

    @torch.no_grad()
    def test_what_was_kept_in_another_precision_is_not_returned(self):
        """Features of a model that learns run under autocast, its velocity does not: their dtypes clashed."""
        _, keeping = self.make()
        part = keeping.blocks[0].attn2.to_k
        text = torch.randn(1, 3, part.in_features)
        with torch.autocast("cpu", torch.bfloat16):
            assert part(text).dtype == torch.bfloat16
        assert part(text).dtype == torch.float32

    def test_the_instruction_is_read_once_and_the_numbers_are_the_same(self):
        plain, keeping = self.make()
        assert list(keeping.state_dict()) == list(plain.state_dict())
        calls = [0]
        keeping.condition_embedder.text_embedder.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
        texts, level = torch.randn(2, 1, 6, 16), torch.zeros(1)
        with torch.no_grad():
            for number in (0, 0, 1, 0):
                latents = torch.randn(1, 4, 1, 8, 8)
                found, expected = (each(latents, level, texts[number].clone())[0] for each in (keeping, plain))
                assert torch.equal(found, expected)
            assert calls == [3]
            for each in (keeping, plain):
                each.blocks[0].attn2.to_k.weight.mul_(2)
                each.condition_embedder.text_embedder.linear_1.weight.add_(1)
            found, expected = (each(latents, level, texts[0])[0] for each in (keeping, plain))
            assert torch.equal(found, expected), "weights that change are read again"

    def test_nothing_is_kept_while_weights_are_trained_or_batches_are_large(self):
        _, keeping = self.make()
        latents, level, text = torch.randn(1, 4, 1, 8, 8), torch.zeros(1), torch.randn(1, 6, 16)
        for _ in range(2):
            keeping(latents, level, text)[0].sum().backward()
        assert keeping.blocks[0].attn2.to_k.weight.grad is not None
        assert keeping.condition_embedder._kept is None
        with torch.no_grad():
            linear = keeping.blocks[0].attn2.to_k
            linear(torch.zeros(MAX_BYTES // (4 * 24) + 1, 24))
            assert linear._kept is None
            linear(torch.zeros(3, 24))
            assert linear._kept is not None
