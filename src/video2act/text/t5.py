"""T5 and UMT5 as frozen encoders of instructions: System 1's, and those of most published video models."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video2act.files.frozen import load_tokenizer
from video2act.files.frozen import tokenize as tokens_of


class T5Text:
    """A `TextEncoder`, loaded at the first sentence that it must read.

    Args:
        load: builds the encoder with its weights, for a device.
        fingerprint: of the weights; None while they are not on this machine.
        tokenizer: its folder, or the id of a repo.
        max_tokens: the longest sentence, its end mark included.
        sees_padding: the encoder reads the padding like words, and all tokens are kept.
        clean: what the model's authors do to a sentence first.
        check: raises for an encoder of the wrong kind; called first, as it reads the least.
    """

    def __init__(
        self,
        load: Callable[[torch.device], Any],
        fingerprint: Callable[[], str | None],
        *,
        tokenizer: Path | str,
        max_tokens: int,
        sees_padding: bool = False,
        clean: Callable[[str], str] = str,
        check: Callable[[], object] = lambda: None,
    ):
        self._load = load
        self._find_fingerprint = fingerprint
        self._source = tokenizer
        self.max_tokens = max_tokens
        self.sees_padding = sees_padding
        self._clean = clean
        self._check = check
        self._fingerprint: str | None = None
        self.device = torch.device("cpu")

    @cached_property
    def encoder(self) -> Any:
        return self._load(self.device)

    @cached_property
    def tokenizer(self) -> Any:
        self._check()
        return load_tokenizer(self._source)

    @property
    def fingerprint(self) -> str | None:
        self._fingerprint = self._fingerprint or self._find_fingerprint()
        return self._fingerprint

    def let_go(self) -> None:
        self.__dict__.pop("encoder", None)

    @torch.no_grad()
    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """`tokens` [n d]; where the encoder sees the padding n is `max_tokens`, and `mask` [n] says which are words.

        Raises:
            OSError: the encoder or its tokenizer is not there.
            ValueError: the instruction has more than `max_tokens` tokens; or the encoder is damaged.
        """
        ids = tokenize(self.tokenizer, self._clean(instruction), max_tokens=self.max_tokens, instruction=instruction)
        if not self.sees_padding:
            ids = ids.to(self.encoder.device)
            return {"tokens": self.encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]}
        padded = torch.full((1, self.max_tokens), self.tokenizer.pad_token_id)
        padded[:, : ids.shape[1]] = ids
        mask = torch.arange(self.max_tokens) < ids.shape[1]
        return {"tokens": self.encoder(padded).last_hidden_state[0], "mask": mask}


def tokenize(tokenizer: Any, text: str, *, max_tokens: int, instruction: str, num_fixed: int = 0) -> Tensor:
    """Ids [1 n].

    Args:
        num_fixed: tokens of the text around the instruction.
    Raises:
        ValueError: there are more than `max_tokens`; they are not cut. Or the tokenizer knows hardly any of them.
    """
    ids = tokens_of(tokenizer, text)
    if ids.shape[1] > max_tokens:
        raise ValueError(
            f"the instruction has {ids.shape[1] - num_fixed} tokens, the text encoder takes {max_tokens - num_fixed}: "
            f"{instruction[:60]!r}; shorten it"
        )
    return ids
