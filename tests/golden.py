"""Fixtures recorded from the released code: a json that describes, and a safetensors file that holds."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

DEFAULT = Path(__file__).parent / "fixtures" / "golden"
FOLDER = Path(os.environ.get("VIDEO2ACT_GOLDEN_DIR", DEFAULT))


@dataclass(frozen=True)
class Golden:
    """One fixture."""

    path: Path
    description: dict[str, Any]

    @property
    def kind(self) -> str:
        """The first word of its `fixture` field; empty for a json that describes no tensors."""
        return str(self.description.get("fixture", "")).split(" ")[0]

    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path.with_name(self.description.get("file", self.path.stem + ".safetensors")))

    @property
    def has_tensors(self) -> bool:
        return self.path.with_name(self.description.get("file", self.path.stem + ".safetensors")).is_file()

    def gradients(self) -> dict[str, Any] | None:
        """The companion `NAME_grads.json`, if there is one."""
        path = self.path.with_name(self.path.stem + "_grads.json")
        return json.loads(path.read_text()) if path.is_file() else None

    def number(self, word: str, default: int) -> int:
        """A number that stands in the description as a field of that name, or in its prose behind that word."""
        text = json.dumps(self.description)
        found = re.search(rf'{word}"?[ :=]+(\d+)', text)
        return int(found[1]) if found else default


def all_golden() -> list[Golden]:
    """Every json of the folder.

    Raises FileNotFoundError if there is none: a parity test that finds nothing proves nothing.
    """
    paths = sorted(FOLDER.glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"{FOLDER} holds no json; VIDEO2ACT_GOLDEN_DIR names the folder of fixtures")
    return [Golden(path, json.loads(path.read_text())) for path in paths]


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass
class Report:
    """Prints one line per check; fails at the end, with all that failed."""

    source: str
    failures: list[str] = field(default_factory=list)
    num_checks: int = 0

    def close(self, name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        """Largest absolute difference, against `tolerance`."""
        if ours.shape != theirs.shape:
            self._line(name, f"shape {list(ours.shape)}, expected {list(theirs.shape)}", False)
            return
        difference = float((ours.detach().double() - theirs.double()).abs().max()) if theirs.numel() else 0.0
        self._line(name, f"{difference:.1e} (at most {tolerance:.0e})", difference <= tolerance)

    def ratio(self, name: str, ours: float, theirs: float, tolerance: float) -> None:
        """Relative difference of two numbers, against `tolerance`."""
        difference = abs(ours - theirs) / max(abs(theirs), 1e-6)
        self._line(name, f"{difference:.1e} relative (at most {tolerance:.0e})", difference <= tolerance)

    def equal(self, name: str, ours: object, theirs: object) -> None:
        self._line(name, "equal" if ours == theirs else f"{ours!r}, expected {theirs!r}", ours == theirs)

    def finish(self) -> None:
        assert self.num_checks, f"{self.source}: nothing was compared"
        assert not self.failures, "\n".join(self.failures)

    def _line(self, name: str, text: str, passed: bool) -> None:
        self.num_checks += 1
        line = f"{self.source}: {name}: {text}"
        print(line if passed else f"{line} FAILED")
        if not passed:
            self.failures.append(line)


def additive_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """What the released code does with a mask of text: it adds it, so that padding keeps part of its weight.

    Put in the place of `layers.attention` from outside, so that everything around that defect can be compared.
    """
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + mask[:, None, None].to(scores)
    return torch.softmax(scores, dim=-1) @ value
