"""Frozen encoders from transformers, as in RDT-1B: T5 for the instruction, SigLIP for the cameras.

Neither is part of the policy's weights: a run folder names their source, a folder or a repo id. They are loaded at the
first use, in bfloat16 on a GPU and in float32 on a CPU.

`TextEmbeddings` computes the embedding of a sentence once. With all of them in its folder, the text encoder (T5-XXL:
9.5 GB) need not be there.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from video2act.config import PretrainedConfig
from video2act.files.frozen import load_frozen, read_config, source_fingerprint
from video2act.text.cache import TextEmbeddings
from video2act.text.t5 import T5Text
from video2act.types import Tokens

if TYPE_CHECKING:
    from transformers import SiglipVisionModel


def t5(config: PretrainedConfig) -> T5Text:
    """The T5 of a config. Its fingerprint has no dtype: embeddings of a GPU in bfloat16 serve a CPU, too."""
    source = config.source

    def described() -> tuple[Any, Any]:
        from transformers import T5EncoderModel

        found = read_config(T5EncoderModel, source)
        if found.d_model != config.width:
            raise ValueError(f"the text encoder {source} is {found.d_model} wide, the config says {config.width}")
        return T5EncoderModel, found

    def load(device: torch.device) -> Any:
        kind, found = described()
        given = {"dtype": _dtype(device), "not_needed": ("decoder.", "lm_head."), "config": found}
        return load_frozen(kind, source, **given).to(device)

    fingerprint = partial(source_fingerprint, source)
    return T5Text(load, fingerprint, tokenizer=source, max_tokens=config.max_tokens, check=described)


class FrozenTextEncoder:
    """Instructions -> `[b n width]`, padding masked; each distinct instruction is encoded once, alone, so without
    padding."""

    def __init__(self, config: PretrainedConfig):
        self.config = config
        self.encoder = t5(config) if config.source else None
        folder = Path(config.cache).expanduser() if config.cache else None
        self.embeddings = TextEmbeddings(
            folder, self.encoder, width=config.width, missing="text_encoder.source is empty"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenTextEncoder":
        # frozen, and gigabytes: copies of a policy share it
        return self

    def __call__(self, instruction: list[str], device: torch.device) -> Tokens:
        """Raises ValueError or FileNotFoundError for an instruction that is empty, too long, or neither cached nor
        computable."""
        if self.encoder is not None:
            self.encoder.device = device
        rows = [self.embeddings(sentence)["tokens"].to(device) for sentence in instruction]
        longest = max(len(row) for row in rows)
        data = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return Tokens(data.float(), torch.arange(longest, device=device) < lengths[:, None])

    def prepare(self, instructions: Iterable[str], device: torch.device) -> None:
        """Compute what is not cached yet, then let the encoder go: nothing else needs it."""
        if self.encoder is not None:
            self.encoder.device = device
        self.embeddings.prepare(instructions)


class FrozenImageEncoder:
    """Images `[b 3 s s]` in [-1, 1] of one size -> a token per patch, after SigLIP's last norm."""

    def __init__(self, config: PretrainedConfig):
        self.config = config
        self._model: SiglipVisionModel | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenImageEncoder":
        # frozen, and a gigabyte: copies of a policy share it
        return self

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b k 3 s s"]) -> Tokens:
        """Several images of each sample, one after another.

        Raises:
            ValueError: the images are not of the encoder's size, or it is not of the config's width.
        """
        b, _, _, size, _ = images.shape
        model = self._load(images.device)
        expected = model.config.image_size
        if size != expected:
            raise ValueError(
                f"the image encoder {self.config.source} reads images of {expected} px, got {size}; set image_px"
            )
        flat = images.flatten(0, 1).to(model.dtype)
        hidden = model(pixel_values=flat).last_hidden_state.float()
        return Tokens.all_visible(rearrange(hidden, "(b k) n d -> b (k n) d", b=b))

    def _load(self, device: torch.device) -> "SiglipVisionModel":
        if self._model is None:
            from transformers import SiglipVisionModel

            source, width = self.config.source, self.config.width
            described = read_config(SiglipVisionModel, source)
            if described.hidden_size != width:
                raise ValueError(f"the image encoder {source} is {described.hidden_size} wide, the config says {width}")
            # such repos hold both halves of the contrastive pair
            not_needed = ("text_model.", "logit_scale", "logit_bias")
            self._model = load_frozen(
                SiglipVisionModel, source, dtype=_dtype(device), not_needed=not_needed, config=described
            )
        return self._model.to(device)  # type: ignore[return-value]


def _dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "cpu" else torch.bfloat16
