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
from video2act.files.frozen import tokenize as tokens_of
from video2act.files.tensor_files import read_json, shards
from video2act.system2.backbones.checkpoint import Checkpoint

LLAMA_SKIPPED_LAYERS = 2
"""HunyuanVideo reads the language model before its last layers, which are about the next word"""


class T5Text:
    """T5 or UMT5.

    Args:
        load: builds the encoder with its weights.
        fingerprint: their `identity`.
        tokenizer: its folder.
        max_tokens: the longest sentence that the video model was trained on, its end mark included.
        sees_padding: the encoder reads the padding like words, and all tokens are kept.
        clean: what the model's authors do to a sentence first.
    """

    def __init__(
        self,
        load: Callable[[], nn.Module],
        fingerprint: str,
        *,
        tokenizer: Path,
        max_tokens: int,
        sees_padding: bool,
        clean: Callable[[str], str] = str,
    ):
        self._load = load
        self.fingerprint = fingerprint
        self._tokenizer_folder = tokenizer
        self.max_tokens = max_tokens
        self.sees_padding = sees_padding
        self._clean = clean

    @cached_property
    def encoder(self) -> nn.Module:
        return self._load()

    def let_go(self) -> None:
        self.__dict__.pop("encoder", None)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self._tokenizer_folder)

    @torch.no_grad()
    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """`tokens` [n d]; where the encoder sees the padding n is `max_tokens`, and `mask` [n] says which are words.

        Raises:
            ValueError: the instruction has more than `max_tokens` tokens.
        """
        ids = tokenize(self.tokenizer, self._clean(instruction), max_tokens=self.max_tokens, instruction=instruction)
        if not self.sees_padding:
            return {"tokens": self.encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]}
        padded = torch.full((1, self.max_tokens), self.tokenizer.pad_token_id)
        padded[:, : ids.shape[1]] = ids
        mask = torch.arange(self.max_tokens) < ids.shape[1]
        return {"tokens": self.encoder(padded).last_hidden_state[0], "mask": mask}


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

    @cached_property
    def _llama(self) -> tuple[Any, Any]:
        return load_tokenizer(self.root / "tokenizer"), load_encoder(
            LlamaModel, self.root / "text_encoder", dtype=self.dtype
        )

    @cached_property
    def _clip(self) -> tuple[Any, Any]:
        return load_tokenizer(self.root / "tokenizer_2"), load_encoder(
            CLIPTextModel, self.root / "text_encoder_2", dtype=self.dtype
        )

    @torch.no_grad()
    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """`tokens` [n d] of the sentence and `pooled` [p] of CLIP.

        Raises:
            ValueError: the instruction is longer than either encoder takes.
        """
        tokenizer, llama = self._llama
        before = tokenizer(self.template.partition("{}")[0], return_tensors="pt").input_ids.shape[1]
        ids = tokenize(
            tokenizer,
            self.template.format(instruction),
            max_tokens=before + self.max_tokens,
            instruction=instruction,
            num_fixed=before,
        )
        hidden = llama(ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
        tokenizer, clip = self._clip
        pooled = clip(
            tokenize(tokenizer, instruction, max_tokens=clip.config.max_position_embeddings, instruction=instruction)
        ).pooler_output[0]
        return {"tokens": hidden[-(LLAMA_SKIPPED_LAYERS + 1)][0, before:], "pooled": pooled}


def diffusers_t5(
    root: Path, dtype: torch.dtype, *, max_tokens: int, sees_padding: bool = False, clean: Callable[[str], str] = str
) -> T5Text:
    """The T5 or UMT5 of a diffusers folder."""
    folder = root / "text_encoder"
    kind = UMT5EncoderModel if read_json(folder / "config.json").get("model_type") == "umt5" else T5EncoderModel

    def load() -> nn.Module:
        return load_encoder(kind, folder, dtype=dtype)

    return T5Text(
        load,
        identity(weights_of(folder).fingerprint(), dtype),
        tokenizer=root / "tokenizer",
        max_tokens=max_tokens,
        sees_padding=sees_padding,
        clean=clean,
    )


def identity(weights: str, dtype: torch.dtype) -> str:
    """Which embeddings are the same: of the same weights, computed in the same dtype."""
    return f"{weights}-{str(dtype).removeprefix('torch.')}"


def tokenize(tokenizer: Any, text: str, *, max_tokens: int, instruction: str, num_fixed: int = 0) -> Tensor:
    """Ids [1 n].

    Raises:
        ValueError: there are more than `max_tokens`; they are not cut. Or the tokenizer knows hardly any of them.
    """
    ids = tokens_of(tokenizer, text)
    if ids.shape[1] > max_tokens:
        raise ValueError(
            f"the instruction has {ids.shape[1] - num_fixed} tokens, the video model's text encoder takes "
            f"{max_tokens - num_fixed}: {instruction[:60]!r}; shorten it"
        )
    return ids


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
