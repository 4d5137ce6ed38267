"""A checkout of the released code beside ours: modules with the same random weights, on the same inputs.

`video2act bench --official PATH` times each pair in turns. The modules are imported from the checkout, so its
requirements must be installed (timm, einops). Sizes are between `tiny` and the paper's, for a CPU.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from video2act.config import NormForm, PretrainedBackboneConfig
from video2act.layers import RmsNorm
from video2act.system2.backbones import make_backbone
from video2act.text.cache import TextEmbeddings
from video2act.types import Conditions, Tokens, Video
from video2act_released.checkout import find_checkout
from video2act_released.core import action_transformer

WIDTH, DEPTH, HEADS, HORIZON = 512, 8, 8, 64
NUM_TEXT, NUM_IMAGE, NUM_VIDEO = 32, 1092, 294
TIMESTEPS = (999.0, 799.0, 599.0, 400.0, 200.0)
"""of five denoising steps"""
WAN: dict[str, Any] = {"dim": 256, "num_heads": 2, "ffn_dim": 1024, "num_layers": 6, "in_dim": 48, "out_dim": 48}
WAN |= {"text_dim": 512, "freq_dim": 256, "eps": 1e-6, "patch_size": (1, 2, 2), "has_image_input": False}
VAE_WIDTH, LAYERS, PADDED = 32, 4, 512
CLIPS = {"one frame of 256 x 416 px": (1, 256, 416), "17 frames of 128 x 128 px": (17, 128, 128)}
SENTENCE = "pick up the bottle"


@dataclass(frozen=True)
class Pair:
    """One module of both, without gradients."""

    name: str
    theirs: Callable[[], Tensor]
    ours: Callable[[], Tensor]


def load_pairs(checkout: Path) -> list[Pair]:
    """Both sides of each module.

    Args:
        checkout: of the released code's repository, or its folder policy/video2act.
    Raises:
        FileNotFoundError: it is no such checkout.
        ImportError: something that the released code imports is not installed.
    """
    torch.manual_seed(0)
    with _modules_of(find_checkout(checkout)):
        return [_action_transformer(), *_video_model()]


@contextmanager
def _modules_of(root: Path) -> Iterator[None]:
    """Inside, `models` and `third_party` are the checkout's."""
    sys.path.insert(0, str(root))
    try:
        yield
    except ModuleNotFoundError as error:
        problem = f"the released code imports {error.name}, which is not installed"
        raise ImportError(f"{problem}: pip install timm==1.0.3 einops") from error
    finally:
        sys.path.remove(str(root))


def _action_transformer() -> Pair:
    """Five denoising steps on one condition, of which theirs makes keys and values anew in each."""
    core = import_module("models.action_core.model").Video2ActCore
    sizes = {"horizon": HORIZON, "hidden_size": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    lengths = {"max_lang_cond_len": NUM_TEXT, "img_cond_len": NUM_IMAGE, "video_compressed_tokens": NUM_VIDEO}
    theirs = core(**sizes, **lengths, dtype=torch.float32).eval().requires_grad_(False)
    torch.nn.init.normal_(theirs.final_layer.ffn_final.fc2.weight, std=0.02)  # it begins as zero
    ours = action_transformer(theirs.state_dict(), num_heads=HEADS, norm=_norm_form()).requires_grad_(False)
    tokens, text = torch.randn(1, HORIZON + 1, WIDTH), torch.randn(1, NUM_TEXT, WIDTH)
    image, video = torch.randn(1, NUM_IMAGE, WIDTH), torch.randn(1, NUM_VIDEO, WIDTH)
    rate, zero = torch.tensor([25.0]), torch.zeros(1, 1)
    conditions = Conditions(*map(Tokens.all_visible, (text, image, video)))

    def released() -> Tensor:
        return torch.stack([theirs(tokens, rate, torch.tensor([t]), text, image, video) for t in TIMESTEPS])

    def here() -> Tensor:
        projected = ours.project(conditions, zero, has_state=zero, staleness=zero[:, 0], fps=rate)
        projected = replace(projected, state=tokens[:, :1])
        steps = [ours.denoise(tokens[:, 1:], torch.tensor([t]), conditions=projected) for t in TIMESTEPS]
        return torch.stack(steps)

    return Pair("System 1: five denoising steps", released, here)


def _norm_form() -> NormForm:
    """How the installed timm computes RMS: version 1.0.3 by the variance."""
    found = import_module("models.action_core.blocks").RmsNorm(8, eps=1e-6)
    probe = torch.arange(8.0)[None]
    forms: tuple[NormForm, NormForm] = ("variance", "rms")
    return next(form for form in forms if torch.allclose(RmsNorm(8, form)(probe), found(probe), atol=1e-4))


def _video_model() -> Iterator[Pair]:
    """The video VAE and the first blocks of the transformer; ours from files that hold theirs."""
    wan = import_module("models.wan.wan_video_dit").WanModel
    network = wan(**WAN, require_vae_embedding=False, require_clip_embedding=False).eval()
    whole = import_module("models.wan_feature_adapter").WanActionTransformer
    theirs = whole(network, feature_extraction_layers=LAYERS, dtype=torch.float32).requires_grad_(False)
    vae = import_module("third_party.lightewm_minimal.wan_video_vae").WanVideoVAE38(dim=VAE_WIDTH)
    text = torch.randn(12, WAN["text_dim"])
    backbone = _same_backbone(network.state_dict(), vae.model.state_dict(), text=text)
    padded = torch.zeros(1, PADDED, WAN["text_dim"])
    padded[0, : len(text)] = text
    for name, (frames, height, width) in CLIPS.items():
        pixels = Video(torch.rand(1, 3, frames, height, width) * 2 - 1, 16.0)
        latents = backbone.encode(pixels)

        def encode(pixels: Video = pixels) -> Tensor:
            return vae.model.encode(pixels.grid, vae.scale)

        def look(latents: Video = latents) -> Tensor:
            hidden, _ = theirs(latents.grid, torch.zeros(1), padded)
            return hidden

        def look_here(latents: Video = latents) -> Tensor:
            return backbone.features(latents, [SENTENCE]).grid.flatten(2).transpose(1, 2)

        yield Pair(f"System 2: encode {name}", encode, lambda pixels=pixels: backbone.encode(pixels).grid)
        yield Pair(f"System 2: features of {name}", look, look_here)


def _same_backbone(transformer: dict[str, Tensor], vae: dict[str, Tensor], *, text: Tensor) -> Any:
    """Our backbone of a folder in the layout of Wan's original files, with these weights."""
    with tempfile.TemporaryDirectory() as place:
        root, embeddings = Path(place) / "wan", Path(place) / "text"
        root.mkdir()
        embeddings.mkdir()
        save_file(transformer, root / "diffusion_pytorch_model.safetensors")
        (root / "config.json").write_text(json.dumps({"num_heads": WAN["num_heads"]}))
        torch.save(vae, root / "Wan2.2_VAE.pth")
        path = TextEmbeddings(embeddings, None, width=WAN["text_dim"], missing="").path(SENTENCE)
        assert path is not None
        save_file({"tokens": text}, path)
        form: dict[str, Any] = {"feature_norm": "none", "dtype": "float32", "text_cache": str(embeddings)}
        backbone = make_backbone(PretrainedBackboneConfig("wan22", str(root), feature_layers=(LAYERS,), **form))
        backbone.check_instruction(SENTENCE)  # reads the embedding, while its file is there
    return backbone.requires_grad_(False)
