"""Encoders of others, from transformers, read strictly: a tensor that the files lack is an error, not a random number."""

from pathlib import Path
from typing import Any

import torch


def load_frozen(kind: Any, source: str | Path, dtype: torch.dtype, not_needed: tuple[str, ...] = ()) -> Any:
    """A transformers model on the CPU, frozen, in evaluation mode.

    Args:
        kind: its class.
        source: a folder, or the id of a repo; a `Path` is never looked for anywhere else.
        not_needed: beginnings of names of tensors that the files may hold beyond the model's.
    Raises:
        OSError: nothing is there, or the network does not allow it.
        ValueError: a tensor is missing, of another shape or unexpected; they are named.
    """
    # shapes that differ are reported below, with the rest
    options = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = kind.from_pretrained(source, **options, local_files_only=isinstance(source, Path))
    unexpected = [name for name in report["unexpected_keys"] if not name.startswith(not_needed)]
    problems = [
        *(f"missing {name}" for name in sorted(report["missing_keys"])),
        *(f"of another shape {name}" for name in report["mismatched_keys"]),
        *(f"unexpected {name}" for name in sorted(unexpected)),
    ]
    if problems:
        listed = "\n  ".join(problems[:10])
        raise ValueError(
            f"{source} does not hold a {kind.__name__}:\n  {listed}\n"
            "download it again, weights and config from one place, or name the encoder it is"
        )
    return model.requires_grad_(False).eval()
