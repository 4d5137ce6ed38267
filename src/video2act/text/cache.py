"""Embeddings of frozen text encoders, computed once per instruction and kept in memory and on disk.

Such an encoder is larger than many video models, and a robot gets few sentences. If all of them are in the cache, the
encoder need not be installed. A sentence that is neither cached nor computable is an error: zeros in its place would
mean something, too.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from video2act.files.atomic import replacing
from video2act.text.instruction import check_instruction, is_written

MAX_BYTES = 2**30
"""of the embeddings in memory: a server may be told other sentences for months"""

_computing, _counting = threading.Lock(), threading.Lock()
"""for new sentences, and for what is known: the threads of a server share an encoder, and one that is told a new
sentence must not delay the others. Of the module, since a policy with locks of its own could not be copied"""


@runtime_checkable
class TextEncoder(Protocol):
    """One sentence -> its embedding, as named tensors without a batch axis."""

    @property
    def fingerprint(self) -> str | None:
        """Name of the weights, and of the dtype where a config chooses it, so that two encoders never share a folder;
        None while the weights are not on this machine."""
        ...

    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """Raises ValueError for an instruction longer than the encoder takes."""
        ...

    def let_go(self) -> None:
        """Free its memory; it is read again if it is needed again."""
        ...


class TextEmbeddings:
    """Instruction -> embedding.

    Args:
        folder: one safetensors file per instruction, of one encoder; None: memory only.
        encoder: computes missing embeddings; None if the model comes without one.
        width: of a token, as its reader expects.
        missing: why there is no encoder, for the error.
    """

    def __init__(self, folder: Path | None, encoder: TextEncoder | None, *, width: int, missing: str):
        self.folder = folder
        self.encoder = encoder
        self.width = width
        self.missing = missing
        self._known: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        """the newest, up to `MAX_BYTES`"""
        self._num_bytes = 0
        """of them"""
        self._source: str | None = None
        """fingerprint of the encoder of all embeddings, once it is known"""
        self._is_checked = False

    def __call__(self, instruction: str) -> dict[str, Tensor]:
        """Named tensors on the CPU.

        Raises:
            FileNotFoundError: the instruction is not cached and there is no encoder.
            ValueError: the instruction is empty or too long, or its file is damaged, of another width or encoder.
        """
        check_instruction(instruction, max_bytes=None)
        found = self._find(instruction)
        if found is not None:
            return found
        with _computing:
            found = self._find(instruction)  # another thread may have computed it meanwhile
            if found is None:
                path = self.path(instruction)
                is_kept = path is not None and path.is_file()
                found = self._read(path) if path and is_kept else self._compute(instruction, path)
                self._keep(instruction, found)
        return found

    def prepare(self, instructions: Iterable[str]) -> None:
        """Compute missing embeddings, then free the encoder."""
        for instruction in instructions:
            self(instruction)
        if self.encoder is not None:
            self.encoder.let_go()

    def path(self, instruction: str) -> Path | None:
        """The file of an instruction's embedding, if there is a folder."""
        return self.folder and self.folder / file_name(instruction)

    def _find(self, instruction: str) -> dict[str, Tensor] | None:
        with _counting:
            if instruction in self._known:
                self._known.move_to_end(instruction)
            return self._known.get(instruction)

    def _keep(self, instruction: str, embedding: dict[str, Tensor]) -> None:
        with _counting:
            self._known[instruction] = embedding
            self._num_bytes += _num_bytes(embedding)
            while len(self._known) > 1 and self._num_bytes > MAX_BYTES:
                self._num_bytes -= _num_bytes(self._known.popitem(last=False)[1])

    def _compute(self, instruction: str, path: Path | None) -> dict[str, Tensor]:
        """An embedding, which is written to `path` unless a stranger said the sentence (`in_memory_only`)."""
        if self.encoder is None:
            raise FileNotFoundError(
                f"the instruction {instruction!r} has no embedding in {self.folder}, and there is no text encoder to "
                f"compute one ({self.missing}); name or add the text encoder, or copy the cache from where it was "
                "computed"
            )
        embedding = {name: tensor.detach().cpu().contiguous() for name, tensor in self.encoder(instruction).items()}
        if path is not None and is_written():
            self._write(path, instruction, embedding=embedding, fingerprint=self.encoder.fingerprint)
        return embedding

    def _write(self, path: Path, instruction: str, *, embedding: dict[str, Tensor], fingerprint: str | None) -> None:
        if fingerprint is None:
            raise FileNotFoundError(
                "the text encoder was read, but its files are not at the expected place, so its embeddings cannot be "
                f"distinguished from another's in {path.parent}; download it into a folder and name that"
            )
        if not self._is_checked:  # unused files may be of another encoder, too
            for other in sorted(path.parent.glob("*.safetensors")):
                self._check_source(other, _open(other)[0])
            self._is_checked = True
        self._check_source(path, fingerprint)
        with replacing(path) as temporary:
            save_file(embedding, temporary, metadata={"instruction": instruction, "encoder": fingerprint})

    def _read(self, path: Path) -> dict[str, Tensor]:
        found, embedding = _open(path)
        self._check_source(path, found)
        if problem := _embedding_problem(embedding, self.width):
            raise ValueError(f"{path} {problem}; remove it, or copy it again from where it was computed")
        return embedding

    def _check_source(self, path: Path, found: str) -> None:
        """All embeddings of a folder must be of one encoder: of this one, if it is on this machine."""
        own = self.encoder and self.encoder.fingerprint
        if own is not None and found != own:
            raise ValueError(
                f"{path} was computed by another text encoder ({found}, this one is {own}); choose another text_cache "
                f"for this model, or remove {self.folder}"
            )
        if self._source not in (None, found):
            raise ValueError(
                f"{path} was computed by the text encoder {found}, but other instructions by {self._source}: "
                f"{self.folder} holds embeddings of two encoders; remove those of one"
            )
        self._source = found


