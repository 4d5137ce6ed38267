"""Frozen encoders of others, from transformers: T5 for the instruction, SigLIP for the cameras, as RDT-1B uses them.

Neither is part of the policy's weights: a run folder names where they come from (`PretrainedConfig.source`, a folder
or a repo id). They are read when they are first needed, in bfloat16 on a GPU and in float32 on a CPU.

A sentence always gives the same embedding, so it is computed once. `TextEmbeddings` keeps it in memory and, if told,
in a folder; with every instruction in the folder, the text encoder (T5-XXL: 9.5 GB) need not be there at all. An
instruction that is in neither is an error; it is never replaced by zeros.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from video2act.config import PretrainedConfig
from video2act.files.frozen import load_frozen, load_tokenizer, read_config, tokenize, weights_fingerprint
from video2act.text.cache import TextEmbeddings
from video2act.types import Tokens

if TYPE_CHECKING:
    from transformers import SiglipVisionModel


class T5:
    """A `TextEncoder`, read from its source at the first sentence."""

    def __init__(self, config: PretrainedConfig):
        self.config = config
        self._fingerprint: str | None = None
        self.device = torch.device("cpu")
        self._parts: tuple[Any, Any] | None = None

    @torch.no_grad()
    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """`tokens` [n width].

        Raises:
            OSError: the encoder or its tokenizer is not there.
            ValueError: the instruction has more than `max_tokens` tokens; or the encoder is of another width, or
                damaged.
        """
        tokenizer, encoder = self._load()
        ids = tokenize(tokenizer, instruction)
        if ids.shape[1] > self.config.max_tokens:
            raise ValueError(
                f"the instruction has {ids.shape[1]} tokens, more than max_tokens={self.config.max_tokens}: "
                f"{instruction[:60]!r}...; shorten it"
            )
        return {"tokens": encoder(input_ids=ids.to(encoder.device)).last_hidden_state[0]}

    @property
    def fingerprint(self) -> str | None:
        """Of the weights, wherever they lie. The dtype is not in it: what a GPU computed in bfloat16 serves a CPU,
        too."""
        if self._fingerprint is None:
            self._fingerprint = weights_fingerprint(self.config.source)
        return self._fingerprint

    def let_go(self) -> None:
        """Free its memory; it is read again if it is needed again."""
        self._parts = None

    def _load(self) -> tuple[Any, Any]:
        if self._parts is None:
            from transformers import T5EncoderModel

            source, width = self.config.source, self.config.width
            # what is small is read first, and says at once what is wrong with the rest
            described = read_config(T5EncoderModel, source)
            if described.d_model != width:
                raise ValueError(f"the text encoder {source} is {described.d_model} wide, the config says {width}")
            tokenizer = load_tokenizer(source)
            encoder = load_frozen(
                T5EncoderModel, source, dtype=_dtype(self.device), not_needed=("decoder.", "lm_head."), config=described
            )
            self._parts = tokenizer, encoder.to(self.device)
        return self._parts


class FrozenTextEncoder:
    """Instructions -> `[b n width]`, padding masked; each distinct instruction is encoded once, alone, so without
    padding."""

    def __init__(self, config: PretrainedConfig):
        self.config = config
        self.encoder = T5(config) if config.source else None
        folder = Path(config.cache) if config.cache else None
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
