"""What reaches the transformers of published models is what diffusers' own pipelines would give them: text, masks,
positions."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXPipeline,
    Cosmos2VideoToWorldPipeline,
    HunyuanVideoPipeline,
    LTXPipeline,
    WanPipeline,
)
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, LlamaModel, T5EncoderModel, UMT5EncoderModel

import published_models
from video2act.config import PretrainedBackboneConfig
from video2act.system2.backbones import make_backbone
from video2act.types import Video

TEXT = "push the red block to the goal"


def load(name: Any, root: Path) -> Any:
    return make_backbone(
        PretrainedBackboneConfig(name, str(root), (1,), dtype="float32", text_cache=str(root / "text"))
    )


def pipeline(root: Path, encoder: Any) -> Any:
    """As much of a pipeline as its text methods read."""
    text_encoder = encoder.from_pretrained(root / "text_encoder").eval()
    return SimpleNamespace(text_encoder=text_encoder, tokenizer=AutoTokenizer.from_pretrained(root / "tokenizer"))


def embeds(kind: Any, root: Path, encoder: Any, max_tokens: int) -> Any:
    arguments = {
        "prompt": [TEXT],
        "max_sequence_length": max_tokens,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    with torch.no_grad():
        return kind._get_t5_prompt_embeds(pipeline(root, encoder), **arguments)


FAMILIES: list[tuple[str, Callable[[Path], Path], Any, Any, int]] = [
    ("wan21", published_models.write_wan21, WanPipeline, UMT5EncoderModel, 512),
    ("cogvideox", published_models.write_cogvideox, CogVideoXPipeline, T5EncoderModel, 226),
    ("ltx", published_models.write_ltx, LTXPipeline, T5EncoderModel, 128),
    ("cosmos", published_models.write_cosmos, Cosmos2VideoToWorldPipeline, T5EncoderModel, 512),
]


@pytest.mark.parametrize(
    ("name", "write", "kind", "encoder", "max_tokens"), FAMILIES, ids=[family[0] for family in FAMILIES]
)
def test_t5_embeddings(name: str, write: Any, kind: Any, encoder: Any, max_tokens: int, tmp_path: Path):
    root = write(tmp_path)
    theirs = embeds(kind, root, encoder, max_tokens)
    ours = load(name, root)._embed([TEXT], torch.device("cpu"))
    tokens, mask = theirs if isinstance(theirs, tuple) else (theirs, None)
    assert torch.allclose(ours["tokens"], tokens, atol=1e-5)
    assert tokens.abs().max() > 0.1
    if mask is not None:
        assert torch.equal(ours["mask"], mask.bool())


def test_embeddings_of_hunyuan(tmp_path: Path):
    root = published_models.write_hunyuan(tmp_path)
    ours = load("hunyuan", root)._embed([TEXT], torch.device("cpu"))
    theirs = pipeline(root, LlamaModel)
    template = DEFAULT_PROMPT_TEMPLATE["template"]
    # of this tokenizer; of LLaMA's it is 95
    before = len(theirs.tokenizer(template.partition("{}")[0]).input_ids)
    with torch.no_grad():
        tokens, mask = HunyuanVideoPipeline._get_llama_prompt_embeds(
            theirs,
            [TEXT],
            {"template": template, "crop_start": before},
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
        clip = SimpleNamespace(
            text_encoder_2=CLIPTextModel.from_pretrained(root / "text_encoder_2").eval(),
            tokenizer_2=AutoTokenizer.from_pretrained(root / "tokenizer_2"),
        )
        pooled = HunyuanVideoPipeline._get_clip_prompt_embeds(
            clip,  # type: ignore[arg-type]
            [TEXT],
            device=torch.device("cpu"),
            dtype=torch.float32,
        )
    assert torch.equal(ours["mask"], mask.bool())
    seen = mask.bool()[0]  # the transformer never sees the others
    assert torch.allclose(ours["tokens"][0, seen], tokens[0, seen], atol=1e-5)
    assert torch.allclose(ours["pooled"], pooled, atol=1e-5)


@pytest.mark.parametrize("version", ["cogvideox", "cogvideox15"])
@pytest.mark.parametrize(("h", "w"), [(4, 4), (8, 8), (4, 8), (6, 4)])
def test_positions_of_cogvideox(version: str, h: int, w: int, tmp_path: Path):
    write = {"cogvideox": published_models.write_cogvideox, "cogvideox15": published_models.write_cogvideox15}[version]
    backbone = load(version, write(tmp_path))
    ours = backbone._rotary(torch.zeros(1, 4, 4, h, w))
    theirs = CogVideoXPipeline._prepare_rotary_positional_embeddings(
        SimpleNamespace(transformer=backbone.transformer, vae_scale_factor_spatial=8),  # type: ignore[arg-type]
        8 * h,
        8 * w,
        4,
        torch.device("cpu"),
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_ltx_is_told_seconds_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As its pipeline tells it: frames of the video per second, 8 of them and 32 pixels to a latent."""
    backbone = load("ltx", published_models.write_ltx(tmp_path))
    told: dict[str, Any] = {}
    forward = backbone.transformer.forward

    def listen(*arguments: Any, **named: Any) -> Any:
        told.update(named)
        return forward(*arguments, **named)

    monkeypatch.setattr(backbone.transformer, "forward", listen)
    frame_rate = 25.0
    backbone.features(Video(torch.zeros(1, 8, 3, 2, 2), frame_rate / 8), [TEXT])
    assert told["rope_interpolation_scale"] == (8 / frame_rate, 32, 32)
    assert (told["num_frames"], told["height"], told["width"]) == (3, 2, 2)


def test_latents_are_normalised_as_the_pipelines_undo_it(tmp_path: Path):
    latents = torch.randn(1, 8, 2, 2, 2)
    backbone = load("ltx", published_models.write_ltx(tmp_path))
    vae = backbone.vae
    undone: Tensor = LTXPipeline._denormalize_latents(
        backbone.normalise(latents), vae.latents_mean, vae.latents_std, vae.config.scaling_factor
    )
    assert torch.allclose(undone, latents, atol=1e-6)
    assert torch.allclose(backbone.restore(backbone.normalise(latents)), latents, atol=1e-6)