class EmbeddingsOfAFamily(TextEmbeddings):
    """For a model without its text encoder: the embeddings of any encoder of its family that knows the sentences.

    Args:
        folder: of the family; it has a folder for each encoder.
        dtype: in which the encoder ran.
    """

    def __init__(self, folder: Path, dtype: str, *, width: int, missing: str):
        super().__init__(folder, None, width=width, missing=missing)
        self._family = folder
        self._dtype = dtype
        self._possible: list[Path] = []
        """folders with every instruction so far"""

    def path(self, instruction: str) -> Path:
        """Raises ValueError if encoders differ and none is named."""
        name = file_name(instruction)
        everywhere = [path.parent for path in sorted(self._family.glob(f"*-{self._dtype}/{name}"))]
        holding = [folder for folder in everywhere if not self._possible or folder in self._possible]
        if not holding and everywhere:
            raise ValueError(
                f"the instruction {instruction!r} has an embedding in {everywhere[0]}, but other instructions have "
                f"theirs in {self._possible[0]}, of another text encoder; add the text encoder, or name one folder as "
                "text_cache"
            )
        for folder in holding[1:]:
            if not _equal(_open(folder / name)[1], _open(holding[0] / name)[1]):
                raise ValueError(
                    f"the instruction {instruction!r} has different embeddings in {holding[0]} and {folder}, of two "
                    "text encoders; add the text encoder, or name one folder as text_cache"
                )
        self._possible = holding or self._possible
        return (holding[0] if holding else self._family) / name

    def _check_source(self, path: Path, found: str) -> None:
        """The possible folders agree in every instruction so far, whoever computed it."""


def file_name(instruction: str) -> str:
    """The file of an instruction's embedding."""
    return f"{hashlib.sha256(instruction.encode()).hexdigest()[:32]}.safetensors"


def _embedding_problem(embedding: dict[str, Tensor], width: int) -> str:
    """Why it cannot be what an encoder said of one sentence: tokens [n width], and maybe a mask [n]."""
    shapes = {name: tuple(tensor.shape) for name, tensor in embedding.items()}
    tokens = shapes.get("tokens", ())
    if len(tokens) != 2 or tokens[0] == 0 or tokens[1] != width:
        found = list(tokens) if "tokens" in shapes else None
        return f"holds tokens of shape {found}, its reader expects a width of {width}"
    if "mask" in shapes and (shapes["mask"] != tokens[:1] or embedding["mask"].dtype != torch.bool):
        mask = embedding["mask"]
        return f"holds a mask of shape {list(mask.shape)} ({mask.dtype}) for {tokens[0]} tokens, expected one of bools"
    for name, tensor in embedding.items():
        if name != "mask" and not (tensor.is_floating_point() and tensor.isfinite().all()):
            return f"holds numbers of {name!r} that are not finite, or of {tensor.dtype}"
    return ""


def _num_bytes(embedding: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in embedding.values())


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _open(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The fingerprint of the encoder, and the embedding. Raises ValueError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            return facts.get("encoder", "unknown"), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable embedding ({error}); remove it, and it is computed again"
        ) from error


def default_folder(family: str) -> Path:
    """Where a family's embeddings lie if the config does not say: in it, a folder for each encoder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "video2act" / "text" / family
