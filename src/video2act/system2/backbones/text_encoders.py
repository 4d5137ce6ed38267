"""The text encoders that published video models were trained with, each used as its model expects.

They differ in what becomes of the padding: Wan and Cosmos hide it from the encoder and show the video model zeros in
its place; CogVideoX and LTX let the encoder see it and keep what comes out. HunyuanVideo wraps the sentence in a fixed
request to a language model, of which only the sentence's own tokens are kept, and adds one vector from CLIP. An
encoder is loaded at the first sentence that it must read, onto the CPU.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, LlamaModel, T5EncoderModel, UMT5EncoderModel

from video2act.files.frozen import load_frozen, load_tokenizer
from video2act.files.tensor_files import read_json, shards
from video2act.system2.backbones.checkpoint import Checkpoint
from video2act.text.t5 import T5Text, tokenize

LLAMA_SKIPPED_LAYERS = 2
"""HunyuanVideo reads the language model before its last layers, which are about the next word"""


class HunyuanText:
    """A language model in a fixed request, and CLIP.

    Args:
        root: the model's folder, with `text_encoder`, `tokenizer` (LLaMA) and `text_encoder_2`, `tokenizer_2` (CLIP).
        template: the request, with `{}` for the sentence; the tokens before the sentence (95 of LLaMA's) are cut off.
        max_tokens: the longest sentence, the end of the request included.
    """

    def __init__(self, root: Path, dtype: torch.dtype, *, template: str, max_tokens: int):
        self.root = root
        self.dtype = dtype
        self.template = template
        self.max_tokens = max_tokens
        both = (weights_of(root / name).fingerprint() for name in ("text_encoder", "text_encoder_2"))
        self.fingerprint = identity("".join(both), dtype)

    def let_go(self) -> None:
        for name in ("_llama", "_clip"):
            self.__dict__.pop(name, None)

    def _pair(self, kind: Any, number: str) -> tuple[Any, Any]:
        encoder = load_encoder(kind, self.root / f"text_encoder{number}", dtype=self.dtype)
        return load_tokenizer(self.root / f"tokenizer{number}"), encoder

    @cached_property
    def _llama(self) -> tuple[Any, Any]:
        return self._pair(LlamaModel, "")

    @cached_property
    def _clip(self) -> tuple[Any, Any]:
        return self._pair(CLIPTextModel, "_2")

    @torch.no_grad()
    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """`tokens` [n d] of the sentence and `pooled` [p] of CLIP.

        Raises:
            ValueError: the instruction is longer than either encoder takes.
        """
        tokenizer, llama = self._llama
        before = tokenizer(self.template.partition("{}")[0], return_tensors="pt").input_ids.shape[1]
        limit, text = before + self.max_tokens, self.template.format(instruction)
        ids = tokenize(tokenizer, text, max_tokens=limit, instruction=instruction, num_fixed=before)
        hidden = llama(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
        tokenizer, clip = self._clip
        limit = clip.config.max_position_embeddings
        pooled = clip(tokenize(tokenizer, instruction, max_tokens=limit, instruction=instruction)).pooler_output[0]
        return {"tokens": hidden[-(LLAMA_SKIPPED_LAYERS + 1)][0, before:], "pooled": pooled}


def diffusers_t5(
    root: Path, dtype: torch.dtype, *, max_tokens: int, sees_padding: bool = False, clean: Callable[[str], str] = str
) -> T5Text:
    """The T5 or UMT5 of a diffusers folder, in `dtype` on the CPU."""
    folder = root / "text_encoder"
    kind = UMT5EncoderModel if read_json(folder / "config.json").get("model_type") == "umt5" else T5EncoderModel
    padded = f"-padded{max_tokens}" * sees_padding  # the padding is part of what was read
    fingerprint = identity(weights_of(folder).fingerprint() + padded, dtype)
    form = {"max_tokens": max_tokens, "sees_padding": sees_padding, "clean": clean}
    return T5Text(
        lambda _: load_encoder(kind, folder, dtype=dtype), lambda: fingerprint, tokenizer=root / "tokenizer", **form
    )


def identity(weights: str, dtype: torch.dtype) -> str:
    """Which embeddings are the same: of the same weights, computed in the same dtype, padded alike."""
    return f"{weights}-{str(dtype).removeprefix('torch.')}"


def weights_of(folder: Path) -> Checkpoint:
    """The weights of a text encoder in the layout of transformers; raises for files that are missing or incomplete."""
    return Checkpoint(shards(folder, "model.safetensors"))


def load_encoder(kind: Any, folder: Path, *, dtype: torch.dtype) -> nn.Module:
    """`load_frozen` of a folder whose files are all there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a tensor is missing, of another shape or left over.
    """
    weights_of(folder)  # transformers does not say which file is incomplete
    return load_frozen(kind, folder, dtype=dtype)


def text_width(folder: Path) -> int | None:
    """Width of a text encoder's tokens as its config says; None if there is no encoder."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    config = read_json(path)
    width = config.get("d_model", config.get("hidden_size"))
    if not isinstance(width, int):
        raise ValueError(f"{path} names neither d_model nor hidden_size; it is not the config of a text encoder")
    return width
