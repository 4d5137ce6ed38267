"""Instruction -> Tokens: a small T5 encoder that reads bytes, so that it needs no vocabulary file and no download.

Both systems use it; it is trained with them.
"""

import torch
from torch import nn

from video2act.text.instruction import MAX_BYTES, byte_tokens
from video2act.text.kept import KeepsInstructions
from video2act.types import Tokens

NUM_TOKENS = 384
"""of ByT5: bytes, padding, end, unknown, and 125 that nothing uses here"""


class ByteTextEncoder(KeepsInstructions[Tokens]):
    """T5 over UTF-8 bytes. Each distinct instruction of a batch is encoded once; while it acts, a sentence is encoded
    once and kept."""

    def __init__(self, width: int, num_layers: int = 2, *, num_heads: int = 4):
        from transformers import T5Config, T5EncoderModel

        super().__init__()
        self.max_bytes = MAX_BYTES
        self.encoder = T5EncoderModel(
            T5Config(
                vocab_size=NUM_TOKENS,
                d_model=width,
                d_kv=width // num_heads,
                d_ff=2 * width,
                num_layers=num_layers,
                num_heads=num_heads,
                dropout_rate=0.0,
            )
        )

    def forward(self, instruction: list[str]) -> Tokens:
        """Returns tokens `[b n width]`, one per byte and one for the end, padding masked.

        Raises:
            ValueError: an instruction is empty or too long (`check_instruction`).
        """
        if len(instruction) == 1 and not (self.training or torch.is_grad_enabled() or torch.jit.is_tracing()):
            return self.kept(instruction[0], lambda: self._encode(instruction))
        return self._encode(instruction)

    def _encode(self, instruction: list[str]) -> Tokens:
        distinct = list(dict.fromkeys(instruction))
        device = self.encoder.device
        numbers = [torch.tensor(byte_tokens(sentence), device=device) for sentence in distinct]
        ids = nn.utils.rnn.pad_sequence(numbers, batch_first=True)
        mask = ids != 0
        hidden = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        which = torch.tensor([distinct.index(sentence) for sentence in instruction], device=device)
        return Tokens(hidden[which], mask[which])


def longest_instruction(system: nn.Module) -> int | None:
    """Bytes of the longest instruction that every byte encoder in a module reads; None without one."""
    return min((part.max_bytes for part in system.modules() if isinstance(part, ByteTextEncoder)), default=None)
