"""Published encoders, from transformers, read strictly: a tensor that the files lack is an error, not a random number.

Likewise their tokenizers: one that has lost its vocabulary would call every word unknown, and every sentence would be
the same. Code that comes with a model is never run.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from video2act.config.nearby import nearby
from video2act.files.fetched import brief, fetched, named_repo, unreachable
from video2act.files.fingerprint import fingerprint
from video2act.files.tensor_files import check_counts, listing, open_tensors, read_json, shards

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""what transformers reads, the first that is there"""

VOCABULARIES = (
    ("tokenizer.json",),
    ("spiece.model",),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
)
"""a tokenizer's folder holds all files of one of these"""

WITHOUT_VOCABULARY = ("ByT5Tokenizer",)
"""tokenizers that read bytes"""

TOKENIZER_FILES = ("*.json", "*.model", "*.txt")
"""what is fetched of a repo for its tokenizer"""

AGAIN = "download it again, weights and config from one place"


def load_frozen(
    kind: Any,
    source: str | Path,
    *,
    dtype: torch.dtype,
    not_needed: tuple[str, ...] = (),
    config: Any = None,
) -> Any:
    """A transformers model on the CPU, frozen, in evaluation mode.

    Args:
        kind: its class.
        source: a folder, or the id of a repo; a `Path` is never fetched.
        not_needed: beginnings of names of tensors that the files may hold beyond the model's.
        config: the model's, if it was read before, as by `read_config`.
    Raises:
        OSError: nothing is there, or the network does not allow it.
        ValueError: a file is damaged or holds code, or a tensor is missing, of another shape or unexpected; they are
            named.
    """
    folder = _folder(source)
    files = shards(folder, *WEIGHTS) if folder else []
    config = config or read_config(kind, source)
    if folder:
        _check_size(kind, config, files=files, source=folder)
    # shapes that differ are reported below, with the rest
    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True, "trust_remote_code": False}
    try:
        model, report = kind.from_pretrained(
            folder or source, config=config, **options, local_files_only=folder is not None
        )
    except MemoryError:
        raise
    except Exception as error:
        if folder is None and isinstance(error, OSError):
            raise
        for file in files:  # transformers does not name the file
            open_tensors(file)
        problem = f"{folder or source} cannot be read as a {kind.__name__} ({brief(error)})"
        raise ValueError(f"{problem}; {AGAIN}") from error
    unexpected = [name for name in report["unexpected_keys"] if not name.startswith(not_needed)]
    problems = [
        *(f"missing {name}" for name in sorted(report["missing_keys"])),
        *(f"of another shape {name}" for name in report["mismatched_keys"]),
        *(f"unexpected {name}" for name in sorted(unexpected)),
    ]
    if problems:
        listed = "\n  ".join(problems[:10])
        raise ValueError(f"{source} does not hold a {kind.__name__}:\n  {listed}\n{AGAIN}, or name the encoder it is")
    return model.requires_grad_(False).eval()


def _check_size(kind: Any, config: Any, *, files: Sequence[Path], source: Path) -> None:
    """Refuse a config that asks for much more than the files hold, before it takes memory. Raises ValueError."""
    readers = [open_tensors(file) for file in files]
    shapes = [shape for reader in readers for shape in reader.shapes.values()]
    check_counts(read_json(source / "config.json"), len(shapes), source=source / "config.json")
    try:
        with torch.device("meta"):
            asked = sum(parameter.numel() for parameter in kind(config).parameters())
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return  # transformers raises the same error below, with the reason
    found = sum(math.prod(shape) for shape in shapes)
    if asked > 2 * found + 2**20:
        problem = f"asks for a {kind.__name__} of {asked:.3g} numbers, the files hold {found:.3g}"
        raise ValueError(f"{source / 'config.json'} {problem}; {AGAIN}")


