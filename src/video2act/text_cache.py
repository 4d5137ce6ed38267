"""Embeddings of frozen text encoders, System 1's and System 2's: computed once per instruction, kept in memory and on disk.

Such an encoder is larger than many video models, and a robot hears few sentences. Where all of them are in the cache, the encoder
need not be there. A sentence that is neither cached nor computable is an error: a zero in its place would be a sentence, too.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from video2act.atomic import publish


@runtime_checkable
class TextEncoder(Protocol):
    """One sentence -> its embedding, as named tensors without a batch axis."""

    fingerprint: str
    """of the encoder's weights, so that two encoders never share a folder"""

    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """Raises ValueError for an instruction longer than the encoder takes."""
        ...

    def let_go(self) -> None:
        """Free its memory; it is read again if it is needed again."""
        ...


class TextEmbeddings:
    """Instruction -> embedding.

    Args:
        folder: one safetensors file per instruction; None keeps them in memory alone.
        encoder: computes what the folder does not hold; None where the model comes without one.
        width: of a token, as the model that reads it expects.
        missing: where an encoder was looked for, for the error.
    """

    def __init__(self, folder: Path | None, encoder: TextEncoder | None, width: int, missing: str):
        self.folder = folder
        self.encoder = encoder
        self.width = width
        self.missing = missing
        self._known: dict[str, dict[str, Tensor]] = {}

    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """Named tensors on the CPU.

        Raises:
            FileNotFoundError: the instruction is not cached and there is no encoder.
            ValueError: the instruction is too long, or what is cached is damaged, of another width or of another encoder.
        """
        if instruction not in self._known:
            path = self.path(instruction)
            if path is None or not path.is_file():
                embedding = self._compute(instruction)
                if path is not None:
                    self._write(path, instruction, embedding)
                self._known[instruction] = embedding
            else:
                self._known[instruction] = self._read(path)
        return self._known[instruction]

    def prepare(self, instructions: Iterable[str]) -> None:
        """Compute what is not cached yet, then let the encoder go: nothing else needs it."""
        for instruction in dict.fromkeys(instructions):
            self(instruction)
        if self.encoder is not None:
            self.encoder.let_go()

    def path(self, instruction: str) -> Path | None:
        """The file of an instruction's embedding, if there is a folder."""
        return self.folder and self.folder / f"{hashlib.sha256(instruction.encode()).hexdigest()[:32]}.safetensors"

    def _compute(self, instruction: str) -> dict[str, Tensor]:
        if not instruction:
            raise ValueError("the instruction is empty; say what the robot shall do")
        if self.encoder is None:
            raise FileNotFoundError(
                f"the instruction {instruction!r} has no embedding in {self.folder}, and there is no text encoder to compute one "
                f"({self.missing}); name or add the text encoder, or copy the cache from where it was computed"
            )
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.encoder(instruction).items()}

    def _write(self, path: Path, instruction: str, embedding: dict[str, Tensor]) -> None:
        assert self.encoder is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        save_file(embedding, temporary, metadata={"instruction": instruction, "encoder": self.encoder.fingerprint})
        publish(temporary, path)

    def _read(self, path: Path) -> dict[str, Tensor]:
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                embedding = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable embedding ({error}); remove it, and it is computed again") from error
        found = facts.get("encoder", "unknown")
        if self.encoder is not None and found != self.encoder.fingerprint:
            raise ValueError(
                f"{path} was computed by another text encoder ({found}, this one is {self.encoder.fingerprint}); choose another "
                f"text_cache for this model, or remove {self.folder}"
            )
        if "tokens" not in embedding or embedding["tokens"].shape[-1] != self.width:
            shape = list(embedding["tokens"].shape) if "tokens" in embedding else None
            raise ValueError(f"{path} holds tokens of shape {shape}, its reader expects a width of {self.width}; remove it")
        return embedding


def default_folder(family: str) -> Path:
    """Where a family's embeddings lie if the config does not say."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "video2act" / "text" / family
