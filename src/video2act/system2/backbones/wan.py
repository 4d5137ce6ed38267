"""Wan: 2.1 (1.3 and 14 billion parameters) and 2.2 TI2V-5B, from diffusers' folders or from the original files.

Flow matching. The 5B was trained with a noise level per token, so that a clip can have a clean first frame and a noisy
future; the others take that form, but were trained on one level per clip. `wan_small` is the same network, smaller,
trained from nothing. The text is padded with zeros to 512 tokens, which the transformer attends to, as in its training.
"""

import html
from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from video2act.config import PretrainedBackboneConfig
from video2act.config.backbone import WAN_TOKENS
from video2act.files.video_model import is_original
from video2act.system2.backbones import wan_original
from video2act.system2.backbones.pretrained import Embedding, Parts
from video2act.system2.backbones.text_encoders import diffusers_t5
from video2act.system2.backbones.wan_vae import OverWanVae
from video2act.system2.objectives import flow_error, is_one_level, logit_normal
from video2act.text.cache import TextEncoder
from video2act.types import Video
from video2act.video_backbone import Objective

TIMESTEPS = 1000
"""units of the noise level in the network's input"""

OBJECTIVES = {
    # text to video: one noise level per clip
    "wan21": Objective(logit_normal(3.0), flow_error, sampling_shift=3.0),
    # text to video, and image to video by a clean first frame at level 0
    "wan22": Objective(logit_normal(5.0), flow_error, max_given=1, sampling_shift=5.0),
    # ours, trained from nothing to continue any past
    "wan_small": Objective(logit_normal(3.0), flow_error, min_given=1, max_given=None),
}


class WanBackbone(OverWanVae):
    """`VideoBackbone` over `WanTransformer3DModel`."""

    TRANSFORMER = WanTransformer3DModel
    BLOCKS = ("blocks",)
    MAX_TOKENS = WAN_TOKENS
    TEXT_DIM = "text_dim"
    OF_THE_TEXT = ("condition_embedder", "blocks.*.attn2.to_[kv]", "blocks.*.attn2.norm_k")

    def __init__(self, config: PretrainedBackboneConfig, parts: Parts, *, whole: bool = False):
        super().__init__(config, parts, whole=whole)
        self.objective = OBJECTIVES[config.name]
        use_exact_timesteps(self.transformer)

    @classmethod
    def find(cls, root: Path) -> Parts:
        if is_original(root):
            return Parts(root, wan_original.transformer(root), wan_original.vae(root))
        return super().find(root)

    def text_folder(self) -> Path:
        # each small model has a text encoder of its own
        return self.root / "text" if self.config.name == "wan_small" else super().text_folder()

    def encoder_width(self) -> int | None:
        return wan_original.text_width(self.root) if is_original(self.root) else super().encoder_width()

    def text_encoder(self) -> TextEncoder:
        if is_original(self.root):
            return wan_original.text_encoder(self.root, self.dtype, max_tokens=self.max_tokens, clean=clean)
        return diffusers_t5(self.root, self.dtype, max_tokens=self.max_tokens, clean=clean)

    def run(self, noisy: Video, noise_level: Float[Tensor, "b t"], *, text: Embedding) -> Float[Tensor, "b c t h w"]:
        h, w = noisy.grid.shape[3:]
        timestep = TIMESTEPS * noise_level
        num_tokens = (h // self.config.grid.patch) * (w // self.config.grid.patch)  # of a frame
        # of one level the time embedding is computed once, not per token
        timestep = timestep[:, 0] if is_one_level(noise_level) else repeat(timestep, "b t -> b (t n)", n=num_tokens)
        return self.transformer(noisy.grid.to(self.dtype), timestep, text["tokens"]).sample


class ExactTimesteps(nn.Module):
    """Sinusoids of the timestep in float64, as in Wan's own code. In float32, diffusers' way, 500 is off by 3e-5."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, timestep: Float[Tensor, "n"]) -> Float[Tensor, "n d"]:
        half = self.width // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
        angle = timestep.double()[:, None] * frequency
        return torch.cat([angle.cos(), angle.sin()], dim=1).float()


def use_exact_timesteps(transformer: Any) -> None:
    transformer.condition_embedder.timesteps_proj = ExactTimesteps(transformer.config.freq_dim)


def clean(sentence: str) -> str:
    """Wan's authors undo html escapes and join white space. They also repair quotation marks and the like by ftfy,
    which is left out: write plain ones."""
    return " ".join(html.unescape(html.unescape(sentence)).split())