def read_config(kind: Any, source: str | Path) -> Any:
    """The config of a transformers model: small, so it can be compared before any weight is read.

    Args:
        kind: the model's class.
        source: as for `load_frozen`.
    Raises:
        OSError: nothing is there, or the network does not allow it.
        ValueError: it is damaged, or of another kind of model.
    """
    folder = _folder(source)
    if folder is not None:
        read_json(folder / "config.json")  # transformers does not name the damaged file
    own = kind.config_class
    try:
        described, _ = own.get_config_dict(folder or source, local_files_only=folder is not None)
        found = str(described.get("model_type", own.model_type))
        # the configs of halves of a pair are named after the pair
        if own.model_type.startswith(found):
            return own.from_pretrained(folder or source, local_files_only=folder is not None)
    except OSError as error:
        if folder is not None:
            raise
        raise unreachable(source, "the Hugging Face repo", error=error) from error
    except Exception as error:
        raise ValueError(f"the config.json of {source} cannot be used ({brief(error)}); download it again") from error
    raise ValueError(f"{source} holds a model of the kind {found}, not a {kind.__name__}; name the encoder it is")


def source_fingerprint(source: str) -> str | None:
    """A short name for an encoder's weights; None while they are not on this machine.

    Args:
        source: a folder, or the id of a repo, which is looked for among those fetched before.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = _folder(source) or Path(snapshot_download(source, local_files_only=True))
        return fingerprint(shards(folder, *WEIGHTS))
    except (OSError, HFValidationError):  # loading the weights raises the error
        return None


def load_tokenizer(source: str | Path) -> Any:
    """A tokenizer that has its vocabulary.

    Args:
        source: its folder, or the id of a repo; a `Path` is never fetched.
    Raises:
        FileNotFoundError: the folder or its vocabulary is missing, or the repo cannot be fetched.
        ValueError: a file is damaged, or the tokenizer would need code that comes with it.
    """
    if isinstance(source, Path) and not source.is_dir():
        raise FileNotFoundError(f"{source} is missing: the text encoder needs its tokenizer; download it again")
    folder = _folder(source) or fetched(str(source), TOKENIZER_FILES, part="the tokenizer of ")
    described = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if described.get("tokenizer_class") not in WITHOUT_VOCABULARY:
        _check_vocabulary(folder)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        problem = f"{folder} does not hold a tokenizer that can be read ({brief(error)})"
        raise ValueError(f"{problem}; download it again") from error


def tokenize(tokenizer: Any, text: str) -> Tensor:
    """Ids [1 n], not cut. Raises ValueError: most of the text is unknown to the tokenizer."""
    ids = tokenizer(text, return_tensors="pt", truncation=False, verbose=False).input_ids
    unknown = tokenizer.unk_token_id
    if unknown is not None and bool((ids == unknown).any()):
        # by characters, not tokens: one unknown token may stand for a whole word
        known = tokenizer.decode([i for i in ids[0].tolist() if i != unknown], skip_special_tokens=True)
        if 2 * len("".join(known.split())) < len("".join(text.split())):
            raise ValueError(
                f"the tokenizer in {tokenizer.name_or_path} does not know most of {text[:60]!r}, only {known[:60]!r}; "
                "use the language and letters of the text encoder's training, or download a damaged vocabulary again"
            )
    return ids


def _folder(source: str | Path) -> Path | None:
    """None for the id of a repo. Raises FileNotFoundError for a path that is none, nor a folder."""
    folder = Path(source).expanduser()
    if isinstance(source, Path) or folder.is_dir():
        return folder
    if named_repo(source, has_owner=False) is None:
        remedy = "name the encoder's folder, or a Hugging Face repo id (owner/name)"
        raise FileNotFoundError(f"{source} is not a folder{nearby(source)}; {remedy}")
    return None


def _check_vocabulary(folder: Path) -> None:
    """Without one, transformers 5 builds a tokenizer without any word, and does not warn."""

    def is_there(name: str) -> bool:
        return (folder / name).is_file() and (folder / name).stat().st_size > 0

    if not any(all(map(is_there, names)) for names in VOCABULARIES):
        wanted = ", ".join(" and ".join(names) for names in VOCABULARIES)
        found = f"expected one of {wanted}; found {listing(folder)}"
        raise FileNotFoundError(f"{folder} lacks the tokenizer's vocabulary: {found}; download it again")
